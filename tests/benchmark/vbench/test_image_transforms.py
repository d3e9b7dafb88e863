"""Frame preprocessing equals VBench's transforms."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.benchmark.vbench import image_transforms

SIDES = st.integers(8, 400)


@settings(max_examples=30)
@given(SIDES, SIDES)
def test_the_short_side_is_224_and_the_long_one_in_proportion(height: int, width: int) -> None:
    sized = image_transforms.resize_short_side(
        torch.zeros(1, 1, height, width, dtype=torch.uint8), "bilinear"
    )
    found = tuple(sized.shape[-2:])
    assert min(found) == 224
    assert max(found) == 224 * max(height, width) // min(height, width)
    assert (found[0] <= found[1]) == (height <= width) or found[0] == found[1]
    assert image_transforms.center_crop(sized).shape[-2:] == (224, 224)


def test_a_center_at_half_a_pixel_is_rounded_to_even() -> None:
    columns = torch.arange(227.0).expand(1, 1, 224, 227)
    assert image_transforms.center_crop(columns)[0, 0, 0, 0] == 2  # 1.5
    columns = torch.arange(225.0).expand(1, 1, 224, 225)
    assert image_transforms.center_crop(columns)[0, 0, 0, 0] == 0  # 0.5


def test_resizing_is_not_antialiased() -> None:
    """Every second column is black: bilinear averages two at half size and picks one at a third."""
    stripes = torch.zeros(1, 1, 448, 448)
    stripes[..., 1::2] = 200
    assert image_transforms.resize_short_side(stripes, "bilinear").unique().tolist() == [100.0]
    third = image_transforms.resize_short_side(
        torch.nn.functional.pad(stripes, (0, 224, 0, 224)), "bilinear"
    )
    assert set(third[0, 0, 0, :149].unique().tolist()) == {0.0, 200.0}


def test_bytes_are_rounded_and_clamped_and_floats_are_not() -> None:
    edge = torch.zeros(1, 3, 30, 30, dtype=torch.uint8)
    edge[..., 15:] = 255

    def levels(as_bytes: bool) -> torch.Tensor:
        ready = image_transforms.clip_transform(edge, round_to_uint8=as_bytes)
        mean = torch.tensor(image_transforms.CLIP_MEAN).view(-1, 1, 1)
        deviation = torch.tensor(image_transforms.CLIP_STD).view(-1, 1, 1)
        return (ready * deviation + mean) * 255

    floats, rounded = levels(False), levels(True)
    assert floats.min() < -1
    assert floats.max() > 256
    assert torch.allclose(rounded, floats.clamp(0, 255).round(), atol=1e-3)
    assert not torch.allclose(floats, floats.round(), atol=0.1)


def test_each_channel_has_its_own_mean_and_std() -> None:
    white = torch.full((1, 3, 224, 224), 255.0)
    found = image_transforms.dino_transform(white)[0, :, 0, 0]
    assert found.tolist() == pytest.approx([2.2489083, 2.4285715, 2.64], abs=1e-5)
