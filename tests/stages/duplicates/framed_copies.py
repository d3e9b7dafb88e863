"""Clips shown smaller: within a border, over another clip."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]


def show_within(
    background: Images, images: Images, share: float, position: tuple[float, float]
) -> Images:
    """Show ``images`` at ``share`` of their width over a background of the same frames and size.

    ``position``: where, 0 (left, top) to 1. Images are uint8 [frames, height, width, 3].
    """
    height, width = images.shape[1:3]
    wide, high = round(width * share), round(height * share)
    left, top = round((width - wide) * position[0]), round((height - high) * position[1])
    result = background.copy()
    for shown, image in zip(result, images, strict=True):
        shown[top : top + high, left : left + wide] = cv2.resize(
            image, (wide, high), interpolation=cv2.INTER_AREA
        )
    return result


def _plain(images: Images, seed: int) -> Images:
    color = np.random.default_rng(seed).integers(0, 256, 3)
    return np.broadcast_to(color.astype(np.uint8), images.shape)


def _ornament(images: Images, seed: int) -> Images:
    height, width = images.shape[1:3]
    tiles = np.random.default_rng(seed).integers(0, 256, (12, 20, 3)).astype(np.uint8)
    tiled = cv2.resize(tiles, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.broadcast_to(tiled, images.shape)


def _blurred(images: Images, seed: int) -> Images:
    """What is shown, enlarged and blurred, as behind narrow videos."""
    return np.stack([cv2.GaussianBlur(image, (0, 0), image.shape[1] / 40) for image in images])


BORDERS: dict[str, Callable[[Images, int], Images]] = {
    "plain": _plain,
    "ornament": _ornament,
    "still_image": lambda images, seed: np.broadcast_to(images[seed % len(images)], images.shape),
    "moving_blur": _blurred,
}
"""Borders by name, of the shape of some images: made of these, or of a seed."""
