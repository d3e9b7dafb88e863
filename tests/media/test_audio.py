"""Sound beside clips: the right samples, exactly as many, at the right time, the same bytes."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mimix_core.media import SoundCut, UnreadableVideo, ffmpeg_exe, read_audio, sound_cuts
from tests.media_factory import Shot, write_video

RATE = 48_000
CLIP = Fraction(81, 16)


def clicks(seconds: int, channels: int = 1) -> np.ndarray:
    """A click of its own height at the start of each second: int16 [channels, samples]."""
    samples = np.zeros((channels, RATE * seconds), np.int16)
    for second in range(seconds):
        samples[:, RATE * second : RATE * second + 24] = 4000 + 1000 * second
    return samples


def write(
    path: Path,
    samples: np.ndarray,
    codec: str = "pcm_s16le",
    layout: str = "mono",
    start: float = 0,
    hole: tuple[float, float] | None = None,
) -> Path:
    """Sound that starts at ``start``; what lies in ``hole`` (seconds) is left out of the file."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.codec_context.layout = layout
        size = 1024
        for begin in range(0, samples.shape[1] - size + 1, size):
            if hole and hole[0] <= begin / RATE < hole[1]:
                continue
            part = np.ascontiguousarray(samples[:, begin : begin + size].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = begin + round(start * RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read(path: Path) -> np.ndarray:
    """int16 [channels, samples]"""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate) == ("flac", RATE)
        parts = [frame.to_ndarray() for frame in container.decode(stream)]
        channels = stream.codec_context.layout.nb_channels
    return np.concatenate([part.reshape(-1, channels) for part in parts]).T


def cut(source: Path, *spans: tuple[Fraction, Fraction]) -> list[np.ndarray]:
    cuts = [
        SoundCut(start, end, source.with_name(f"{source.stem}-{number}.flac"))
        for number, (start, end) in enumerate(spans)
    ]
    done = dict(sound_cuts(source, cuts))
    assert done == {number: one.path for number, one in enumerate(cuts)}
    return [read(one.path) for one in cuts]


@pytest.mark.parametrize("start", [0, 1.5])
def test_overlapping_cuts_hold_exactly_their_samples(tmp_path: Path, start: float) -> None:
    samples = clicks(20)
    source = write(tmp_path / "s.mkv", samples, start=start)
    spans = [(Fraction(k, 3), Fraction(k, 3) + CLIP) for k in (-2, 0, 1, 4, 30, 31, 50, 90)]
    written = samples[:, : samples.shape[1] // 1024 * 1024]
    clock = np.zeros((1, RATE * 60), np.int16)
    # Second 10 of the array is second 0 of the clock: cuts may start earlier than the sound.
    begin = round((10 + start) * RATE)
    clock[:, begin : begin + written.shape[1]] = written
    for (first, last), found in zip(spans, cut(source, *spans), strict=True):
        assert found.shape == (1, round((last - first) * RATE))
        at = round((first + 10) * RATE)
        assert np.array_equal(found, clock[:, at : at + found.shape[1]])


def test_a_hole_in_the_sound_is_silence_and_moves_nothing(tmp_path: Path) -> None:
    source = write(tmp_path / "s.mkv", clicks(8), hole=(2.5, 4.5))
    (found,) = cut(source, (Fraction(0), Fraction(8)))
    # Matroska's times are whole milliseconds: what follows the hole may be that early or late.
    heard = {int(n + RATE // 500) // RATE for n in np.flatnonzero(found[0])}
    assert heard == {0, 1, 2, 5, 6, 7}
    for second in (5, 6, 7):
        first = np.flatnonzero(found[0, round((second - 0.5) * RATE) :])[0]
        assert abs(first - RATE // 2) <= RATE // 500


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".mp4"), ("aac", ".ts"), ("ac3", ".mkv")])
def test_compressed_sound_stays_in_time(tmp_path: Path, codec: str, suffix: str) -> None:
    source = write(tmp_path / f"s{suffix}", clicks(6), codec)
    with av.open(str(source)) as container:
        stream = container.streams.audio[0]
        # The sound's own clock: where the file says that the first sample that is heard stands.
        origin = Fraction(stream.start_time) * Fraction(stream.time_base)
    (found,) = cut(source, (origin, origin + 5))
    found = np.abs(found[0].astype(int))
    # A transport stream cannot say which samples only start the decoder.
    delay = 1024 if suffix == ".ts" else 0
    for second in (1, 2, 3):
        window = found[RATE * second - 4800 : RATE * second + 4800]
        assert abs(int(np.argmax(window)) - 4800 - delay) <= 64


def test_more_channels_are_mixed_down_to_two(tmp_path: Path) -> None:
    samples = np.zeros((6, RATE * 2), np.int16)
    samples[0] = 8000
    source = write(tmp_path / "s.mkv", samples, "flac", "5.1")
    (found,) = cut(source, (Fraction(0), Fraction(1)))
    assert found.shape == (2, RATE)
    assert found[0].mean() > 2000 and np.abs(found[1]).max() == 0


def switched(path: Path, rate: int = RATE) -> Path:
    """A broadcast that goes from surround to stereo after 5 s, and to ``rate``."""
    loud = np.full((6, RATE * 5), 8000, np.int16)
    parts = [
        write(path.with_name("one.ts"), loud, "ac3", "5.1"),
        path.with_name("other.ts"),
    ]
    command = [ffmpeg_exe(), "-v", "error", "-y", "-i", str(parts[0]), "-ac", "2", "-ar", str(rate)]
    command += ["-c:a", "ac3", "-muxdelay", "0", "-output_ts_offset", "5", str(parts[1])]
    subprocess.run(command, check=True)
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_channels_may_change_on_the_way(tmp_path: Path) -> None:
    source = switched(tmp_path / "s.ts")
    (found,) = cut(source, (Fraction(4), Fraction(4) + CLIP))
    assert found.shape == (2, round(CLIP * RATE))
    assert np.abs(found[:, ::RATE]).min() > 0
    heard = read_audio(source, rate=16_000, start=Fraction(0))
    assert heard is not None and len(heard) / 16_000 > 9.5


def test_another_rate_on_the_way_says_so(tmp_path: Path) -> None:
    source = switched(tmp_path / "s.ts", rate=44_100)
    with pytest.raises(UnreadableVideo, match="from 48000 to 44100 samples a second"):
        cut(source, (Fraction(4), Fraction(4) + CLIP))
    with pytest.raises(UnreadableVideo, match="from 48000 to 44100 samples a second"):
        read_audio(source, rate=16_000, start=Fraction(0))


@pytest.mark.parametrize("start", [Fraction(0), Fraction(5, 2), Fraction(-2)])
def test_for_recognition_a_hole_in_the_sound_is_silence_too(
    tmp_path: Path, start: Fraction
) -> None:
    source = write(tmp_path / "s.mkv", clicks(12), start=0.75, hole=(4.2, 6.6))
    heard = read_audio(source, rate=16_000, start=start)
    assert heard is not None
    for second in (7, 8, 11):
        at = round((second + Fraction(3, 4) - start) * 16_000)
        assert np.abs(heard[at - 2 : at + 12]).max() > 0.1
        assert np.abs(heard[at - 4000 : at - 200]).max() < 0.01
    silence = slice(round((Fraction(5) - start) * 16_000), round((Fraction(7) - start) * 16_000))
    assert np.abs(heard[silence]).max() < 0.01


def test_the_same_cut_has_the_same_bytes_and_no_name_of_its_writer(tmp_path: Path) -> None:
    source = write(tmp_path / "s.mkv", clicks(4), "aac")
    files = []
    for number in range(2):
        path = tmp_path / f"{number}.flac"
        assert list(sound_cuts(source, [SoundCut(Fraction(1), Fraction(3), path)])) == [(0, path)]
        files.append(path.read_bytes())
    assert files[0] == files[1]
    assert b"Lavf" not in files[0] and b"Lavc" not in files[0]


def test_without_sound_nothing_comes(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mp4", [Shot(8)]).path
    target = tmp_path / "a.flac"
    assert list(sound_cuts(source, [SoundCut(Fraction(0), Fraction(1), target)])) == []
    assert not target.exists()


def test_what_is_not_done_is_removed(tmp_path: Path) -> None:
    source = write(tmp_path / "s.mkv", clicks(6))
    cuts = [SoundCut(Fraction(k), Fraction(k + 2), tmp_path / f"{k}.flac") for k in range(3)]
    running = sound_cuts(source, cuts)
    next(running)
    running.close()
    assert [one.path.exists() for one in cuts] == [True, False, False]


def test_cuts_out_of_order_are_refused(tmp_path: Path) -> None:
    cuts = [SoundCut(Fraction(k), Fraction(k + 1), tmp_path / f"{k}.flac") for k in (1, 0)]
    with pytest.raises(ValueError, match="sorted"):
        next(sound_cuts(tmp_path / "none.mkv", cuts))


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "s.mkv"
    source.write_bytes(b"once upon a time")
    cuts = [SoundCut(Fraction(0), Fraction(1), tmp_path / "a.flac")]
    with pytest.raises(UnreadableVideo):
        next(sound_cuts(source, cuts))
