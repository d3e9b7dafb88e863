"""Audio segments: the right samples, the exact count, at the right time, with the same bytes."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mimix_core.media import (
    AudioSegment,
    LostAudio,
    UnreadableVideo,
    extract_audio_segments,
    find_ffmpeg,
    read_audio,
    read_recording,
)
from tests.container_editing import mdat_range, random_bytes
from tests.media_factory import Shot, write_video

RATE = 48_000
CLIP = Fraction(81, 16)


def click_track(seconds: int, channels: int = 1) -> np.ndarray:
    """A click of a different height at the start of each second: int16 [channels, samples]."""
    samples = np.zeros((channels, RATE * seconds), np.int16)
    for second in range(seconds):
        samples[:, RATE * second : RATE * second + 24] = 4000 + 1000 * second
    return samples


def write_audio(
    path: Path,
    samples: np.ndarray,
    codec: str = "pcm_s16le",
    layout: str = "mono",
    start: float = 0,
    gap: tuple[float, float] | None = None,
) -> Path:
    """Write audio that starts at ``start``, without the packets in ``gap`` (seconds)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.codec_context.layout = layout
        size = 1024
        for begin in range(0, samples.shape[1] - size + 1, size):
            if gap and gap[0] <= begin / RATE < gap[1]:
                continue
            part = np.ascontiguousarray(samples[:, begin : begin + size].T).reshape(1, -1)
            frame = av.AudioFrame.from_ndarray(part, format="s16", layout=layout)
            frame.sample_rate, frame.time_base = RATE, Fraction(1, RATE)
            frame.pts = begin + round(start * RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def read_flac(path: Path) -> np.ndarray:
    """int16 [channels, samples]"""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        assert (stream.codec_context.name, stream.rate) == ("flac", RATE)
        parts = [frame.to_ndarray() for frame in container.decode(stream)]
        channels = stream.codec_context.layout.nb_channels
    return np.concatenate([part.reshape(-1, channels) for part in parts]).T


def extract(source: Path, *spans: tuple[Fraction, Fraction]) -> list[np.ndarray]:
    segments = [
        AudioSegment(start, end, source.with_name(f"{source.stem}-{number}.flac"))
        for number, (start, end) in enumerate(spans)
    ]
    done = dict(extract_audio_segments(source, segments))
    assert done == {index: segment.path for index, segment in enumerate(segments)}
    return [read_flac(segment.path) for segment in segments]


@pytest.mark.parametrize("start", [0, 1.5])
def test_overlapping_segments_contain_exactly_their_samples(tmp_path: Path, start: float) -> None:
    samples = click_track(20)
    source = write_audio(tmp_path / "s.mkv", samples, start=start)
    spans = [(Fraction(k, 3), Fraction(k, 3) + CLIP) for k in (-2, 0, 1, 4, 30, 31, 50, 90)]
    written = samples[:, : samples.shape[1] // 1024 * 1024]
    clock = np.zeros((1, RATE * 60), np.int16)
    # Second 10 of the array is second 0 of the clock: segments may start before the audio.
    begin = round((10 + start) * RATE)
    clock[:, begin : begin + written.shape[1]] = written
    for (first, last), found in zip(spans, extract(source, *spans), strict=True):
        assert found.shape == (1, round((last - first) * RATE))
        at = round((first + 10) * RATE)
        assert np.array_equal(found, clock[:, at : at + found.shape[1]])


def test_a_gap_in_the_audio_becomes_silence_and_shifts_nothing(tmp_path: Path) -> None:
    source = write_audio(tmp_path / "s.mkv", click_track(8), gap=(2.5, 4.5))
    (found,) = extract(source, (Fraction(0), Fraction(8)))
    # Matroska's timestamps are whole milliseconds: audio after the gap may be off by that much.
    seconds = {int(n + RATE // 500) // RATE for n in np.flatnonzero(found[0])}
    assert seconds == {0, 1, 2, 5, 6, 7}
    for second in (5, 6, 7):
        first = np.flatnonzero(found[0, round((second - 0.5) * RATE) :])[0]
        assert abs(first - RATE // 2) <= RATE // 500


@pytest.mark.parametrize(("codec", "suffix"), [("aac", ".mp4"), ("aac", ".ts"), ("ac3", ".mkv")])
def test_compressed_audio_stays_in_sync(tmp_path: Path, codec: str, suffix: str) -> None:
    source = write_audio(tmp_path / f"s{suffix}", click_track(6), codec)
    with av.open(str(source)) as container:
        stream = container.streams.audio[0]
        # The audio stream's clock: the time that the file states for the first audible sample.
        origin = Fraction(stream.start_time) * Fraction(stream.time_base)
    (found,) = extract(source, (origin, origin + 5))
    found = np.abs(found[0].astype(int))
    # A transport stream cannot mark the encoder delay.
    delay = 1024 if suffix == ".ts" else 0
    for second in (1, 2, 3):
        window = found[RATE * second - 4800 : RATE * second + 4800]
        assert abs(int(np.argmax(window)) - 4800 - delay) <= 64


def test_more_channels_are_mixed_down_to_two(tmp_path: Path) -> None:
    samples = np.zeros((6, RATE * 2), np.int16)
    samples[0] = 8000
    source = write_audio(tmp_path / "s.mkv", samples, "flac", "5.1")
    (found,) = extract(source, (Fraction(0), Fraction(1)))
    assert found.shape == (2, RATE)
    assert found[0].mean() > 2000 and np.abs(found[1]).max() == 0


def write_switching_broadcast(path: Path, rate: int = RATE) -> Path:
    """A broadcast that switches from surround to stereo after 5 s, and to ``rate``."""
    loud = np.full((6, RATE * 5), 8000, np.int16)
    parts = [
        write_audio(path.with_name("one.ts"), loud, "ac3", "5.1"),
        path.with_name("other.ts"),
    ]
    command = [
        find_ffmpeg(),
        "-v",
        "error",
        "-y",
        "-i",
        str(parts[0]),
        "-ac",
        "2",
        "-ar",
        str(rate),
    ]
    command += ["-c:a", "ac3", "-muxdelay", "0", "-output_ts_offset", "5", str(parts[1])]
    subprocess.run(command, check=True)
    path.write_bytes(b"".join(part.read_bytes() for part in parts))
    return path


def test_the_channel_layout_may_change_midway(tmp_path: Path) -> None:
    source = write_switching_broadcast(tmp_path / "s.ts")
    (found,) = extract(source, (Fraction(4), Fraction(4) + CLIP))
    assert found.shape == (2, round(CLIP * RATE))
    assert np.abs(found[:, ::RATE]).min() > 0
    samples = read_audio(source, rate=16_000, start=Fraction(0))
    assert samples is not None and len(samples) / 16_000 > 9.5


def test_a_change_of_the_sample_rate_is_an_error(tmp_path: Path) -> None:
    source = write_switching_broadcast(tmp_path / "s.ts", rate=44_100)
    with pytest.raises(UnreadableVideo, match="from 48000 to 44100 Hz"):
        extract(source, (Fraction(4), Fraction(4) + CLIP))
    with pytest.raises(UnreadableVideo, match="from 48000 to 44100 Hz"):
        read_audio(source, rate=16_000, start=Fraction(0))


@pytest.mark.parametrize("start", [Fraction(0), Fraction(5, 2), Fraction(-2)])
def test_speech_recognition_input_has_silence_in_gaps_too(tmp_path: Path, start: Fraction) -> None:
    source = write_audio(tmp_path / "s.mkv", click_track(12), start=0.75, gap=(4.2, 6.6))
    samples = read_audio(source, rate=16_000, start=start)
    assert samples is not None
    for second in (7, 8, 11):
        at = round((second + Fraction(3, 4) - start) * 16_000)
        assert np.abs(samples[at - 2 : at + 12]).max() > 0.1
        assert np.abs(samples[at - 4000 : at - 200]).max() < 0.01
    silence = slice(round((Fraction(5) - start) * 16_000), round((Fraction(7) - start) * 16_000))
    assert np.abs(samples[silence]).max() < 0.01


def test_the_same_segment_has_the_same_bytes_and_no_encoder_name(tmp_path: Path) -> None:
    source = write_audio(tmp_path / "s.mkv", click_track(4), "aac")
    files = []
    for number in range(2):
        path = tmp_path / f"{number}.flac"
        assert list(
            extract_audio_segments(source, [AudioSegment(Fraction(1), Fraction(3), path)])
        ) == [(0, path)]
        files.append(path.read_bytes())
    assert files[0] == files[1]
    assert b"Lavf" not in files[0] and b"Lavc" not in files[0]


def test_a_source_without_audio_yields_nothing(tmp_path: Path) -> None:
    source = write_video(tmp_path / "v.mp4", [Shot(8)]).path
    target = tmp_path / "a.flac"
    assert (
        list(extract_audio_segments(source, [AudioSegment(Fraction(0), Fraction(1), target)])) == []
    )
    assert not target.exists()


def test_unfinished_files_are_removed(tmp_path: Path) -> None:
    source = write_audio(tmp_path / "s.mkv", click_track(6))
    segments = [
        AudioSegment(Fraction(k), Fraction(k + 2), tmp_path / f"{k}.flac") for k in range(3)
    ]
    running = extract_audio_segments(source, segments)
    next(running)
    running.close()
    assert [segment.path.exists() for segment in segments] == [True, False, False]


def test_segments_out_of_order_are_rejected(tmp_path: Path) -> None:
    segments = [AudioSegment(Fraction(k), Fraction(k + 1), tmp_path / f"{k}.flac") for k in (1, 0)]
    with pytest.raises(ValueError, match="sorted"):
        next(extract_audio_segments(tmp_path / "none.mkv", segments))


def test_a_source_that_is_not_media_is_rejected(tmp_path: Path) -> None:
    source = tmp_path / "s.mkv"
    source.write_bytes(b"once upon a time")
    segments = [AudioSegment(Fraction(0), Fraction(1), tmp_path / "a.flac")]
    with pytest.raises(UnreadableVideo):
        next(extract_audio_segments(source, segments))


def corrupt_audio_packet(source: Path, number: int) -> Path:
    """Write a copy in which one packet cannot be decoded."""
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(audio=0) if packet.size]
        place, size = packets[number].pos, packets[number].size
    data = source.read_bytes()
    for seed in range(50):
        broken = bytearray(data)
        broken[place : place + size] = random_bytes(size, seed)
        copy = source.with_name(f"broken-{source.name}")
        copy.write_bytes(broken)
        with av.open(str(copy)) as container:
            failed = []
            for k, packet in enumerate(container.demux(audio=0)):
                try:
                    packet.decode()
                except av.FFmpegError:
                    failed.append(k)
        if failed == [number]:
            return copy
    raise AssertionError("no bytes make the packet undecodable")


@pytest.mark.parametrize(
    ("codec", "name", "length"),
    [("aac", "s.mp4", 1024)],
)
def test_a_bad_packet_is_silence_of_its_length(
    tmp_path: Path, codec: str, name: str, length: int
) -> None:
    wave = 8000 * np.sin(np.arange(RATE * 8) * 0.05)
    source = write_audio(tmp_path / name, wave.astype(np.int16)[None], codec)
    broken = corrupt_audio_packet(source, 100)
    span = (Fraction(0), Fraction(6))
    (whole,) = extract(source, span)
    lost = LostAudio()
    segments = [
        AudioSegment(*span, tmp_path / "all.flac"),
        AudioSegment(Fraction(5), Fraction(6), tmp_path / "later.flac"),
    ]
    files = dict(extract_audio_segments(broken, segments, lost=lost))
    found = read_flac(files[0])
    assert lost.segments == {0: Fraction(length, RATE)}
    assert lost.total == Fraction(length, RATE)
    # Everything else is there at its time; the frame after it overlaps with the lost one. AAC
    # replaces noise by random numbers, which continue from where they are.
    changed = np.flatnonzero((np.abs(found.astype(int) - whole) > 40).any(axis=0))
    start = np.flatnonzero(~found.any(axis=0) & whole.any(axis=0))[0]
    assert length - 64 <= np.count_nonzero(~found[:, start : start + length].any(axis=0)) <= length
    assert start - 64 <= changed[0] and changed[-1] < start + 3 * length
    assert found.shape == whole.shape
    assert np.abs(read_flac(files[1]).astype(int) - whole[:, 5 * RATE :]).max() <= 40
    spoken, before = (read_audio(path, rate=16_000, start=Fraction(0)) for path in (broken, source))
    assert spoken is not None and before is not None and len(spoken) == len(before)
    later = round((start + 3 * length) / RATE * 16_000) + 200
    assert np.abs(spoken[later:] - before[later:]).max() <= 40 / 32768


def test_audio_of_which_nothing_can_be_decoded_is_an_error(tmp_path: Path) -> None:
    source = write_audio(tmp_path / "s.mp4", click_track(2), "aac")
    data = source.read_bytes()
    start, end = mdat_range(data)
    source.write_bytes(data[:start] + b"\xff" * (end - start) + data[end:])
    with pytest.raises(UnreadableVideo, match="audio decoding failed"):
        extract(source, (Fraction(0), Fraction(1)))


def write_languages(path: Path, *languages: str, disposition: Sequence[str] = ()) -> Path:
    """Write one track per language, each with a constant level of 1000, 2000, ..."""
    tracks = [
        write_audio(path.with_name(f"{k}.mkv"), np.full((1, RATE * 2), 1000 * (k + 1), np.int16))
        for k in range(len(languages))
    ]
    command = [find_ffmpeg(), "-v", "error"]
    for track in tracks:
        command += ["-i", str(track)]
    for k, language in enumerate(languages):
        command += ["-map", f"{k}:a", f"-metadata:s:a:{k}", f"language={language}"]
        command += [f"-disposition:a:{k}", [*disposition, *["0"] * len(languages)][k]]
    subprocess.run([*command, "-c", "copy", str(path)], check=True)
    return path


@pytest.mark.parametrize(
    ("languages", "dispositions", "wanted", "level"),
    [
        (("ger", "eng"), ("default",), "en", 2000),
        (("ger", "eng"), ("default",), "de-AT", 1000),
        (("ger", "eng"), ("default",), "fr", 1000),
        (("ger", "eng"), ("0", "default"), "", 2000),
        (("eng", "eng"), ("default+comment", "0"), "eng", 2000),
        (("ger", "eng", "eng"), ("default", "visual_impaired"), "en", 3000),
    ],
)
def test_the_track_in_the_wanted_language_is_used(
    tmp_path: Path,
    languages: tuple[str, ...],
    dispositions: tuple[str, ...],
    wanted: str,
    level: int,
) -> None:
    source = write_languages(tmp_path / "v.mkv", *languages, disposition=dispositions)
    segment = AudioSegment(Fraction(0), Fraction(1), tmp_path / "a.flac")
    assert list(extract_audio_segments(source, [segment], language=wanted)) == [(0, segment.path)]
    assert set(read_flac(segment.path)[0]) == {level}
    samples = read_audio(source, rate=16_000, start=Fraction(0), language=wanted)
    assert samples is not None
    assert np.median(samples) * 32768 == pytest.approx(level, abs=1)


def test_titles_in_another_encoding_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "t.avi"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "M\u00fcller"
        stream = container.add_stream("pcm_s16le", rate=RATE)
        stream.codec_context.layout = "mono"
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), "s16", "mono")
        frame.sample_rate = RATE
        container.mux(stream.encode(frame))
    latin = path.read_bytes().replace("M\u00fcller".encode(), "M\u00fcllerx".encode("latin-1"))
    assert latin != path.read_bytes()
    path.write_bytes(latin)
    for samples in (
        read_audio(path, rate=RATE, start=Fraction(0)),
        read_recording(path, rate=RATE),
    ):
        assert samples is not None
        assert len(samples) == 4800


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [("wav", "pcm_s16le"), ("flac", "flac"), ("mp3", "mp3"), ("aiff", "pcm_s16be")],
)
def test_a_recording_is_read_from_a_file_of_audio(tmp_path: Path, suffix: str, codec: str) -> None:
    path = tmp_path / f"r.{suffix}"
    tone = (8000 * np.sin(np.arange(RATE) * 0.05)).astype(np.int16)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.codec_context.layout = "mono"
        frame = av.AudioFrame.from_ndarray(tone[None], "s16", "mono")
        frame.sample_rate = RATE
        for packet in (stream.encode(frame), stream.encode(None)):
            container.mux(packet)
    samples = read_recording(path, rate=16_000)
    assert samples is not None
    assert abs(len(samples) - 16_000) < 1600
    spectrum = np.abs(np.fft.rfft(samples[:16_000]))
    assert spectrum.argmax() == pytest.approx(0.05 * RATE / (2 * np.pi), abs=2)
    with pytest.raises(UnreadableVideo):
        read_audio(path, rate=RATE, start=Fraction(0))
