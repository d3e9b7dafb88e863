"""Frames as VBench's transforms give them to its networks, equal to torchvision's bit by bit.

Held to torchvision's ``Resize``, ``CenterCrop`` and ``Normalize`` as VBench's ``utils.py`` composes
them. None of its resizing is antialiased. Most dimensions resize floats (their reader makes float
tensors); the video-text one resizes uint8, where values are clamped and rounded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 224

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_DEVIATION = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_DEVIATION = (0.229, 0.224, 0.225)


def clip_frames(pixels_TCHW: Tensor, *, as_bytes: bool) -> Tensor:
    """uint8 pixels to CLIP's frames_TCHW: short side to 224 bicubic, centre crop, normalised.

    ``as_bytes``: the resized picture is rounded to bytes, as torchvision does with uint8 tensors;
    else it keeps its fractions and may overshoot 0..255, as with float tensors.
    """
    resized_TCHW = short_side(pixels_TCHW, "bicubic")
    if as_bytes:
        resized_TCHW = resized_TCHW.clamp(0, 255).round()
    return normalised(centre(resized_TCHW), CLIP_MEAN, CLIP_DEVIATION)


def dino_frames(pixels_TCHW: Tensor) -> Tensor:
    """uint8 pixels to DINO's frames_TCHW: short side to 224 bilinear, not cropped, normalised."""
    return normalised(short_side(pixels_TCHW, "bilinear"), IMAGENET_MEAN, IMAGENET_DEVIATION)


def short_side(pixels_TCHW: Tensor, mode: str) -> Tensor:
    """Float pixels with the short side at 224 and the long one in proportion, rounded down."""
    height, width = pixels_TCHW.shape[-2:]
    short, long = sorted((height, width))
    long_side = int(SIDE * long / short)
    size = (SIDE, long_side) if height <= width else (long_side, SIDE)
    floats_TCHW = pixels_TCHW.float()
    if size == (height, width):
        return floats_TCHW
    return F.interpolate(floats_TCHW, size=size, mode=mode, align_corners=False, antialias=False)


def centre(pixels_TCHW: Tensor) -> Tensor:
    """The middle 224 x 224; halves of a pixel are rounded to even, as torchvision does."""
    height, width = pixels_TCHW.shape[-2:]
    top, left = round((height - SIDE) / 2.0), round((width - SIDE) / 2.0)
    return pixels_TCHW[..., top : top + SIDE, left : left + SIDE]


def normalised(
    pixels_TCHW: Tensor, mean: tuple[float, ...], deviation: tuple[float, ...]
) -> Tensor:
    """(pixels / 255 - mean) / deviation, channel by channel."""
    mean_C11 = torch.tensor(mean, device=pixels_TCHW.device).view(-1, 1, 1)
    deviation_C11 = torch.tensor(deviation, device=pixels_TCHW.device).view(-1, 1, 1)
    return (pixels_TCHW / 255.0 - mean_C11) / deviation_C11
