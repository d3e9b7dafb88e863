"""Timestamps that do not increase, and lost packets: the rest of the episode stays."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mimix_core import media, tables
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.media import find_ffmpeg
from mimix_core.settings import ClipSettings, OverlaySettings, SceneSettings
from mimix_core.stages import clips, overlays, scenes
from tests.container_editing import SIMPLE_BLOCK, TS_PACKET, ebml_bodies, overwrite, ts_packets
from tests.media_factory import Shot, read_counter, write_video

RATE = Fraction(25)
FRAME_MS = 40


def analyze(path: Path, out: Path) -> list[tables.Row]:
    inputs = scenes.SceneInputs(unit="v", show="demo", style=Style.CARTOON, video=file_ref(path))
    report = scenes.run(inputs, SceneSettings(), out)
    tables.validate(tables.SCENES, report.rows)
    return list(report.rows)


def shift_blocks(path: Path, shifts: dict[int, int]) -> Path:
    """Add milliseconds to the timestamps of some frames of a Matroska file without sound."""
    data = path.read_bytes()
    for number, (start, _) in enumerate(ebml_bodies(data, SIMPLE_BLOCK)):
        time = int.from_bytes(data[start + 1 : start + 3], "big", signed=True)
        changed = (time + shifts.get(number, 0)).to_bytes(2, "big", signed=True)
        data = overwrite(data, start + 1, changed)
    path.write_bytes(data)
    return path


CASES: dict[str, tuple[dict[int, int], list[int]]] = {
    # By name: shifts in milliseconds, and the frames that must be dropped.
    "two frames at one time": ({100: -FRAME_MS}, [100]),
    "one frame back": ({100: -FRAME_MS * 3 // 2}, [100]),
    "one frame far ahead": ({100: 2000}, [100]),
    "one frame far back": ({100: -3000}, [100]),
    "twice": ({60: -FRAME_MS, 100: -FRAME_MS}, [60, 100]),
    "three frames back": (dict.fromkeys((100, 101, 102), -4 * FRAME_MS), [100, 101, 102]),
    "the clock goes back": (dict.fromkeys(range(100, 200), -3 * FRAME_MS), [100, 101, 102]),
}


@pytest.mark.parametrize("name", CASES)
def test_a_break_in_time_costs_the_frames_around_it(tmp_path: Path, name: str) -> None:
    shifts, dropped = CASES[name]
    truth = write_video(tmp_path / "v.mkv", [Shot(200)], rate=RATE, b_frames=0)
    rows = analyze(shift_blocks(truth.path, shifts), tmp_path)
    kept = [number for number in range(200) if number not in dropped]
    frames = pq.read_table(tmp_path / "frames.parquet").to_pylist()
    pts = [frame["pts"] for frame in frames]
    assert pts == [truth.pts[number] + shifts.get(number, 0) for number in kept]
    # Each frame before dropped ones is a row of its own, which says why.
    before = [number for number in kept if number + 1 in dropped]
    broken = [row for row in rows if row["reason"] == "scene_clock_break"]
    assert [row["start_pts"] for row in broken] == [truth.pts[number] for number in before]
    assert all(row["status"] == "rejected" and row["frames"] == 1 for row in broken)
    assert f"{len(dropped) // len(before)} frame" in broken[0]["detail"]
    others = [row for row in rows if row["reason"] != "scene_clock_break"]
    assert {row["status"] for row in others} == {"ok"} and len(others) == len(before) + 1
    assert sum(row["frames"] for row in rows) == len(kept)
    assert not any(row["seekable"] for row in rows)


def test_one_wrong_time_among_b_frames_does_not_reorder_the_others(tmp_path: Path) -> None:
    truth = write_video(tmp_path / "v.mkv", [Shot(200)], rate=RATE, b_frames=2)
    data = truth.path.read_bytes()
    # Blocks are in decoding order: the frame of block 100 is timed before its predecessor.
    rows = analyze(shift_blocks(truth.path, {100: -FRAME_MS * 3 // 2}), tmp_path)
    assert data != truth.path.read_bytes()
    pts = pq.read_table(tmp_path / "frames.parquet").column("pts").to_pylist()
    assert len(set(truth.pts) - set(pts)) <= 2
    assert sum(row["reason"] == "scene_clock_break" for row in rows) == 1
    assert sum(row["frames"] for row in rows if row["status"] == "ok") >= 196


def transport_stream(path: Path, source: Path, offset: Fraction, *options: str) -> bytes:
    command = [find_ffmpeg(), "-v", "error", "-i", str(source), "-c", "copy", *options]
    target = [*("-muxdelay", "0"), *("-output_ts_offset", str(float(offset))), str(path)]
    subprocess.run([*command, *target], check=True)
    return path.read_bytes()


def test_no_clip_crosses_the_splice_of_two_captures(tmp_path: Path, store: Store) -> None:
    """The second recording starts two frames before the first one ends."""
    first = write_video(tmp_path / "1.mp4", [Shot(150)], rate=RATE, b_frames=0).path
    second = write_video(tmp_path / "2.mp4", [Shot(300)], rate=RATE, b_frames=0).path
    path = tmp_path / "both.ts"
    path.write_bytes(
        transport_stream(tmp_path / "1.ts", first, Fraction(0))
        + transport_stream(tmp_path / "2.ts", second, Fraction(148, 25))
    )
    video = file_ref(path)
    found = run_stage(
        store,
        scenes.STAGE,
        scenes.SceneInputs(unit="e", show="demo", style=Style.CARTOON, video=video),
        SceneSettings(),
    ).ref
    rows = tables.read(found.path, tables.SCENES)
    assert sum(row["frames"] for row in rows) == 448
    assert [row["reason"] for row in rows if row["status"] != "ok"] == ["scene_clock_break"]
    overlay = run_stage(
        store,
        overlays.STAGE,
        overlays.OverlayInputs(unit="e", show="demo", video=video, scenes=found),
        OverlaySettings(backend="none"),
    ).ref
    made = run_stage(
        store,
        clips.STAGE,
        clips.ClipInputs(unit="e", video=video, scenes=found, overlays=overlay),
        ClipSettings(width=160, height=96, preset="ultrafast", crf=10, scene_margin_seconds="0"),
    ).ref
    usable = list(tables.usable(tables.read(made.path, tables.CLIPS)))
    assert len(usable) == 3
    for row in usable:
        images = media.read_rgb(made.folder / row["file"])
        counters = [read_counter(image, row["crop"]) for image in images]
        assert counters == sorted(counters)
        # Frames at 25/s on a grid of 1/16 s: a step is one or two frames.
        assert {later - earlier for earlier, later in pairwise(counters)} <= {1, 2}


def without_packets(data: bytes, lost: Sequence[range]) -> bytes:
    packets = ts_packets(data)
    kept = [packet for k, packet in enumerate(packets) if not any(k in each for each in lost)]
    assert len(kept) * TS_PACKET < len(data)
    return b"".join(kept)


CAPTURES = {
    "h264.ts": ["-c:v", "libx264", "-preset", "ultrafast", "-bf", "2", "-g", "50"],
    "open-gop.ts": ["-c:v", "libx264", "-x264-params", "open-gop=1:keyint=50:bframes=2"],
    "mpeg2.ts": ["-c:v", "mpeg2video", "-q:v", "4", "-bf", "2", "-g", "12"],
    "hevc.ts": ["-c:v", "libx265", "-x265-params", "keyint=50:log-level=none:pools=1"],
}


@pytest.mark.parametrize("name", CAPTURES)
def test_a_capture_that_starts_and_ends_anywhere_keeps_its_whole_scenes(
    tmp_path: Path, name: str
) -> None:
    """Packets are missing at both ends, and in the middle of the third of five shots."""
    truth = write_video(tmp_path / "v.mp4", [Shot(100)] * 5, rate=RATE)
    command = [find_ffmpeg(), "-v", "error", "-i", str(truth.path), *CAPTURES[name]]
    subprocess.run([*command, str(tmp_path / name)], check=True)
    data = (tmp_path / name).read_bytes()
    size = len(data) // TS_PACKET
    start, stop = size // 20, size - size // 20
    lost = [range(3, start), range(size // 2, size // 2 + size // 40), range(stop, size)]
    (tmp_path / name).write_bytes(without_packets(data, lost))
    rows = analyze(tmp_path / name, tmp_path)
    reasons = [row["reason"] for row in rows]
    assert "scene_damaged" in reasons and set(reasons) <= {None, "scene_damaged"}
    complete = [row for row in rows if row["status"] == "ok" and row["frames"] == 100]
    assert len(complete) >= 2
