from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import BadInput
from mimix_core.media import FrameResizer, Rect, open_video, plan_crop_resize
from mimix_core.stages.cutouts.locate import (
    BoxAnnotationLocator,
    BoxKeyframe,
    clip_content_rect,
    interpolate_box,
    load_box_annotations,
    map_box_to_clip,
)
from mimix_core.tables import Row
from tests.factories import clip, video

NAMES = {"tom": "Tom", "the cat": "Tom", "jerry": "Jerry"}


def keyframe(time: str, x0: float) -> BoxKeyframe:
    return BoxKeyframe.model_validate(
        {"time": time, "character": "Tom", "box": (x0, 0.25, x0 + 0.25, 0.75)}
    )


TRACK = (keyframe("1", 0.0), keyframe("3", 0.5), keyframe("6.001", 0.75))


@pytest.mark.parametrize(
    ("time", "x0"),
    [
        ("0.99", None),
        ("1", 0.0),
        ("1.5", 0.125),
        ("3", 0.5),
        ("3.01", None),
        ("6.001", 0.75),
        ("6.002", None),
    ],
)
def test_boxes_are_interpolated_linearly_between_near_keyframes(
    time: str, x0: float | None
) -> None:
    box = interpolate_box(TRACK, Fraction(time))
    assert box == (None if x0 is None else (x0, 0.25, x0 + 0.25, 0.75))


def test_a_gap_of_three_seconds_is_interpolated() -> None:
    assert interpolate_box((keyframe("0", 0.0), keyframe("3", 0.5)), Fraction(1)) is not None


def test_boxes_follow_the_crop_and_the_scale_of_the_clip() -> None:
    # Source 128 x 96, of which 64 x 48 from (32, 24) on fill a clip of 128 x 96: twice as large.
    row = clip("a", crop=[32, 24, 64, 48], width=128, height=96)
    assert map_box_to_clip((0.25, 0.25, 0.75, 0.75), row) == (0, 0, 128, 96)
    assert map_box_to_clip((0.5, 0.5, 0.625, 0.75), row) == (64, 48, 96, 96)
    # A box is clipped to the crop; one that is almost outside of it is dropped.
    assert map_box_to_clip((0.0, 0.25, 0.5, 0.5), row) == (0, 0, 64, 48)
    assert map_box_to_clip((0.0, 0.0, 0.251, 1.0), row) is None
    assert map_box_to_clip((0.8, 0.3, 0.9, 0.5), row) is None


@given(
    st.tuples(*[st.floats(0, 1)] * 4).filter(lambda b: b[0] + 0.1 < b[2] and b[1] + 0.1 < b[3]),
    st.tuples(*[st.integers(0, 40)] * 2, *[st.integers(20, 56)] * 2),
)
def test_a_box_in_a_clip_lies_in_its_frame(
    box: tuple[float, float, float, float], crop: tuple[int, int, int, int]
) -> None:
    row = clip("a", crop=list(crop))
    found = map_box_to_clip(box, row)
    if found is not None:
        x0, y0, x1, y1 = found
        assert 0 <= x0 < x1 <= row["width"]
        assert 0 <= y0 < y1 <= row["height"]


def padded_or_cropped_clip(width: int, height: int, how: str) -> tuple[Row, Rect]:
    """Return a clip of 832 x 480 from a source of that size, and its content rectangle."""
    shape = plan_crop_resize(Rect(0, 0, width, height), 832, 480, how)  # type: ignore[arg-type]
    crop = shape.crop
    row = clip(
        "a",
        source_width=width,
        source_height=height,
        crop=[crop.x, crop.y, crop.width, crop.height],
        width=832,
        height=480,
    )
    left, top = (832 - shape.scaled_width) / 2, (480 - shape.scaled_height) / 2
    return row, Rect(int(left), int(top), shape.scaled_width, shape.scaled_height)


@given(st.integers(160, 2000), st.integers(120, 1200), st.sampled_from(["crop", "pad"]))
def test_the_content_rect_follows_from_the_clips_row(width: int, height: int, how: str) -> None:
    row, content = padded_or_cropped_clip(width, height, how)
    found = clip_content_rect(row)
    assert abs(found.x - content.x) <= 1
    assert abs(found.y - content.y) <= 1
    assert abs(found.width - content.width) <= 2
    assert abs(found.height - content.height) <= 2


@pytest.mark.parametrize("size", [(128, 96), (128, 64)])
def test_boxes_in_a_padded_clip_lie_in_its_content(tmp_path: Path, size: tuple[int, int]) -> None:
    """The encoder's resizer defines the content rectangle: white on black bars."""
    width, height = size
    video(tmp_path / "white.mp4", np.full((2, height, width, 3), 255, np.uint8))
    row, _ = padded_or_cropped_clip(width, height, "pad")
    with open_video(tmp_path / "white.mp4") as source:
        shape = plan_crop_resize(Rect(0, 0, width, height), 832, 480, "pad")
        picture = FrameResizer(source.info, shape)(next(iter(source.frames()))).to_ndarray(
            format="gray8"
        )
    white = np.argwhere(picture > 128)
    (top, left), (bottom, right) = white.min(axis=0), white.max(axis=0) + 1
    assert map_box_to_clip((0, 0, 1, 1), row) == (left, top, right, bottom)


def test_one_box_a_frame_at_the_time_of_its_source_frame() -> None:
    locator = BoxAnnotationLocator({"Tom": TRACK})
    row = clip("a", start=1500, origin_pts=500)
    tracks = locator.locate(row, ["Tom", "Jerry"])
    tom, jerry = tracks["Tom"], tracks["Jerry"]
    assert len(tom.boxes) == 81
    assert tom.boxes[0] == (0, 12, 16, 36)
    assert tom.boxes[16] == (16, 12, 32, 36)  # a second later
    assert [score > 0 for score in tom.scores] == [box is not None for box in tom.boxes]
    assert jerry.boxes == [None] * 81


GOOD = """\
boxes:
  - {time: "2.5", character: the cat, box: [0, 0.1, 0.5, 1]}
  - {time: "1.5", character: Tom, box: [0, 0.1, 0.5, 1]}
"""


def read(folder: Path, text: str) -> BoxAnnotationLocator:
    path = folder / "boxes.yaml"
    path.write_text(text)
    return load_box_annotations(file_ref(path), NAMES)


def test_keyframes_are_sorted_and_aliases_resolved(tmp_path: Path) -> None:
    locator = read(tmp_path, GOOD)
    assert [k.time for k in locator.keyframes["Tom"]] == [Fraction(3, 2), Fraction(5, 2)]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Tom", "Spike", "line 3"),
        ("[0, 0.1, 0.5, 1]", "[0, 0.1, 0.5, 1.1]", "line 2"),
        ("[0, 0.1, 0.5, 1]", "[0.5, 0.1, 0.5, 1]", "not a box"),
        ('"2.5"', "2.5", "quotes"),
        ('"2.5"', '"1.5"', "two boxes at 1.5 s"),
    ],
)
def test_an_error_in_a_boxes_file_is_located(
    tmp_path: Path, old: str, new: str, words: str
) -> None:
    with pytest.raises(BadInput, match=words):
        read(tmp_path, GOOD.replace(old, new))


def test_without_boxes_no_character_is_located() -> None:
    found = load_box_annotations(None, NAMES).locate(clip("a"), ["Tom"])
    assert found["Tom"].boxes == [None] * 81
