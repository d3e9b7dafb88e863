from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from mimix_core.errors import BadInput
from mimix_core.media.images import evenly_spaced_indices
from mimix_core.settings.locator_settings import (
    EmbeddingLocatorSettings,
    FaceLocatorSettings,
    VlmLocatorSettings,
)
from mimix_core.stages.cutouts.locate import (
    BoxTrack,
    build_location_rows,
    load_locations,
    write_locations,
)
from mimix_core.stages.cutouts.locate.box_track import (
    MIN_LINK_IOU,
    Box,
    BoxDetection,
    box_iou,
    clip_box,
    interpolate_detections,
    strided_frame_indices,
)
from tests.factories import clip

sides = st.floats(0, 400, allow_nan=False)
boxes = st.tuples(sides, sides, sides, sides).map(
    lambda s: (min(s[0], s[2]), min(s[1], s[3]), max(s[0], s[2]) + 4, max(s[1], s[3]) + 4)
)
detections = st.dictionaries(
    st.integers(0, 80), st.builds(BoxDetection, boxes, st.floats(0.1, 1)), max_size=12
)


@given(detections, st.integers(1, 80))
def test_detections_are_preserved_and_nothing_is_extrapolated(
    seen: dict[int, BoxDetection], max_gap: int
) -> None:
    found = interpolate_detections(seen, 81, max_gap)
    assert len(found.boxes) == len(found.scores) == 81
    numbers = sorted(seen)
    for number, (box, score) in enumerate(zip(found.boxes, found.scores, strict=True)):
        assert (box is None) == (score == 0)
        if number in seen:
            assert (box, score) == (seen[number].box, seen[number].score)
        elif box is not None:
            before = max(n for n in numbers if n < number)
            after = min(n for n in numbers if n > number)
            assert after - before <= max_gap
            assert box_iou(seen[before].box, seen[after].box) >= MIN_LINK_IOU
            assert score == min(seen[before].score, seen[after].score)
            for side in range(4):
                low, high = sorted((seen[before].box[side], seen[after].box[side]))
                assert low - 1e-6 <= box[side] <= high + 1e-6


def test_boxes_are_interpolated_linearly_between_detections() -> None:
    seen = {0: BoxDetection((0, 0, 100, 100), 0.9), 8: BoxDetection((16, 8, 116, 108), 0.6)}
    found = interpolate_detections(seen, 9, 8)
    assert found.boxes[4] == (8, 4, 108, 104)
    assert found.scores[1:8] == [0.6] * 7
    assert interpolate_detections(seen, 9, 7).boxes[1:8] == [None] * 7
    apart = {**seen, 8: BoxDetection((90, 90, 190, 190), 0.6)}
    assert interpolate_detections(apart, 9, 8).boxes[1:8] == [None] * 7


@given(st.integers(1, 200), st.integers(1, 40))
def test_the_first_and_the_last_frame_are_sampled(frames: int, every: int) -> None:
    numbers = strided_frame_indices(frames, every)
    assert numbers[0] == 0
    assert numbers[-1] == frames - 1
    assert all(0 < b - a <= every for a, b in pairwise(numbers))


@given(boxes, boxes)
def test_iou_is_between_zero_and_one(one: Box, two: Box) -> None:
    assert 0 <= box_iou(one, two) == box_iou(two, one) <= 1
    assert box_iou(one, one) == pytest.approx(1)


@given(boxes, st.integers(8, 300), st.integers(8, 300))
def test_a_box_is_clipped_to_the_frame(box: Box, width: int, height: int) -> None:
    found = clip_box(box, width, height)
    if found is not None:
        assert 0 <= found[0] < found[2] <= width
        assert 0 <= found[1] < found[3] <= height


def test_locations_round_trip_sorted(tmp_path: Path) -> None:
    found = {"Tom": BoxTrack([(1, 2, 3, 4), None, (2, 2, 4, 4)], [0.5, 0, 0.25])}
    rows = build_location_rows(clip("b"), found) + build_location_rows(clip("a"), found)
    write_locations(tmp_path / "one.parquet", rows)
    write_locations(tmp_path / "two.parquet", rows[::-1])
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    back = load_locations(tmp_path / "one.parquet")
    assert [(row["clip_id"], row["frame"]) for row in back] == [
        ("a", 0),
        ("a", 2),
        ("b", 0),
        ("b", 2),
    ]
    assert back[1] == {
        "clip_id": "a",
        "frame": 2,
        "character": "Tom",
        "x0": 2,
        "y0": 2,
        "x1": 4,
        "y1": 4,
        "score": 0.25,
    }


def test_another_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "other.parquet").write_bytes(b"nothing")
    with pytest.raises(BadInput, match="locations"):
        load_locations(tmp_path / "other.parquet")


@given(st.integers(1, 40), st.integers(2, 81), st.integers(1, 80))
def test_settings_that_link_no_detections_are_rejected(
    every: int, frames: int, max_gap: int
) -> None:
    for kind, values, sampled in (
        (FaceLocatorSettings, {"frame_stride": every}, strided_frame_indices(81, every)),
        (EmbeddingLocatorSettings, {"frame_stride": every}, strided_frame_indices(81, every)),
        (VlmLocatorSettings, {"num_frames": frames}, evenly_spaced_indices(81, frames)),
    ):
        seen = {number: BoxDetection((10, 10, 60, 60), 0.9) for number in sampled}
        complete = None not in interpolate_detections(seen, 81, max_gap).boxes
        if complete:
            kind.model_validate({**values, "max_gap": max_gap})
        else:
            with pytest.raises(ValidationError, match="no character would be located"):
                kind.model_validate({**values, "max_gap": max_gap})
