"""Clip planning: measurements over exactly the clip's own source frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from mimix_core.media import Rect, plan_crop_resize
from mimix_core.settings import ClipSettings
from mimix_core.stages.clips.planning import ClipPlan, FrameIndex, plan_clips
from tests.media_factory import GroundTruth
from tests.stages.clips.test_clips import scene_rows

TICK = Fraction(1, 16)


def plan_one_clip(pts: list[int], start: int, **columns: list[Any]) -> ClipPlan:
    """Plan the only clip of a scene that starts at frame ``start`` and lasts 81 ticks of 1/16 s."""
    count = len(pts)
    defaults: dict[str, list[Any]] = {
        "keyframe": [number == 0 for number in range(count)],
        "difference": [0.0] * count,
        "sharpness": [100.0] * count,
        "black": [False] * count,
        "still": [False] * count,
        "repeat": [False] * count,
    }
    frames = FrameIndex(pts=pts, **{**defaults, **columns})
    truth = GroundTruth(Path("v.mp4"), TICK, pts, pts[start] + 81, [start])
    (scene,) = scene_rows(truth)
    settings = ClipSettings(scene_margin_seconds="0")
    crop_resize = plan_crop_resize(Rect(0, 0, 320, 192), 160, 96, "crop")
    (plan,) = plan_clips(scene, crop_resize, frames, settings)
    return plan


def test_motion_is_the_mean_difference_without_the_cut_at_the_first_frame() -> None:
    """The difference of the clip's first frame is that to the previous shot."""
    difference = [float(2**number % 1009) for number in range(120)]
    difference[20] = 10_000.0
    plan = plan_one_clip(list(range(120)), 20, difference=difference)
    assert plan.frame_numbers == list(range(20, 101))
    assert plan.measurements["motion"] == pytest.approx(sum(difference[21:101]) / 80, rel=1e-12)


def test_shares_cover_exactly_the_frames_of_the_clip() -> None:
    marked = [number in (19, 20, 100, 101) for number in range(120)]
    sharpness = [float(number**2) for number in range(120)]
    plan = plan_one_clip(
        list(range(120)), 20, black=marked, repeat=marked, still=marked, sharpness=sharpness
    )
    for name in ("black_share", "repeat_share", "frozen_share"):
        assert plan.measurements[name] == pytest.approx(2 / 81), name
    assert plan.measurements["sharpness"] == pytest.approx(sum(sharpness[20:101]) / 81)


@pytest.mark.parametrize(("ticks", "frozen"), [(7, 0), (8, 0), (9, 9), (10, 10), (40, 40)])
def test_a_frame_counts_as_frozen_when_displayed_for_more_than_half_a_second(
    ticks: int, frozen: int
) -> None:
    """Half a second are 8 frames of a clip."""
    pts = [*range(30), *range(29 + ticks, 120)]
    plan = plan_one_clip(pts, 0)
    assert max(plan.frame_numbers.count(number) for number in plan.frame_numbers) == ticks
    assert plan.measurements["frozen_share"] == pytest.approx(frozen / 81)
