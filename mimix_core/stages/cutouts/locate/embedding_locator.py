"""Backend ``embedding``: windows of a frame that look like a reference image. For cartoons.

No face detector knows a cartoon's faces and nothing proposes its figures, so all windows are
proposals: the network looks at a frame once, and the features of every window of several sizes are
the mean of its cells (integral pooling as in R-MAC: Tolias, Sicre, Jegou, "Particular object
retrieval with integral max-pooling of CNN activations", ICLR 2016, with means in place of maxima).
A window is a character's when its features are near those of a reference image of it and clearly
farther from those of every other character. Over the frames, the best path of windows is taken.

The network (EfficientNet-Lite0) was trained on photographs for ImageNet's classes: it tells a
white rabbit from a grey chinchilla, and would not tell twins in two shirts apart. Boxes end on
windows, whose grid is a fifteenth of the frame's height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.media import UnreadableVideo, read_rgb
from mimix_core.media.images import GREY, Image, reference_rgb
from mimix_core.networks.efficientnet import STRIDE, features, load_network
from mimix_core.settings.locator_settings import LikenessLocatorSettings
from mimix_core.stages.cutouts.locate.box_track import (
    Box,
    Located,
    Sighting,
    area,
    iou,
    joined,
    nowhere,
    sampled,
    within,
)
from mimix_core.stages.cutouts.locate.locator_inputs import EmbeddingInputs
from mimix_core.tables import Row

Floats = NDArray[np.float32]

_REFERENCE_SIZE = 224
_ROWS = 15
_HEIGHTS = (4, 5, 6, 8, 10, 12, 14, 15)
_ASPECTS = (0.5, 0.7, 1.0, 1.4)
_CANDIDATES = 48
# What it is worth to a path that two neighbouring boxes are the same; against cosines.
_STEADY = 0.3
# Windows almost as similar as the best one, and much the same: the box is the mean of them all.
_AS_GOOD, _MUCH_THE_SAME = 0.03, 0.5
# The most similar windows end inside a figure, not around it: grown by this share on each side
# (found on the demo's hand-given boxes).
_GROWN = 0.1


@dataclass(frozen=True)
class Windows:
    """All windows of a grid of cells: ``cells_W4`` [x0, y0, x1, y1], and the mean over each.

    ``mean_WN`` times the features of all N cells, row by row, gives the features of all windows.
    """

    cells_W4: NDArray[np.int64]
    mean_WN: Floats


def windows(rows: int, columns: int) -> Windows:
    """Windows of all sizes, each a quarter of its side from the next."""
    cells = []
    for high in (h for h in _HEIGHTS if h <= rows):
        for wide in sorted({max(3, round(high * aspect)) for aspect in _ASPECTS}):
            if wide > columns:
                continue
            for y in _starts(high, rows):
                cells += [(x, y, x + wide, y + high) for x in _starts(wide, columns)]
    means = np.zeros((len(cells), rows, columns), np.float32)
    for mean, (x0, y0, x1, y1) in zip(means, cells, strict=True):
        mean[y0:y1, x0:x1] = 1 / ((x1 - x0) * (y1 - y0))
    return Windows(np.array(cells), means.reshape(len(cells), rows * columns))


def _starts(side: int, of: int) -> list[int]:
    """Every quarter of a side, and the one that ends with the frame."""
    return sorted({*range(0, of - side + 1, max(1, side // 4)), of - side})


class EmbeddingLocator:
    """Looks at every so many frames of a clip; one pass of the network each."""

    name = "embedding/efficientnet-lite0"

    def __init__(self, inputs: EmbeddingInputs, folder: Path) -> None:
        """Raises MissingModel without the network, BadInput for a reference that is no image."""
        self._settings: LikenessLocatorSettings = inputs.settings
        self._folder = folder
        self._network: Any = load_network()
        self._known = {
            one.name: np.stack([self._reference(file.path) for file in one.references])
            for one in inputs.characters
            if one.references
        }
        self._grids: dict[tuple[int, int], Windows] = {}

    def locate(self, clip: Row, characters: Sequence[str]) -> dict[str, Located]:
        asked = [name for name in characters if name in self._known]
        found = {name: nowhere(clip["frames"]) for name in characters}
        if not asked:
            return found
        try:
            frames_NHWC = read_rgb(self._folder / clip["file"])
        except UnreadableVideo as error:
            return {name: nowhere(clip["frames"], str(error)) for name in characters}
        numbers = sampled(len(frames_NHWC), self._settings.every)
        looks = [self._look(frames_NHWC[number]) for number in numbers]
        for name in asked:
            candidates = [look.of(name, self._settings) for look in looks]
            path = best_path(candidates, self._settings)
            sightings = {
                number: look.settled(seen, name)
                for number, look, seen in zip(numbers, looks, path, strict=True)
                if seen is not None
            }
            found[name] = joined(sightings, len(frames_NHWC), self._settings.max_gap)
        return found

    def _reference(self, path: Path) -> Floats:
        size = (_REFERENCE_SIZE, _REFERENCE_SIZE)
        square = cv2.resize(reference_rgb(path, GREY), size, interpolation=cv2.INTER_AREA)
        return _unit(features(self._network, square.astype(np.uint8)).mean(axis=(0, 1)))

    def _look(self, frame_HWC: Image) -> Look:
        height, width = frame_HWC.shape[:2]
        columns = max(3, round(width / height * _ROWS))
        size = (columns * STRIDE, _ROWS * STRIDE)
        shown = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        cells = features(self._network, shown)
        grid = self._grids.setdefault((_ROWS, columns), windows(_ROWS, columns))
        pooled_WC = _unit(grid.mean_WN @ cells.reshape(_ROWS * columns, -1))
        return Look(
            similarity={
                # Rounded: what two processors add up in another order is the same here.
                name: np.round((pooled_WC @ vectors.T).max(axis=1).astype(np.float64), 4)
                for name, vectors in self._known.items()
            },
            cells_W4=grid.cells_W4,
            cell=(width / columns, height / _ROWS),
            size=(width, height),
        )


@dataclass(frozen=True)
class Look:
    """One frame: how similar each of its windows is to each character.

    ``cell``: width and height of a cell in pixels of the frame; ``size``: those of the frame.
    """

    similarity: Mapping[str, NDArray[np.float64]]
    cells_W4: NDArray[np.int64]
    cell: tuple[float, float]
    size: tuple[int, int]

    @cached_property
    def boxes_W4(self) -> NDArray[np.float64]:
        scale = np.array([*self.cell, *self.cell])
        boxes: NDArray[np.float64] = self.cells_W4 * scale
        return boxes

    def of(self, name: str, settings: LikenessLocatorSettings) -> list[Sighting]:
        """Windows that may be the character, the most similar first."""
        mine = self.similarity[name]
        others = [other for one, other in self.similarity.items() if one != name]
        second = np.max(others, axis=0) if others else np.zeros_like(mine)
        fit = (mine >= settings.min_similarity) & (mine - second >= settings.min_margin)
        order = np.argsort(-mine, kind="stable")
        return [
            Sighting(_box(self.boxes_W4[window]), float(mine[window]))
            for window in order[fit[order]][:_CANDIDATES]
        ]

    def settled(self, seen: Sighting, name: str) -> Sighting:
        """With the mean of the windows that are as good and much the same for its box."""
        as_good = self.boxes_W4[self.similarity[name] >= seen.score - _AS_GOOD]
        near = as_good[_overlap(as_good, seen.box) >= _MUCH_THE_SAME]
        x0, y0, x1, y1 = _box(near.mean(axis=0))
        dx, dy = _GROWN * (x1 - x0), _GROWN * (y1 - y0)
        box = within((x0 - dx, y0 - dy, x1 + dx, y1 + dy), *self.size)
        assert box is not None
        return Sighting(box, seen.score)


def best_path(
    candidates: Sequence[Sequence[Sighting]], settings: LikenessLocatorSettings
) -> list[Sighting | None]:
    """One sighting, or none, for each frame: similar windows that stay where they are.

    A sighting is worth its similarity, none is worth ``min_similarity``; neighbours that overlap
    are worth more. Viterbi's algorithm.
    """
    states: list[list[Sighting | None]] = [[None, *found] for found in candidates]
    best: list[list[float]] = []
    back: list[list[int]] = []
    for number, here in enumerate(states):
        totals, sources = [], []
        for seen in here:
            worth = settings.min_similarity if seen is None else seen.score
            if number == 0:
                totals.append(worth)
                sources.append(0)
                continue
            ways = [
                before + _link(old, seen)
                for before, old in zip(best[-1], states[number - 1], strict=True)
            ]
            source = max(range(len(ways)), key=ways.__getitem__)
            totals.append(worth + ways[source])
            sources.append(source)
        best.append(totals)
        back.append(sources)
    path: list[Sighting | None] = []
    state = max(range(len(best[-1])), key=best[-1].__getitem__) if best else 0
    for number in range(len(states) - 1, -1, -1):
        path.append(states[number][state])
        state = back[number][state]
    return path[::-1]


def _link(one: Sighting | None, two: Sighting | None) -> float:
    return 0.0 if one is None or two is None else _STEADY * iou(one.box, two.box)


def _overlap(boxes_W4: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """IoU of each box with one."""
    low = np.maximum(boxes_W4[:, :2], box[:2])
    both = np.clip(np.minimum(boxes_W4[:, 2:], box[2:]) - low, 0, None).prod(axis=1)
    sizes = (boxes_W4[:, 2:] - boxes_W4[:, :2]).prod(axis=1)
    overlap: NDArray[np.float64] = both / (sizes + area(box) - both)
    return overlap


def _box(sides: NDArray[np.float64]) -> Box:
    x0, y0, x1, y1 = (float(side) for side in sides)
    return x0, y0, x1, y1


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = vectors / np.maximum(lengths, 1e-12)
    return unit
