"""Crop and pad: the right part of the frame, at the right position."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.media import FrameResizer, Rect, open_video, plan_crop_resize
from tests.media_factory import Shot, read_counter, write_video

SIDES = st.integers(8, 1000).map(lambda half: 2 * half)


@given(SIDES, SIDES, st.sampled_from([(832, 480), (480, 832), (624, 624)]))
def test_both_modes_stay_inside_and_preserve_the_aspect_ratio(
    width: int, height: int, bucket: tuple[int, int]
) -> None:
    area = Rect(6, 4, width, height)
    cropped = plan_crop_resize(area, *bucket, "crop").crop
    assert area.x <= cropped.x and cropped.x + cropped.width <= area.x + width
    assert area.y <= cropped.y and cropped.y + cropped.height <= area.y + height
    assert not any(v % 2 for v in (cropped.x, cropped.y, cropped.width, cropped.height))
    # No more is lost than the aspect ratio requires: one side stays complete.
    assert cropped.width == width or cropped.height == height
    aspect = Fraction(*bucket)
    assert abs(cropped.width - cropped.height * aspect) <= max(2, 2 * aspect)
    padded = plan_crop_resize(area, *bucket, "pad")
    assert padded.crop == area
    assert padded.scaled_width <= bucket[0] and padded.scaled_height <= bucket[1]
    assert (
        padded.scaled_width == bucket[0]
        or padded.scaled_height == bucket[1]
        or (bucket[0] - padded.scaled_width <= 2 or bucket[1] - padded.scaled_height <= 2)
    )


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(4, 3)])
def test_the_crop_shows_the_requested_area(tmp_path: Path, rotation: int, aspect: Fraction) -> None:
    path = write_video(tmp_path / "v.mp4", [Shot(3)], rotation=rotation, sample_aspect=aspect).path
    with open_video(path) as video:
        width, height = video.info.geometry.width, video.info.geometry.height
        area = Rect(width // 20 * 2, height // 20 * 2, width // 10 * 8, height // 10 * 6)
        bucket = (area.width // 4 * 2, area.height // 4 * 2)
        crop_resize = plan_crop_resize(area, *bucket, "crop")
        resizer = FrameResizer(video.info, crop_resize)
        crop = (
            crop_resize.crop.x,
            crop_resize.crop.y,
            crop_resize.crop.width,
            crop_resize.crop.height,
        )
        for number, frame in enumerate(video.frames()):
            resized = resizer(frame)
            assert (resized.width, resized.height, resized.format.name) == (*bucket, "yuv420p")
            assert read_counter(resized.to_ndarray(format="rgb24"), crop, (width, height)) == number


def test_padding_is_black_and_centered(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.mp4", [Shot(2)]).path
    with open_video(path) as video:
        resizer = FrameResizer(video.info, plan_crop_resize(Rect(0, 0, 320, 192), 160, 160, "pad"))
        image = resizer(video.first_frame).to_ndarray(format="rgb24")
    assert image.shape == (160, 160, 3)
    assert image[:30].max() <= 8 and image[-30:].max() <= 8
    assert read_counter(np.ascontiguousarray(image[32:128])) == 0
