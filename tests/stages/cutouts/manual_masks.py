"""Load the manually drawn masks of ``truth/`` and measure other masks against them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

TRUTH = Path(__file__).parent / "truth"
Mask = NDArray[np.bool_]

_OVERSAMPLING = 4
"""Oversampling of polygons; a pixel is mask when at least half of it is covered."""


@dataclass(frozen=True)
class ManualMasks:
    """One character of one clip: its mask [height, width] in some frames, by frame number.

    ``start``: of the clip, seconds of play since the first frame of the demo's ``episode``;
    ``crop``: x, y, width, height of what the clip shows of the source of ``source`` pixels.
    """

    clip_id: str
    character: str
    episode: str
    start: Fraction
    source_size: tuple[int, int]
    crop: list[int]
    masks: dict[int, Mask]


def load_manual_masks() -> list[ManualMasks]:
    """Load all of them, sorted by file name."""
    found = []
    for path in sorted(TRUTH.glob("*.json")):
        document = json.loads(path.read_text())
        size = document["width"], document["height"]
        masks = {
            int(frame): fill_polygons(one["shapes"], size) & ~fill_polygons(one["holes"], size)
            for frame, one in document["frames"].items()
        }
        width, height = document["source"]
        found.append(
            ManualMasks(
                document["clip_id"],
                document["character"],
                document["episode"],
                Fraction(document["start"]),
                (width, height),
                document["crop"],
                masks,
            )
        )
    return found


def fill_polygons(polygons: list[list[list[float]]], size: tuple[int, int]) -> Mask:
    """Rasterize polygons: a pixel is set when at least half of it is covered."""
    width, height = size
    fine = np.zeros((height * _OVERSAMPLING, width * _OVERSAMPLING), np.uint8)
    for polygon in polygons:
        corners = np.rint(np.array(polygon) * _OVERSAMPLING).astype(np.int32)
        cv2.fillPoly(fine, [corners.reshape(-1, 1, 2)], 255)
    covered = cv2.resize(fine, (width, height), interpolation=cv2.INTER_AREA)
    return covered >= 128


def mask_iou(one: Mask, two: Mask) -> float:
    return float((one & two).sum() / max(int((one | two).sum()), 1))


def boundary_errors(mask: Mask, truth: Mask) -> NDArray[np.float64]:
    """Pixels from each point of either outline to the other outline; infinite without a mask.

    Where a character is cut off by the frame there is no outline.
    """
    edges = [_outline(mask), _outline(truth)]
    if not all(edge.any() for edge in edges):
        return np.array([np.inf])
    distances = [
        cv2.distanceTransform((~edge).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for edge in edges
    ]
    return np.concatenate([distances[1][edges[0]], distances[0][edges[1]]]).astype(np.float64)


def _outline(mask: Mask) -> Mask:
    """Pixels of the mask with a neighbour outside of it, in the frame."""
    inner = cv2.erode(
        mask.astype(np.uint8),
        np.ones((3, 3), np.uint8),
        borderType=cv2.BORDER_CONSTANT,
        borderValue=1,
    )
    return mask & (inner == 0)
