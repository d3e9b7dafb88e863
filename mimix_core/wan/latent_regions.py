"""Find the latent cells that a character's mask touches, and weigh a sample's loss by them.

A cell of Wan's latents encodes a block of pixels: the first latent frame the first frame of the
video, each further one the next 4 frames (1 + 4k frames give 1 + k), and each row and
column 8 of the video's. Other backbones have other strides (``Backbone.vae_stride``), and
latents can be of a resized video, so rows and columns are taken from the sizes of both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Cells = NDArray[np.bool_]
FrameTransform = tuple[float, float, float]
"""Scale, x and y: where a mask's frame lies in the video's frame, in pixels of the video."""

IDENTITY: FrameTransform = (1.0, 0.0, 0.0)

_SOLID = 128
"""Alpha from which a pixel belongs to the character: half covered."""

_ROUNDING = 1e-6
"""A cell that is touched by less than this share of a pixel is only touched by rounding."""


def touched_cells(
    alpha_NHW: NDArray[np.uint8],
    path: Sequence[FrameTransform],
    video_size: tuple[int, int],
    latent_shape: tuple[int, int, int],
    frame_stride: int,
) -> Cells:
    """Return cells_THW: which latent cells contain a pixel of the mask.

    ``path``: the place of each frame of the mask in the video, one transform for all if it has
    one. ``video_size``: width and height of the video, before it was resized for the latents.
    ``latent_shape``: frames, rows and columns. ``frame_stride``: frames of the video for each
    latent frame after the first. Raises ValueError for numbers of frames that do not
    fit each other.
    """
    count = len(alpha_NHW)
    frames, rows, columns = latent_shape
    if count != 1 + frame_stride * (frames - 1):
        raise ValueError(f"{count} frames of masks do not fit {frames} of latents")
    transforms = list(path) * count if len(path) == 1 else list(path)
    if len(transforms) != count:
        raise ValueError(f"{len(transforms)} transforms for {count} frames of masks")
    cell_width, cell_height = video_size[0] / columns, video_size[1] / rows
    cells_THW = np.zeros(latent_shape, np.bool_)
    for index, (alpha_HW, (scale, x, y)) in enumerate(zip(alpha_NHW, transforms, strict=True)):
        height, width = alpha_HW.shape
        top, bottom = _pixel_windows(rows, cell_height, scale, y, height)
        left, right = _pixel_windows(columns, cell_width, scale, x, width)
        sums = cv2.integral((alpha_HW >= _SOLID).astype(np.uint8))
        counts_HW = sums[bottom][:, right] - sums[top][:, right]
        counts_HW -= sums[bottom][:, left] - sums[top][:, left]
        cells_THW[-(-index // frame_stride)] |= counts_HW > 0
    return cells_THW


def _pixel_windows(
    cells: int, cell_size: float, scale: float, offset: float, pixels: int
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the half-open range of the mask's pixels under each cell of a row or column.

    Pixel p of the mask covers ``scale * p + offset`` to ``scale * (p + 1) + offset`` in the video.
    """
    edges = (np.arange(cells + 1) * cell_size - offset) / scale
    begin = np.floor(edges[:-1] + _ROUNDING).clip(0, pixels).astype(np.intp)
    end = np.ceil(edges[1:] - _ROUNDING).clip(0, pixels).astype(np.intp)
    return begin, np.maximum(begin, end)


def cell_weights(regions_KTHW: Cells, weight: float, limit: float) -> NDArray[np.float32]:
    """Compute weights_THW of a sample's loss, of mean 1, from the cells of its K characters.

    With 1 for the whole video, ``weight`` is what all characters count together: each has the same
    part of it, however few cells it takes up, for its part is divided by their number. No cell
    counts more than ``limit`` times a cell without a character. The weights depend on this sample
    alone, so neither its batch nor the number of processes changes them. Without a character all
    are 1.
    """
    total = math.prod(regions_KTHW.shape[1:])
    areas = regions_KTHW.sum(axis=(1, 2, 3))
    present = np.flatnonzero(areas)
    weights_THW = np.ones(regions_KTHW.shape[1:], np.float64)
    for index in present:
        share = weight / len(present) * total / areas[index]
        weights_THW += share * regions_KTHW[index]
    np.minimum(weights_THW, limit, out=weights_THW)
    weights_THW /= weights_THW.mean()
    return weights_THW.astype(np.float32)
