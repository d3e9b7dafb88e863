"""Preprocess frames as VBench's transforms do, with values bit-identical to torchvision's.

They equal torchvision's ``Resize``, ``CenterCrop`` and ``Normalize`` as VBench's ``utils.py``
composes them. Resizing is never antialiased. Most dimensions resize floats (their reader returns
float tensors); the video-text dimension resizes uint8, where values are clamped and rounded.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

INPUT_SIZE = 224

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def clip_transform(pixels_TCHW: Tensor, *, round_to_uint8: bool) -> Tensor:
    """Convert uint8 pixels to CLIP's frames_TCHW: resize (bicubic), center crop and normalize.

    ``round_to_uint8``: clamp and round the resized frames, as torchvision does with uint8 tensors;
    otherwise they may overshoot 0..255, as with float tensors.
    """
    resized_TCHW = resize_short_side(pixels_TCHW, "bicubic")
    if round_to_uint8:
        resized_TCHW = resized_TCHW.clamp(0, 255).round()
    return normalize(center_crop(resized_TCHW), CLIP_MEAN, CLIP_STD)


def dino_transform(pixels_TCHW: Tensor) -> Tensor:
    """Convert uint8 pixels to DINO's frames_TCHW: resize (bilinear) and normalize, uncropped."""
    return normalize(resize_short_side(pixels_TCHW, "bilinear"), IMAGENET_MEAN, IMAGENET_STD)


def resize_short_side(pixels_TCHW: Tensor, mode: str) -> Tensor:
    """Resize the short side to 224 and the long side in proportion, rounded down; float32."""
    height, width = pixels_TCHW.shape[-2:]
    short, long = sorted((height, width))
    long_side = int(INPUT_SIZE * long / short)
    size = (INPUT_SIZE, long_side) if height <= width else (long_side, INPUT_SIZE)
    floats_TCHW = pixels_TCHW.float()
    if size == (height, width):
        return floats_TCHW
    return F.interpolate(floats_TCHW, size=size, mode=mode, align_corners=False, antialias=False)


def center_crop(pixels_TCHW: Tensor) -> Tensor:
    """Crop the central 224 x 224; half pixels are rounded to even, as in torchvision."""
    height, width = pixels_TCHW.shape[-2:]
    top, left = round((height - INPUT_SIZE) / 2.0), round((width - INPUT_SIZE) / 2.0)
    return pixels_TCHW[..., top : top + INPUT_SIZE, left : left + INPUT_SIZE]


def normalize(pixels_TCHW: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """Return (pixels / 255 - mean) / std, per channel."""
    mean_C11 = torch.tensor(mean, device=pixels_TCHW.device).view(-1, 1, 1)
    std_C11 = torch.tensor(std, device=pixels_TCHW.device).view(-1, 1, 1)
    return (pixels_TCHW / 255.0 - mean_C11) / std_C11
