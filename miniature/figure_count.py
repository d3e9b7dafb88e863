"""Count the figures in videos, from what the judge says of every cell.

Cells that show a figure and touch are one figure, unless two groups of them differ in most
attributes: two figures that touch.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from miniature.figures import ATTRIBUTES

MIN_CELLS = 12
"""Of a figure in one step of time."""

MIN_GROUP = 8
"""Of a group with one set of attributes among cells that touch."""

MIN_DIFFERENT = 3
"""Attributes in which two groups that touch must differ to be two figures."""

Integers = NDArray[np.int64]


def count_figures(outputs: Mapping[str, torch.Tensor]) -> list[int]:
    """Return the number of figures in each video: what most of its steps of time show.

    ``outputs``: of the judge, for a batch of videos.
    """
    figure_BTHW = (outputs["figure"].softmax(1)[:, 1] > 0.5).cpu().numpy()
    attributes_BTHWA = np.stack(
        [outputs[name].argmax(1).cpu().numpy() for name in (*ATTRIBUTES, "style")], axis=-1
    )
    counts = []
    for figure_THW, attributes_THWA in zip(figure_BTHW, attributes_BTHWA, strict=True):
        steps = [_count(*step) for step in zip(figure_THW, attributes_THWA, strict=True)]
        counts.append(int(np.median(steps)))
    return counts


def _count(figure_HW: NDArray[np.bool_], attributes_HWA: Integers) -> int:
    labels, regions_HW = cv2.connectedComponents(figure_HW.astype(np.uint8), connectivity=8)
    found = 0
    for label in range(1, labels):
        cells_NA = attributes_HWA[regions_HW == label]
        if len(cells_NA) >= MIN_CELLS:
            found += max(1, _count_groups(cells_NA))
    return found


def _count_groups(cells_NA: Integers) -> int:
    """Count the groups of cells with one set of attributes each, as of two figures that touch."""
    groups: list[tuple[int, ...]] = []
    for attributes, count in Counter(map(tuple, cells_NA.tolist())).most_common():
        if count < MIN_GROUP:
            break
        if all(
            sum(a != b for a, b in zip(attributes, other, strict=True)) >= MIN_DIFFERENT
            for other in groups
        ):
            groups.append(attributes)
    return len(groups)
