"""Backend ``embedding``: windows of a frame whose features match a reference image. For cartoons.

No face detector handles cartoon faces and no detector proposes cartoon figures, so all windows are
proposals: the network processes a frame once, and the features of every window of several sizes
are the mean of its cells (integral pooling as in R-MAC: Tolias, Sicre, Jegou, "Particular object
retrieval with integral max-pooling of CNN activations", ICLR 2016, with means instead of maxima).
A window matches a character if its features are similar to those of a reference image of it and
clearly less similar to those of every other character. Over the frames, the best path of windows
is selected.

The network (EfficientNet-Lite0) was trained on photographs for ImageNet's classes: it separates a
white rabbit from a gray chinchilla, but not twins in two shirts. Boxes end on windows, whose grid
is a fifteenth of the frame's height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.engine.limit_text import format_beside_limit
from mimix_core.media import UnreadableVideo, read_rgb
from mimix_core.media.images import GRAY, RgbImage, load_reference_image
from mimix_core.networks.efficientnet import STRIDE, extract_features, load_network
from mimix_core.settings.locator_settings import EmbeddingLocatorSettings
from mimix_core.stages.cutouts.locate.box_track import (
    Box,
    BoxDetection,
    BoxTrack,
    FrameMatch,
    box_area,
    box_iou,
    clip_box,
    empty_track,
    interpolate_detections,
    strided_frame_indices,
)
from mimix_core.stages.cutouts.locate.locator_inputs import EmbeddingLocatorInputs
from mimix_core.stages.cutouts.locate.reference_bank import (
    ReferenceDistances,
    measure_references,
)
from mimix_core.tables import ClipRow

Floats = NDArray[np.float32]

_REFERENCE_SIZE = 224
_ROWS = 15
_HEIGHTS = (4, 5, 6, 8, 10, 12, 14, 15)
_ASPECTS = (0.5, 0.7, 1.0, 1.4)
_MAX_CANDIDATES = 48
# Value for a path of two identical neighboring boxes, added to cosine similarities.
_OVERLAP_WEIGHT = 0.3
# Windows within this similarity of the best one and with this overlap are averaged to the box.
_SIMILARITY_TOLERANCE, _MIN_OVERLAP = 0.03, 0.5
# The most similar windows lie inside a figure, not around it: expand by this share on each side
# (tuned on the demo's manual boxes).
_EXPANSION = 0.1


@dataclass(frozen=True)
class WindowGrid:
    """All W windows of a grid of N cells, and a matrix that averages features over each window.

    ``cells_W4``: [x0, y0, x1, y1] in cells. ``mean_WN`` times the features of all cells, in row
    order, is the features of all windows.
    """

    cells_W4: NDArray[np.int64]
    mean_WN: Floats


def build_window_grid(rows: int, columns: int) -> WindowGrid:
    """Build windows of all sizes with a stride of a quarter of their side."""
    cells = []
    for high in (h for h in _HEIGHTS if h <= rows):
        for wide in sorted({max(3, round(high * aspect)) for aspect in _ASPECTS}):
            if wide > columns:
                continue
            for y in _window_starts(high, rows):
                cells += [(x, y, x + wide, y + high) for x in _window_starts(wide, columns)]
    means = np.zeros((len(cells), rows, columns), np.float32)
    for mean, (x0, y0, x1, y1) in zip(means, cells, strict=True):
        mean[y0:y1, x0:x1] = 1 / ((x1 - x0) * (y1 - y0))
    return WindowGrid(np.array(cells), means.reshape(len(cells), rows * columns))


def _window_starts(side: int, total: int) -> list[int]:
    """Start positions at every quarter of a side, and the one that ends at the frame's edge."""
    return sorted({*range(0, total - side + 1, max(1, side // 4)), total - side})


class EmbeddingLocator:
    """Locate characters by the similarity of window features to reference images.

    The network processes every ``frame_stride``-th frame of a clip.
    """

    name = "embedding/efficientnet-lite0"

    def __init__(self, inputs: EmbeddingLocatorInputs, folder: Path) -> None:
        """Raises MissingModel without the network, BadInput for an unreadable reference image."""
        self._settings: EmbeddingLocatorSettings = inputs.settings
        self._folder = folder
        self._network: Any = load_network()
        self._reference_features = {
            character.name: np.stack(
                [self._encode_reference(file.path) for file in character.references]
            )
            for character in inputs.characters
            if character.references
        }
        self._grids: dict[tuple[int, int], WindowGrid] = {}

    def locate(self, clip: ClipRow, characters: Sequence[str]) -> dict[str, BoxTrack]:
        comparable = [name for name in characters if name in self._reference_features]
        tracks = {
            name: empty_track(
                clip["frames"],
                evidence="" if name in comparable else f"{name} has no reference image",
            )
            for name in characters
        }
        if not comparable:
            return tracks
        try:
            frames_NHWC = read_rgb(self._folder / clip["file"])
        except UnreadableVideo as error:
            return {name: empty_track(clip["frames"], str(error)) for name in characters}
        numbers = strided_frame_indices(len(frames_NHWC), self._settings.frame_stride)
        similarities = [self._compare_windows(frames_NHWC[number]) for number in numbers]
        for name in comparable:
            candidates = [frame.candidates(name, self._settings) for frame in similarities]
            path = find_best_path(candidates, self._settings)
            detections = {
                number: frame.refine_box(detection, name)
                for number, frame, detection in zip(numbers, similarities, path, strict=True)
                if detection is not None
            }
            track = interpolate_detections(detections, len(frames_NHWC), self._settings.max_gap)
            tracks[name] = replace(track, evidence=self._evidence(name, similarities))
        return tracks

    def inspect_frame(self, frame_HWC: RgbImage) -> list[FrameMatch]:
        """Return the best window of each character in one frame, accepted or not."""
        frame = self._compare_windows(frame_HWC)
        return [frame.best_match(name, self._settings) for name in self._reference_features]

    def reference_distances(self) -> ReferenceDistances:
        """Measure how similar references of one character and of different ones are."""
        return measure_references(
            self._reference_features, lambda one, two: float(one @ two), similarity=True
        )

    def _evidence(self, name: str, frames: Sequence[WindowSimilarities]) -> str:
        """Say how similar the best window of all frames is, and what it lacks."""
        best = max(
            (frame.best_match(name, self._settings) for frame in frames),
            key=lambda match: (not match.problem, match.value),
        )
        text = f"the most similar window at {best.shown}"
        return f"{text}: {best.problem}" if best.problem else text

    def _encode_reference(self, path: Path) -> Floats:
        size = (_REFERENCE_SIZE, _REFERENCE_SIZE)
        square = cv2.resize(load_reference_image(path, GRAY), size, interpolation=cv2.INTER_AREA)
        return _normalize(
            extract_features(self._network, square.astype(np.uint8)).mean(axis=(0, 1))
        )

    def _compare_windows(self, frame_HWC: RgbImage) -> WindowSimilarities:
        height, width = frame_HWC.shape[:2]
        columns = max(3, round(width / height * _ROWS))
        size = (columns * STRIDE, _ROWS * STRIDE)
        resized = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        cells = extract_features(self._network, resized)
        grid = self._grids.setdefault((_ROWS, columns), build_window_grid(_ROWS, columns))
        pooled_WC = _normalize(grid.mean_WN @ cells.reshape(_ROWS * columns, -1))
        return WindowSimilarities(
            similarity={
                # Rounded, so sums in another order on another processor give the same value.
                name: np.round((pooled_WC @ vectors.T).max(axis=1).astype(np.float64), 4)
                for name, vectors in self._reference_features.items()
            },
            cells_W4=grid.cells_W4,
            cell=(width / columns, height / _ROWS),
            size=(width, height),
        )


@dataclass(frozen=True)
class WindowSimilarities:
    """Similarity of each window of one frame to each character.

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

    def candidates(self, name: str, settings: EmbeddingLocatorSettings) -> list[BoxDetection]:
        """Return the windows that match the character, the most similar first."""
        own = self.similarity[name]
        others = [other for character, other in self.similarity.items() if character != name]
        runner_up = np.max(others, axis=0) if others else np.zeros_like(own)
        matches = (own >= settings.min_similarity) & (own - runner_up >= settings.min_margin)
        order = np.argsort(-own, kind="stable")
        return [
            BoxDetection(_to_box(self.boxes_W4[window]), float(own[window]))
            for window in order[matches[order]][:_MAX_CANDIDATES]
        ]

    def best_match(self, name: str, settings: EmbeddingLocatorSettings) -> FrameMatch:
        """Return the character's best window: an accepted one if any, else the most similar."""
        accepted = self.candidates(name, settings)
        if accepted:
            box, score = self.refine_box(accepted[0], name).box, accepted[0].score
            return FrameMatch(name, box, score, f"{score:.2f}")
        window = int(np.argmax(self.similarity[name]))
        value = float(self.similarity[name][window])
        shown, wanted = format_beside_limit(value, settings.min_similarity)
        problem = f"at least {wanted} wanted (cutouts.embedding.min_similarity)"
        if value >= settings.min_similarity:
            others = {
                other: float(values[window])
                for other, values in self.similarity.items()
                if other != name
            }
            rival = max(others, key=lambda other: (others[other], other))
            margin, wanted = format_beside_limit(value - others[rival], settings.min_margin, "+.2f")
            problem = (
                f"{margin} compared with {rival}, at least {wanted} wanted "
                "(cutouts.embedding.min_margin)"
            )
        return FrameMatch(name, _to_box(self.boxes_W4[window]), value, shown, problem)

    def refine_box(self, detection: BoxDetection, name: str) -> BoxDetection:
        """Average the box over windows of about the same similarity and position."""
        similar = self.boxes_W4[self.similarity[name] >= detection.score - _SIMILARITY_TOLERANCE]
        near = similar[_box_ious(similar, detection.box) >= _MIN_OVERLAP]
        x0, y0, x1, y1 = _to_box(near.mean(axis=0))
        dx, dy = _EXPANSION * (x1 - x0), _EXPANSION * (y1 - y0)
        box = clip_box((x0 - dx, y0 - dy, x1 + dx, y1 + dy), *self.size)
        assert box is not None
        return BoxDetection(box, detection.score)


def find_best_path(
    candidates: Sequence[Sequence[BoxDetection]], settings: EmbeddingLocatorSettings
) -> list[BoxDetection | None]:
    """Select one detection or none per frame by similarity and overlap between frames.

    A detection has the value of its similarity, none that of ``min_similarity``; overlap of
    neighbors adds value. Viterbi's algorithm.
    """
    states: list[list[BoxDetection | None]] = [[None, *detections] for detections in candidates]
    best: list[list[float]] = []
    back: list[list[int]] = []
    for number, frame_states in enumerate(states):
        totals, sources = [], []
        for detection in frame_states:
            value = settings.min_similarity if detection is None else detection.score
            if number == 0:
                totals.append(value)
                sources.append(0)
                continue
            path_values = [
                before + _overlap_value(previous, detection)
                for before, previous in zip(best[-1], states[number - 1], strict=True)
            ]
            source = max(range(len(path_values)), key=path_values.__getitem__)
            totals.append(value + path_values[source])
            sources.append(source)
        best.append(totals)
        back.append(sources)
    path: list[BoxDetection | None] = []
    state = max(range(len(best[-1])), key=best[-1].__getitem__) if best else 0
    for number in range(len(states) - 1, -1, -1):
        path.append(states[number][state])
        state = back[number][state]
    return path[::-1]


def _overlap_value(one: BoxDetection | None, two: BoxDetection | None) -> float:
    return 0.0 if one is None or two is None else _OVERLAP_WEIGHT * box_iou(one.box, two.box)


def _box_ious(boxes_W4: NDArray[np.float64], box: Box) -> NDArray[np.float64]:
    """IoU of each of W boxes with ``box``."""
    low = np.maximum(boxes_W4[:, :2], box[:2])
    intersection = np.clip(np.minimum(boxes_W4[:, 2:], box[2:]) - low, 0, None).prod(axis=1)
    areas = (boxes_W4[:, 2:] - boxes_W4[:, :2]).prod(axis=1)
    ious: NDArray[np.float64] = intersection / (areas + box_area(box) - intersection)
    return ious


def _to_box(sides: NDArray[np.float64]) -> Box:
    x0, y0, x1, y1 = (float(side) for side in sides)
    return x0, y0, x1, y1


def _normalize(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = vectors / np.maximum(lengths, 1e-12)
    return unit
