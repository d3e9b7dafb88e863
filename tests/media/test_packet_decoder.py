"""Broken files: damage is noticed and never invented, and a file that ends early says so."""

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
    DamagedVideo,
    Fields,
    TooLargeVideo,
    TruncatedVideo,
    UnreadableVideo,
    ffmpeg_exe,
    open_video,
    prove_clip,
)
from mimix_core.media.scan_type import Stretch, judge
from mimix_core.tables import Reason
from tests.media_factory import Shot, picture, write_sound, write_video


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("v") / "v.mkv", [Shot(120)], gop=24).path


def remuxed(source: Path, target: Path, *options: str) -> Path:
    command = [ffmpeg_exe(), "-v", "error", "-i", str(source), *options, str(target)]
    subprocess.run(command, check=True)
    return target


def pictures(path: Path, fields: Fields = Fields.PROGRESSIVE) -> tuple[dict[int, Any], set[int]]:
    with open_video(path, threads=2, fields=fields) as video:
        shown = {frame.pts: frame.to_ndarray() for frame in video.frames()}
        return shown, video.damage.pts


def hit(source: Path, number: int) -> Path:
    """A copy with zeros in the first packet from ``number`` on that has something to lose."""
    with av.open(str(source)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size][number:]
        place, size = next((p.pos, p.size) for p in packets if p.size > 150)
    data = bytearray(source.read_bytes())
    # Some way in: containers and codecs have headers there, whose loss is another matter.
    data[place + 60 : place + size * 3 // 4] = bytes(size * 3 // 4 - 60)
    broken = source.with_name(f"broken-{source.name}")
    broken.write_bytes(data)
    return broken


CODED = {
    "h264.mp4": ["-c:v", "libx264", "-preset", "veryfast", "-g", "24"],
    "open-gop.mkv": ["-c:v", "libx264", "-x264-params", "open-gop=1:keyint=24:bframes=3"],
    "mpeg2.ts": ["-c:v", "mpeg2video", "-q:v", "4", "-bf", "2"],
    "mpeg4.avi": ["-c:v", "mpeg4", "-q:v", "4"],
}


@pytest.mark.parametrize("name", CODED)
def test_changed_pictures_are_known_as_damaged(tmp_path: Path, whole: Path, name: str) -> None:
    """Zeroed bytes in one packet: no picture differs from the right one without being marked."""
    source = remuxed(whole, tmp_path / name, *CODED[name])
    right, none = pictures(source)
    assert none == set()
    broken = hit(source, 30)
    shown, damaged = pictures(broken)
    assert set(shown) <= set(right)
    changed = {
        pts
        for pts, image in shown.items()
        if np.abs(image.astype(int) - right[pts].astype(int)).mean() > 1
    }
    assert changed, "the file was not hit where it hurts"
    assert changed <= damaged
    assert len(damaged) < len(right)


def test_damage_reaches_the_deinterlaced_neighbours(tmp_path: Path, whole: Path) -> None:
    source = remuxed(whole, tmp_path / "v.mp4", *CODED["h264.mp4"])
    broken = hit(source, 30)
    _, coded = pictures(broken)
    assert coded
    _, woven = pictures(broken, Fields.TFF)
    assert coded < woven
    film, spoilt = pictures(broken, Fields.TELECINE)
    assert spoilt and spoilt <= set(film)


@pytest.mark.parametrize("name", ["faststart.mp4", "fragments.mp4", "v.mkv", "v.avi", "v.flv"])
def test_a_file_that_ends_early_says_so_after_its_last_frame(
    tmp_path: Path, whole: Path, name: str
) -> None:
    flags = {"faststart.mp4": "+faststart", "fragments.mp4": "+frag_keyframe"}
    options = ["-movflags", flags[name]] if name in flags else []
    coded = ["-c:v", "mpeg4"] if name.endswith(".avi") else ["-c", "copy"]
    source = remuxed(whole, tmp_path / name, *coded, *options)
    assert len(pictures(source)[0]) == 120
    data = source.read_bytes()
    source.write_bytes(data[: len(data) * 6 // 10])
    count = 0
    with open_video(source) as video, pytest.raises(TruncatedVideo) as caught:
        for _ in video.frames():
            count += 1
    assert 20 < count < 110
    assert caught.value.reason == Reason.VIDEO_TRUNCATED
    assert str(tmp_path) not in caught.value.what


def test_sound_longer_than_the_pictures_is_no_early_end(tmp_path: Path, whole: Path) -> None:
    sound = write_sound(tmp_path / "s.mkv", 9, beep_at=1)
    for suffix in (".mkv", ".mov", ".avi"):
        coded = ["-c:v", "mpeg4" if suffix == ".avi" else "copy", "-c:a", "pcm_s16le"]
        source = remuxed(whole, tmp_path / f"v{suffix}", "-i", str(sound), *coded)
        shown, damaged = pictures(source)
        assert (len(shown), damaged) == (120, set())


def test_time_that_goes_back_is_damage(tmp_path: Path, whole: Path) -> None:
    once = remuxed(whole, tmp_path / "v.ts", "-c", "copy").read_bytes()
    twice = tmp_path / "twice.ts"
    twice.write_bytes(once + once)
    with open_video(twice) as video, pytest.raises(DamagedVideo, match="does not rise"):
        list(video.frames())


@pytest.mark.parametrize("size", [(16400, 64), (9000, 8000)])
def test_absurd_sizes_are_refused_before_a_picture_is_made(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    """A PNG of a few bytes in a movie whose header may state any size."""
    path = tmp_path / "v.mov"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("png", rate=1)
        stream.width, stream.height, stream.pix_fmt = *size, "monob"
        frame = av.VideoFrame(*size, "monob")
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(TooLargeVideo) as caught, open_video(path):
        pytest.fail("opened")
    assert f"{size[0]}x{size[1]}" in caught.value.what
    assert caught.value.reason == Reason.VIDEO_TOO_LARGE


@pytest.mark.parametrize(("transfer", "word"), [(16, "PQ"), (18, "HLG")])
def test_high_dynamic_range_is_refused_with_advice(
    tmp_path: Path, transfer: int, word: str
) -> None:
    path = tmp_path / "v.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx265", rate=24, options={"x265-params": "log-level=none"})
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p10le"
        stream.codec_context.color_trc = transfer
        frame = av.VideoFrame.from_ndarray(picture(0, 0, 0), format="rgb24")
        frame = frame.reformat(format="yuv420p10le")
        frame.pts = 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(UnreadableVideo, match="high dynamic range") as caught, open_video(path):
        pytest.fail("opened")
    assert word in caught.value.what and "one-map" in caught.value.fix


def test_a_change_of_size_is_refused(tmp_path: Path) -> None:
    parts = []
    for k, size in enumerate([(320, 192), (160, 96)]):
        part = write_video(tmp_path / f"{k}.mkv", [Shot(48)], size=size).path
        offset = ["-output_ts_offset", str(2 * k)]
        options = ["-c:v", "mpeg2video", "-q:v", "3", *offset]
        parts.append(remuxed(part, tmp_path / f"{k}.ts", *options).read_bytes())
    path = tmp_path / "both.ts"
    path.write_bytes(b"".join(parts))
    with open_video(path) as video, pytest.raises(UnreadableVideo, match="changes its size"):
        list(video.frames())


def test_the_proof_shows_its_frames(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [Shot(16)], rate=Fraction(16)).path
    seen: list[tuple[int, int]] = []
    prove_clip(path, 320, 192, frames=16, look=lambda k, frame: seen.append((k, frame.width)))
    assert seen == [(k, 320) for k in range(16)]


PROGRESSIVE = Stretch("p" * 36, "n" * 36)
WOVEN = Stretch("t" * 36, "n" * 36)
PULLDOWN = Stretch("ptttt" * 7, "nntnb" * 7)


def test_most_of_the_moving_pictures_decide() -> None:
    ntsc, still = Fraction(30000, 1001), Stretch("u" * 36, "n" * 36)
    assert judge([still] * 8, ntsc, bottom_first=True) == Fields.PROGRESSIVE
    assert judge([still] * 6 + [WOVEN], ntsc, bottom_first=True) == Fields.TFF
    assert judge([PROGRESSIVE] * 5 + [WOVEN] * 3, ntsc, bottom_first=False) == Fields.PROGRESSIVE
    assert judge([PULLDOWN] * 2 + [still] * 5, ntsc, bottom_first=False) == Fields.TELECINE
    assert judge([PULLDOWN] * 8, Fraction(25), bottom_first=False) == Fields.TFF
    assert judge([], ntsc, bottom_first=False) == Fields.PROGRESSIVE
    either = Stretch("tb" * 18, "n" * 36)
    assert judge([either], ntsc, bottom_first=True) == Fields.BFF
    assert judge([either], ntsc, bottom_first=False) == Fields.TFF


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.text("tbpu", max_size=40), st.text("tbn", max_size=40)), max_size=8))
def test_fields_that_are_not_seen_are_never_found(stretches: list[tuple[str, str]]) -> None:
    found = judge([Stretch(*s) for s in stretches], Fraction(30), bottom_first=False)
    orders = "".join(order for order, _ in stretches)
    if not set(orders) & {"t", "b"}:
        assert found == Fields.PROGRESSIVE
    if found == Fields.BFF:
        assert "b" in orders
