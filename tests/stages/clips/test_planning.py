"""Clip planning: measurements over exactly the clip's own source frames."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mimix_core.domain import ids
from mimix_core.media import Rect, plan_crop_resize
from mimix_core.settings import ClipSettings
from mimix_core.stages.clips.planning import (
    ClipPlan,
    FrameIndex,
    base_columns,
    plan_clips,
    read_frame_index,
)
from mimix_core.tables import Reason
from tests.media_factory import GroundTruth
from tests.stages.clips.clips_runner import EPISODE, scene_rows

TICK = Fraction(1, 16)


def frame_index(pts: list[int], **columns: list[Any]) -> FrameIndex:
    """Return frames that move, are sharp, and are neither black nor still."""
    count = len(pts)
    defaults: dict[str, list[Any]] = {
        "keyframe": [number == 0 for number in range(count)],
        "difference": [0.5] * count,
        "sharpness": [100.0] * count,
        "black": [False] * count,
        "still": [False] * count,
        "repeat": [False] * count,
    }
    return FrameIndex(pts=pts, **{**defaults, **columns})


CROP_RESIZE = plan_crop_resize(Rect(2, 4, 300, 180), 160, 96, "crop")


def plan(
    index: FrameIndex, start: int, end: int, text_remains: str = "", **settings: Any
) -> list[ClipPlan]:
    """Plan the clips of the scene from PTS ``start`` to ``end``, in ticks of 1/16 s."""
    truth = GroundTruth(Path("v.mp4"), TICK, list(index.pts), end, [0])
    here = {"scene_id": ids.scene_id(EPISODE, start), "start_pts": start, "end_pts": end}
    (scene,) = scene_rows(truth, **here)
    chosen = ClipSettings.model_validate({"scene_margin_seconds": "0", **settings})
    if text_remains:
        return plan_clips(scene, CROP_RESIZE, index, chosen, text_remains)
    return plan_clips(scene, CROP_RESIZE, index, chosen)


def plan_one_clip(pts: list[int], start: int, **columns: list[Any]) -> ClipPlan:
    """Plan the only clip of a scene that starts at frame ``start`` and lasts 81 ticks of 1/16 s."""
    (only,) = plan(frame_index(pts, **columns), pts[start], pts[start] + 81)
    return only


def test_motion_is_the_mean_difference_without_the_cut_at_the_first_frame() -> None:
    """The difference of the clip's first frame is that to the previous shot."""
    difference = [float(2**number % 1009) for number in range(120)]
    difference[20] = 10_000.0
    only = plan_one_clip(list(range(120)), 20, difference=difference)
    assert only.frame_numbers == list(range(20, 101))
    assert only.measurements["motion"] == pytest.approx(sum(difference[21:101]) / 80, rel=1e-12)


def test_shares_cover_exactly_the_frames_of_the_clip() -> None:
    marked = [number in (19, 20, 100, 101) for number in range(120)]
    sharpness = [float(number**2) for number in range(120)]
    only = plan_one_clip(
        list(range(120)), 20, black=marked, repeat=marked, still=marked, sharpness=sharpness
    )
    for name in ("black_share", "repeat_share", "frozen_share"):
        assert only.measurements[name] == pytest.approx(2 / 81), name
    assert only.measurements["sharpness"] == pytest.approx(sum(sharpness[20:101]) / 81)


@pytest.mark.parametrize(("ticks", "frozen"), [(7, 0), (8, 0), (9, 9), (10, 10), (40, 40)])
def test_a_frame_counts_as_frozen_when_displayed_for_more_than_half_a_second(
    ticks: int, frozen: int
) -> None:
    """Half a second are 8 frames of a clip."""
    pts = [*range(30), *range(29 + ticks, 120)]
    only = plan_one_clip(pts, 0)
    assert max(only.frame_numbers.count(number) for number in only.frame_numbers) == ticks
    assert only.measurements["frozen_share"] == pytest.approx(frozen / 81)


def test_the_clips_of_a_scene_follow_each_other_at_the_stride_and_within_the_margin() -> None:
    frames = frame_index(list(range(400)))
    plans = plan(frames, 10, 310, stride_seconds="2.5", scene_margin_seconds="0.125")
    # 2 ticks of margin, 40 of stride; the last clip ends 2 ticks before the end or earlier.
    starts = [12, 52, 92, 132, 172, 212]
    assert [one.source_pts for one in plans] == [list(range(s, s + 81)) for s in starts]
    assert [one.start for one in plans] == [s * TICK for s in starts]
    assert [list(one.frame_numbers) for one in plans] == [one.source_pts for one in plans]
    assert [one.source_pts[0] for one in plan(frames, 0, 243)] == [0, 81, 162]
    dense = plan(frames, 0, 85, stride_seconds="0.0625")
    assert [one.source_pts[0] for one in dense] == [0, 1, 2, 3, 4]
    short = plan(frames, 0, 170, frames=33, stride_seconds="4")
    assert [(one.source_pts[0], len(one.source_pts)) for one in short] == [
        (0, 33),
        (64, 33),
        (128, 33),
    ]


def test_of_clips_that_start_with_the_same_source_frame_only_the_first_is_planned() -> None:
    pts = [0, 1, 2, *range(50, 200)]
    plans = plan(frame_index(pts), 0, 190, stride_seconds="1")
    # At 16, 32 and 48 ticks the frame of tick 2 is still displayed.
    assert [one.source_pts[0] for one in plans] == [0, 2, 64, 80, 96]
    assert plans[1].start == 1


