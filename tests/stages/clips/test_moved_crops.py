"""A crop that a person has moved is cut there, in its own size, and changes no other clip."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core import tables
from mimix_core.engine.cache_key import canonical_json
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.media import Rect, move_crop, plan_crop_resize, read_rgb
from mimix_core.settings import ClipSettings
from mimix_core.stages import clips
from tests.media_factory import Shot, write_video
from tests.stages.clips.clips_runner import SMALL, ClipsRunner

LEFT, MIDDLE, RIGHT = (200, 40, 40), (40, 200, 40), (40, 40, 200)


def draw(image: np.ndarray, number: int) -> None:
    """Three fields, of which the middle one is what is cut without a decision."""
    third = image.shape[1] // 3
    for index, colour in enumerate((LEFT, MIDDLE, RIGHT)):
        image[:, index * third :] = colour
    image[number % 90 : number % 90 + 6] = 250


def test_only_the_moved_clip_is_another_one(runner: ClipsRunner, store: Store) -> None:
    truth = write_video(runner.folder / "a.mp4", [Shot(160), Shot(160)], draw=draw)
    settings = ClipSettings.model_validate({**SMALL, "width": 96, "height": 192})
    inputs = runner.inputs(truth)
    before = rows_of(store, inputs, settings)
    name, other = sorted(before)
    assert before[name]["crop"] == [112, 0, 96, 192]
    moved = inputs.model_copy(update={"moved_crops": {name: (4, 0, 96, 192)}})
    assert clips.STAGE.key(moved, settings) != clips.STAGE.key(inputs, settings)
    after = rows_of(store, moved, settings)
    assert after[name]["crop"] == [4, 0, 96, 192]
    assert after[other] == before[other]
    ref = run_stage(store, clips.STAGE, moved, settings).ref
    frames = read_rgb(ref.folder / after[name]["file"])
    shown = np.median(frames.reshape(-1, 3), axis=0)
    assert np.abs(shown - LEFT).max() < 20, "what is to the left of the crop of before"
    assert {n: row["source_pts"] for n, row in after.items()} == {
        n: row["source_pts"] for n, row in before.items()
    }


def test_without_a_moved_crop_earlier_results_remain_valid(runner: ClipsRunner) -> None:
    truth = write_video(runner.folder / "a.mp4", [Shot(30)])
    inputs = runner.inputs(truth)
    assert inputs.moved_crops == {}
    assert "moved_crops" not in canonical_json(inputs)


def rows_of(
    store: Store, inputs: clips.ClipInputs, settings: ClipSettings
) -> dict[str, tables.ClipRow]:
    ref = run_stage(store, clips.STAGE, inputs, settings).ref
    return {row["clip_id"]: row for row in tables.read(ref.path, tables.CLIPS)}


sides = st.integers(16, 400).map(lambda side: 2 * side)


@given(
    sides, sides, st.integers(0, 900), st.integers(0, 900), st.integers(1, 900), st.integers(1, 900)
)
def test_a_moved_crop_keeps_its_size_lies_within_the_frame_and_is_even(
    width: int, height: int, x: int, y: int, wide: int, high: int
) -> None:
    planned = plan_crop_resize(Rect(0, 0, width, height), 160, 96, "crop")
    moved = move_crop(planned, Rect(x, y, wide, high), width, height)
    crop = moved.crop
    assert (crop.width, crop.height) == (planned.crop.width, planned.crop.height)
    assert crop.x % 2 == crop.y % 2 == 0
    assert 0 <= crop.x <= width - crop.width
    assert 0 <= crop.y <= height - crop.height
    again = move_crop(planned, crop, width, height)
    assert again == moved, "a crop that is there already is not moved"


@pytest.mark.parametrize(("wanted", "x"), [((0, 0, 96, 192), 0), ((300, 0, 96, 192), 224)])
def test_a_decision_of_other_settings_is_cut_as_near_as_possible(
    wanted: tuple[int, int, int, int], x: int
) -> None:
    planned = plan_crop_resize(Rect(0, 0, 320, 192), 96, 192, "crop")
    assert move_crop(planned, Rect(*wanted), 320, 192).crop == Rect(x, 0, 96, 192)
