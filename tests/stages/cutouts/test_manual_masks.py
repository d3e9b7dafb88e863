from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from mimix_core.engine.artifacts import file_ref
from mimix_core.stages.cutouts.locate import interpolate_box, load_box_annotations, map_box_to_clip
from tests.factories import clip
from tests.paths import DEMO
from tests.stages.cutouts.manual_masks import (
    boundary_errors,
    fill_polygons,
    load_manual_masks,
    mask_iou,
)


def test_there_are_twenty_manual_masks_of_both_styles() -> None:
    found = load_manual_masks()
    assert sum(len(one.masks) for one in found) >= 20
    assert {one.character for one in found} == {"Bunny", "Gamera", "Clara"}
    assert len({one.clip_id.rsplit("-", 1)[0] for one in found}) == 4  # episodes
    for one in found:
        for frame, mask in one.masks.items():
            assert 0 <= frame <= 80
            assert mask.shape == (480, 832)
            assert 0.02 < mask.mean() < 0.6


def test_a_pixel_is_mask_when_half_covered() -> None:
    mask = fill_polygons([[[1.0, 1.0], [3.0, 1.0], [3.0, 3.0], [1.0, 3.0]]], (8, 6))
    truth = np.zeros((6, 8), bool)
    truth[1:3, 1:3] = True
    assert mask_iou(mask, truth) >= 4 / 9  # polygons of cv2 reach a quarter of a pixel farther
    assert mask[1:3, 1:3].all()
    wide = fill_polygons([[[10.0, 10.0], [90.0, 10.0], [90.0, 60.0], [10.0, 60.0]]], (100, 80))
    assert wide.sum() == pytest.approx(80 * 50, rel=0.03)


def test_an_outline_shifted_by_three_pixels_has_an_error_of_three() -> None:
    square = fill_polygons([[[30.0, 20.0], [70.0, 20.0], [70.0, 60.0], [30.0, 60.0]]], (120, 100))
    moved = np.roll(square, 3, axis=1)
    errors = boundary_errors(moved, square)
    assert errors.max() == pytest.approx(3)
    assert boundary_errors(square, square).max() == 0
    assert np.isinf(boundary_errors(np.zeros_like(square), square)).all()


def test_a_side_at_the_frame_is_not_an_outline() -> None:
    cut = fill_polygons([[[0.0, 0.0], [40.0, 0.0], [40.0, 100.0], [0.0, 100.0]]], (120, 100))
    more = fill_polygons([[[0.0, 0.0], [44.0, 0.0], [44.0, 100.0], [0.0, 100.0]]], (120, 100))
    assert boundary_errors(more, cut).mean() == pytest.approx(4)


def test_manual_masks_lie_in_the_manual_boxes() -> None:
    """Both were annotated manually and independently."""
    names = {"bunny": "Bunny", "gamera": "Gamera", "clara": "Clara"}
    for one in load_manual_masks():
        boxes = load_box_annotations(
            file_ref(DEMO / "scripts" / f"{one.episode}.boxes.yaml"), names
        )
        row = clip(
            one.clip_id,
            source_width=one.source_size[0],
            source_height=one.source_size[1],
            crop=one.crop,
            width=832,
            height=480,
        )
        for frame, mask in one.masks.items():
            given = interpolate_box(boxes.keyframes[one.character], one.start + Fraction(frame, 16))
            assert given is not None
            box = map_box_to_clip(given, row)
            assert box is not None
            x0, y0, x1, y1 = (round(side) for side in box)
            inside = mask[y0:y1, x0:x1].sum() / mask.sum()
            assert inside > 0.95, (one.clip_id, frame, inside)
            assert mask.sum() > 0.45 * (x1 - x0) * (y1 - y0), (one.clip_id, frame)
