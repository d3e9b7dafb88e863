from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mimix_core.stages.cutouts.sam2.preprocess import (
    PaddedResize,
    plan_padded_resize,
    resolve_overlaps,
)
from mimix_core.stages.cutouts.sam2.visual_prompts import NEGATIVE_POINT, VisualPrompt


def test_frames_are_prepared_as_sam2s_own_loader_does() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (48, 80, 3)).astype(np.uint8)
    prepared = PaddedResize(48, 80, 0, 128).preprocess(torch.from_numpy(frame)[None])[0]
    pillow = np.asarray(Image.fromarray(frame).resize((128, 128))) / 255
    wanted = (pillow - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    apart_by = np.abs(prepared.permute(1, 2, 0).numpy() - wanted).max(axis=2)
    # Grey levels, of the channel with the smallest deviation: Pillow's weights have few bits.
    assert apart_by.max() * 255 * 0.224 < 1.1
    assert apart_by.mean() * 255 * 0.224 < 0.01


def test_the_margin_goes_on_with_the_outermost_pixels() -> None:
    frame = torch.zeros(1, 40, 40, 3, dtype=torch.uint8)
    frame[:, 30:] = 255
    prepared = PaddedResize(40, 40, 12, 64).preprocess(frame)
    assert prepared[0, :, -12:].min() > prepared[0, :, :40].max()


@given(st.integers(20, 60), st.integers(20, 60), st.integers(0, 12), st.data())
def test_a_mask_comes_back_where_the_picture_was(
    height: int, width: int, margin: int, data: st.DataObject
) -> None:
    fit = PaddedResize(height, width, margin, 256)
    x, y = data.draw(st.integers(3, width - 11)), data.draw(st.integers(3, height - 11))
    # What lies at a rectangle of the frame in SAM2's picture, at SAM2's mask size.
    (left, top), (right, bottom) = fit.prompt_points(VisualPrompt(0, (x, y, x + 8, y + 8)))[0]
    logits = torch.full((1, 64, 64), -5.0)
    across = (torch.arange(64) + 0.5) * 4
    inside_x, inside_y = (across >= left) & (across < right), (across >= top) & (across < bottom)
    logits[0, inside_y[:, None] & inside_x[None, :]] = 5.0
    mask = fit.restore(logits)[0] > 0
    assert mask.shape == (height, width)
    rows, columns = torch.nonzero(mask, as_tuple=True)
    # Half of one of SAM2's mask pixels, in the frame's, and rounding.
    near = (max(height, width) + 2 * margin) / 64 + 1
    assert abs(rows.min() - y) <= near
    assert abs(rows.max() + 1 - y - 8) <= near
    assert abs(columns.min() - x) <= near
    assert abs(columns.max() + 1 - x - 8) <= near


def test_a_box_at_the_frames_edge_goes_on_through_the_margin() -> None:
    fit = plan_padded_resize(400, 600, 0.05, 1024)
    assert fit.margin == 30
    places, labels = fit.prompt_points(
        VisualPrompt(0, (0.5, 100, 600, 399), ((300, 200, NEGATIVE_POINT),))
    )
    assert labels == [2, 3, NEGATIVE_POINT]
    assert places[0] == pytest.approx((0, 130 * 1024 / 460))
    assert places[1] == pytest.approx((1024, 1024))
    assert places[2] == pytest.approx((512, 512))


@given(st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_no_pixel_is_of_two_characters(characters: int, seed: int) -> None:
    numbers = torch.Generator().manual_seed(seed)
    logits = torch.randn(characters, 3, 8, 8, generator=numbers) * 5
    kept = resolve_overlaps(logits)
    assert int((kept > 0).sum(dim=0).max()) <= 1
    assert torch.equal(kept.amax(dim=0), logits.amax(dim=0))
    assert bool((kept <= logits).all())
