"""Broken files: damage is detected without false alarms, and truncated files are reported."""

from __future__ import annotations

import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mimix_core.media import (
    ScanType,
    TooLargeVideo,
    TruncatedVideo,
    UnreadableVideo,
    find_ffmpeg,
    open_video,
    verify_clip,
)
from mimix_core.media.scan_type import IdetResult, classify_scan_type
from mimix_core.tables import Reason
from tests.media_factory import Shot, draw_frame, write_sound, write_video


@pytest.fixture(scope="module")
def intact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("v") / "v.mkv", [Shot(120)], gop=24).path


def remux(source: Path, target: Path, *options: str) -> Path:
    command = [find_ffmpeg(), "-v", "error", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True)
    return target


def decode_all(
    path: Path, fields: ScanType = ScanType.PROGRESSIVE
) -> tuple[dict[int, Any], set[int]]:
    with open_video(path, threads=2, scan_type=fields) as video:
        shown = {frame.pts: frame.to_ndarray() for frame in video.frames()}
        return shown, video.damage.pts


def corrupt_packet(source: Path, number: int) -> Path:
    """Write a copy with zeros in the first packet from ``number`` on that is large enough."""
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size][number:]
        place, size = next((p.pos, p.size) for p in packets if p.size > 150)
    data = bytearray(source.read_bytes())
    # Not at its start: damaged container and codec headers are another matter.
    data[place + 60 : place + size * 3 // 4] = bytes(size * 3 // 4 - 60)
    corrupted = source.with_name(f"corrupted-{source.name}")
    corrupted.write_bytes(data)
    return corrupted


CODEC_OPTIONS = {
    "h264.mp4": ["-c:v", "libx264", "-preset", "veryfast", "-g", "24"],
    "open-gop.mkv": ["-c:v", "libx264", "-x264-params", "open-gop=1:keyint=24:bframes=3"],
    "mpeg2.ts": ["-c:v", "mpeg2video", "-q:v", "4", "-bf", "2"],
    "mpeg4.avi": ["-c:v", "mpeg4", "-q:v", "4"],
}


@pytest.mark.parametrize("name", CODEC_OPTIONS)
def test_changed_frames_are_marked_as_damaged(tmp_path: Path, intact: Path, name: str) -> None:
    """With zeroed bytes in one packet, every frame that differs from the original is marked."""
    source = remux(intact, tmp_path / name, *CODEC_OPTIONS[name])
    right, none = decode_all(source)
    assert none == set()
    corrupted = corrupt_packet(source, 30)
    shown, damaged = decode_all(corrupted)
    assert set(shown) <= set(right)
    changed = {
        pts
        for pts, image in shown.items()
        if np.abs(image.astype(int) - right[pts].astype(int)).mean() > 1
    }
    assert changed, "the corruption changed no frame"
    assert changed <= damaged
    assert len(damaged) < len(right)


def test_damage_spreads_to_the_deinterlaced_neighbors(tmp_path: Path, intact: Path) -> None:
    source = remux(intact, tmp_path / "v.mp4", *CODEC_OPTIONS["h264.mp4"])
    corrupted = corrupt_packet(source, 30)
    _, coded = decode_all(corrupted)
    assert coded
    _, woven = decode_all(corrupted, ScanType.TFF)
    assert coded < woven
    film, damaged = decode_all(corrupted, ScanType.TELECINE)
    assert damaged and damaged <= set(film)


@pytest.mark.parametrize("name", ["faststart.mp4", "fragments.mp4", "v.mkv", "v.avi", "v.flv"])
def test_a_truncated_file_raises_after_its_last_frame(
    tmp_path: Path, intact: Path, name: str
) -> None:
    flags = {"faststart.mp4": "+faststart", "fragments.mp4": "+frag_keyframe"}
    options = ["-movflags", flags[name]] if name in flags else []
    coded = ["-c:v", "mpeg4"] if name.endswith(".avi") else ["-c", "copy"]
    source = remux(intact, tmp_path / name, *coded, *options)
    assert len(decode_all(source)[0]) == 120
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 6 // 10])
    count = 0
    with open_video(source) as video, pytest.raises(TruncatedVideo) as raised:
        for _ in video.frames():
            count += 1
    assert 20 < count < 110
    assert raised.value.reason == Reason.VIDEO_TRUNCATED
    assert str(tmp_path) not in raised.value.what


def test_audio_longer_than_the_video_is_not_truncation(tmp_path: Path, intact: Path) -> None:
    sound = write_sound(tmp_path / "s.mkv", 9, beep_at=1)
    for suffix in (".mkv", ".mov", ".avi"):
        coded = ["-c:v", "mpeg4" if suffix == ".avi" else "copy", "-c:a", "pcm_s16le"]
        source = remux(intact, tmp_path / f"v{suffix}", "-i", str(sound), *coded)
        shown, damaged = decode_all(source)
        assert (len(shown), damaged) == (120, set())


def test_frames_whose_timestamps_do_not_increase_are_dropped(tmp_path: Path, intact: Path) -> None:
    once = remux(intact, tmp_path / "v.ts", "-c", "copy").read_bytes()
    twice = tmp_path / "twice.ts"
    twice.write_bytes(once + once)
    with open_video(twice) as video:
        shown = [frame.pts for frame in video.frames()]
    assert len(shown) == 120 and shown == sorted(set(shown))
    assert video.repairs.dropped == {shown[-1]: 120}


@pytest.mark.parametrize("size", [(16400, 64), (9000, 8000)])
def test_absurd_sizes_are_rejected_before_decoding(tmp_path: Path, size: tuple[int, int]) -> None:
    """A PNG of a few bytes in a movie whose header may state any size."""
    path = tmp_path / "v.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = *size, "monob"
        frame = av.VideoFrame(*size, "monob")
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(TooLargeVideo) as raised, open_video(path):
        pytest.fail("opened")
    assert f"{size[0]}x{size[1]}" in raised.value.what
    assert raised.value.reason == Reason.VIDEO_TOO_LARGE


@pytest.mark.parametrize(("transfer", "word"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_rejected_with_a_fix(
    tmp_path: Path, transfer: int, word: str
) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=24, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p10le"
        stream.codec_context.color_trc = transfer
        frame = av.VideoFrame.from_ndarray(draw_frame(0, 0, 0), format="rgb24")
        frame = frame.reformat(format="yuv420p10le")
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UnreadableVideo, match="high dynamic range") as raised, open_video(path):
        pytest.fail("opened")
    assert word in raised.value.what and "one-map" in raised.value.fix


def test_a_change_of_the_frame_size_is_rejected(tmp_path: Path) -> None:
    parts = []
    for k, size in enumerate([(320, 192), (160, 96)]):
        part = write_video(tmp_path / f"{k}.mkv", [Shot(48)], size=size).path
        offset = ["-output_ts_offset", str(2 * k)]
        options = ["-c:v", "mpeg2video", "-q:v", "3", *offset]
        parts.append(remux(part, tmp_path / f"{k}.ts", *options).read_bytes())
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    with open_video(path) as video, pytest.raises(UnreadableVideo, match="frame size changes"):
        list(video.frames())


def test_verification_passes_its_frames_to_the_callback(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [Shot(16)], rate=Fraction(16)).path
    seen: list[tuple[int, int]] = []
    verify_clip(path, 320, 192, frames=16, on_frame=lambda k, frame: seen.append((k, frame.width)))
    assert seen == [(k, 320) for k in range(16)]


PROGRESSIVE = IdetResult("p" * 36, "n" * 36)
INTERLACED = IdetResult("t" * 36, "n" * 36)
PULLDOWN = IdetResult("ptttt" * 7, "nntnb" * 7)


def test_the_majority_of_frames_with_motion_decides() -> None:
    ntsc, still = Fraction(30000, 1001), IdetResult("u" * 36, "n" * 36)
    assert classify_scan_type([still] * 8, ntsc, bottom_first=True) == ScanType.PROGRESSIVE
    assert classify_scan_type([still] * 6 + [INTERLACED], ntsc, bottom_first=True) == ScanType.TFF
    assert (
        classify_scan_type([PROGRESSIVE] * 5 + [INTERLACED] * 3, ntsc, bottom_first=False)
        == ScanType.PROGRESSIVE
    )
    assert (
        classify_scan_type([PULLDOWN] * 2 + [still] * 5, ntsc, bottom_first=False)
        == ScanType.TELECINE
    )
    assert classify_scan_type([PULLDOWN] * 8, Fraction(25), bottom_first=False) == ScanType.TFF
    assert classify_scan_type([], ntsc, bottom_first=False) == ScanType.PROGRESSIVE
    either = IdetResult("tb" * 18, "n" * 36)
    assert classify_scan_type([either], ntsc, bottom_first=True) == ScanType.BFF
    assert classify_scan_type([either], ntsc, bottom_first=False) == ScanType.TFF


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.text("tbpu", max_size=40), st.text("tbn", max_size=40)), max_size=8))
def test_a_scan_type_without_evidence_is_never_detected(results: list[tuple[str, str]]) -> None:
    found = classify_scan_type([IdetResult(*s) for s in results], Fraction(30), bottom_first=False)
    orders = "".join(order for order, _ in results)
    if not set(orders) & {"t", "b"}:
        assert found == ScanType.PROGRESSIVE
    if found == ScanType.BFF:
        assert "b" in orders