def test_one_frame_that_is_displayed_all_the_time_is_a_frozen_clip() -> None:
    (only,) = plan(frame_index([0, 200]), 0, 200)[:1]
    assert only.source_pts == [0] * 81
    assert only.measurements["frozen_share"] == 1
    assert only.measurements["motion"] == 0
    assert only.rejection is not None
    assert only.rejection[0] is Reason.CLIP_FROZEN


def test_frames_of_another_file_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"-s0000000020: its clip at 1.250 s.*another scene"):
        plan(frame_index([0, *range(21, 200)]), 20, 150)


def share_of(count: int) -> list[bool]:
    return [number < count for number in range(100)]


@pytest.mark.parametrize(
    ("columns", "settings", "reason", "detail"),
    [
        ({"black": share_of(27)}, {"max_black_share": 1 / 3}, None, ""),
        ({"black": share_of(28)}, {"max_black_share": 1 / 3}, Reason.CLIP_BLACK,
         "35% of the frames are black, 33% allowed"),
        ({"still": share_of(27)}, {"max_frozen_share": 1 / 3}, None, ""),
        ({"still": share_of(28)}, {"max_frozen_share": 1 / 3}, Reason.CLIP_FROZEN,
         "35% of the frames are unchanged, 33% allowed"),
        ({"sharpness": [6.5] * 100}, {"min_sharpness": 6.5}, None, ""),
        ({"sharpness": [6.25] * 100}, {"min_sharpness": 6.5}, Reason.CLIP_BLURRED,
         "sharpness 6.2, 6.5 required"),
        ({"difference": [0.25] * 100}, {"min_motion": 0.25}, None, ""),
        ({"difference": [0.125] * 100}, {"min_motion": 0.25}, Reason.CLIP_WITHOUT_MOTION,
         "motion 0.12500, 0.25 required"),
        # The first filter that rejects the clip gives the reason.
        ({"black": share_of(81), "still": share_of(81), "sharpness": [0.0] * 100}, {},
         Reason.CLIP_BLACK, "100% of the frames are black, 25% allowed"),
    ],
)  # fmt: skip
def test_a_filter_rejects_what_is_beyond_its_limit_and_says_the_figures(
    columns: dict[str, list[Any]], settings: dict[str, Any], reason: Reason | None, detail: str
) -> None:
    (only,) = plan(frame_index(list(range(100)), **columns), 0, 81, **settings)
    assert only.rejection == (None if reason is None else (reason, detail))


def test_frozen_and_repeated_frames_add_up_to_one_share() -> None:
    # Frame 0 is displayed for 41 of 81 ticks; of the 40 others half do not change.
    pts = [0, *range(41, 120)]
    still = [number % 2 == 0 for number in range(len(pts))]
    (only,) = plan(frame_index(pts, still=still), 0, 81)
    others = [still[number] for number in range(1, 41)]
    expected = 41 / 81 + 40 / 81 * sum(others) / len(others)
    assert only.measurements["frozen_share"] == pytest.approx(expected, rel=1e-12)


def test_the_columns_of_a_plan_and_of_a_scene_without_a_clip() -> None:
    frames = frame_index(list(range(300)))
    first, second = plan(frames, 10, 190, text_remains="top 3 %")
    crop = CROP_RESIZE.crop
    row = second.columns()
    assert row == {
        "scene_id": ids.scene_id(EPISODE, 10),
        "clip_id": ids.clip_id(EPISODE, 91),
        "episode_id": EPISODE,
        "show": "demo",
        "style": "cartoon",
        "origin_pts": 0,
        "time_base_num": 1,
        "time_base_den": 16,
        "start_num": 91,
        "start_den": 16,
        "source_pts": list(range(91, 172)),
        "source_width": 320,
        "source_height": 192,
        "crop": [crop.x, crop.y, crop.width, crop.height],
        "width": 160,
        "height": 96,
        "frames": 81,
        "rate_num": 16,
        "rate_den": 1,
        "motion": 0.5,
        "sharpness": 100.0,
        "black_share": 0.0,
        "frozen_share": 0.0,
        "repeat_share": 0.0,
        "text_remains": "top 3 %",
        "file": "",
        "sha256": "",
        "audio_file": "",
        "audio_sha256": "",
        "lost_audio_ms": 0,
        "fingerprint": b"",
        "inset_fingerprint": b"",
    }
    assert first.clip_id == ids.clip_id(EPISODE, 10)
    assert plan(frames, 10, 100)[0].columns()["text_remains"] == ""
    measured = {"motion": 0.1, "sharpness": 2.0, "black_share": 0.3, "frozen_share": 0.4}
    scene: Any = {**first.scene, **measured, "repeat_share": 0.5}
    bare = base_columns(scene, Fraction(16))
    nothing = {"source_pts": [], "crop": [], "width": 0, "height": 0, "frames": 0}
    start = {"clip_id": ids.clip_id(EPISODE, 10), "start_num": 5, "start_den": 8}
    assert bare == row | measured | nothing | start | {"repeat_share": 0.5, "text_remains": ""}


def test_a_frames_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    columns: dict[str, list[Any]] = {
        "pts": [0, 2, 5],
        "keyframe": [True, False, True],
        "difference": [0.0, 0.25, 0.5],
        "sharpness": [1.0, 2.0, 3.0],
        "black": [True, False, False],
        "still": [False, True, False],
        "repeat": [False, False, True],
    }
    pq.write_table(pa.table({"more": [1, 2, 3], **columns}), tmp_path / "frames.parquet")
    frames = read_frame_index(tmp_path / "frames.parquet")
    assert {name: list(getattr(frames, name)) for name in columns} == columns
    assert frames.keyframes == [0, 2]
    assert frames.all_pts == {0, 2, 5}
