"""Backend ``embedding``: windows of a frame that look like a character's exemplars. For cartoons.

No face detector handles cartoon faces and no detector proposes cartoon figures, so all windows are
proposals: the network processes a frame once, and the features of every window of several sizes
are the mean of its cells (integral pooling as in R-MAC: Tolias, Sicre, Jegou, "Particular object
retrieval with integral max-pooling of CNN activations", ICLR 2016, with means instead of maxima).

Where and how large a figure is, and who it is, are two questions. The character's first exemplar
shows the whole figure: the path of windows through the clip that are most like it is the track. All
exemplars together decide in which frames of the track the character is: there, a part of the
window must be at least as similar to one of them as the bank's calibrated limit
(mimix_core/characters/bank.py), and not less than to an exemplar of any other character.

A box that is found is looked at once more, enlarged: windows of the first look are at least
a quarter of the frame's height, and small figures fill few cells. There, a window is as similar to
the figure as to the mean of two pictures of it: the exemplar, and the exemplar at the window's
height (figure_exemplars.py). By the first one alone, a part of a large figure may seem more like
it than the whole.

The network (EfficientNet-Lite0) was trained on photographs for ImageNet's classes: it separates a
white rabbit from a gray chinchilla, but not twins in two shirts. Boxes end on windows, whose grid
is a fifteenth of the frame's height.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.characters.bank import (
    CharacterBank,
    Floats,
    build_bank,
    encode_exemplar,
    normalize,
)
from mimix_core.engine.limit_text import format_beside_limit
from mimix_core.media import UnreadableVideo, read_rgb
from mimix_core.media.images import GRAY, RgbImage, load_reference_image
from mimix_core.networks.efficientnet import (
    STRIDE,
    extract_features,
    load_network,
    typical_features,
)
from mimix_core.settings.locator_settings import EmbeddingLocatorSettings
from mimix_core.stages.cutouts.locate.box_track import (
    Box,
    BoxDetection,
    BoxTrack,
    FrameMatch,
    box_area,
    clip_box,
    empty_track,
    interpolate_detections,
    strided_frame_indices,
)
from mimix_core.stages.cutouts.locate.figure_exemplars import FigureExemplars
from mimix_core.stages.cutouts.locate.locator_inputs import EmbeddingLocatorInputs
from mimix_core.stages.cutouts.locate.reference_bank import (
    ReferenceDistances,
    measure_references,
)
from mimix_core.stages.cutouts.locate.window_grid import WindowGrid, build_window_grid
from mimix_core.tables import ClipRow

_ROWS = 15
_MAX_CANDIDATES = 40
# Value for a path of two identical neighboring boxes, added to similarities.
_OVERLAP_WEIGHT = 0.1
# Value of twice the area: of two windows that are as similar, the larger shows more of a figure.
_AREA_WEIGHT = 0.005
# Similarity to another character above this counts against a window.
_RIVAL_ALLOWANCE = 0.45
# Windows that lie in the track's window by this share of their area decide who it shows.
_MIN_INSIDE = 0.75
# Windows whose value is this close to the best one's and with this overlap are averaged to the box.
_VALUE_TOLERANCE, _MIN_OVERLAP = 0.03, 0.5
# The most similar windows lie inside a figure, not around it: expand by this share on each side
# (tuned on the demo's manual boxes).
_EXPANSION = 0.1
# Share of a found box's sides that the second look takes in on each side of it: windows start a
# quarter of their side apart, so far a figure may reach out of the best one.
_SURROUNDINGS = 0.25
# The share of a clip's windows, those least like anybody, that stands for its background.
_BACKGROUND_SHARE = 0.5


class EmbeddingLocator:
    """Locate characters by the similarity of window features to exemplars.

    The network processes every ``frame_stride``-th frame of a clip.
    """

    name = "embedding/efficientnet-lite0"

    def __init__(self, inputs: EmbeddingLocatorInputs, folder: Path) -> None:
        """Raises MissingModel without the network, BadInput for an unreadable reference image."""
        self._settings: EmbeddingLocatorSettings = inputs.settings
        self._folder = folder
        self._network: Any = load_network()
        self._exemplars: dict[str, list[Floats]] = {
            character.name: [
                encode_exemplar(self._network, file.path) for file in character.references
            ]
            for character in inputs.characters
            if character.references
        }
        self._figures = FigureExemplars(
            self._network,
            {
                character.name: load_reference_image(character.references[0].path, GRAY)
                for character in inputs.characters
                if character.references
            },
        )
        self._typical: Floats = typical_features(self._network)

    def locate(self, clip: ClipRow, characters: Sequence[str]) -> dict[str, BoxTrack]:
        comparable = [name for name in characters if name in self._exemplars]
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
        found = self._find([frames_NHWC[number] for number in numbers], comparable)
        for name, seen in found.items():
            detections = {
                number: BoxDetection(match.box, match.value)
                for number, match in zip(numbers, seen, strict=True)
                if not match.problem
            }
            track = interpolate_detections(detections, len(frames_NHWC), self._settings.max_gap)
            tracks[name] = replace(track, evidence=_describe_best(seen))
        return tracks

    def propose(self, frames_NHWC: Sequence[RgbImage], name: str) -> list[FrameMatch]:
        """Return the most likely track of a character, one match a frame, accepted or not."""
        return self._find(frames_NHWC, [name])[name]

    def inspect_frame(self, frame_HWC: RgbImage) -> list[FrameMatch]:
        """Return the best window of each character in one frame, accepted or not."""
        return [self.propose([frame_HWC], name)[0] for name in self._exemplars]

    def reference_distances(self) -> ReferenceDistances:
        """Measure how similar references of one character and of different ones are."""
        return measure_references(
            build_bank(self._exemplars, self._typical).vectors,
            lambda one, two: float(one @ two),
            similarity=True,
        )

    def limits(self) -> dict[str, float]:
        """Return the minimum similarity of each character, relative to typical features."""
        bank = build_bank(self._exemplars, self._typical)
        return {name: _limit(bank, name, self._settings) for name in bank.vectors}

    def _find(
        self, frames_NHWC: Sequence[RgbImage], names: Sequence[str]
    ) -> dict[str, list[FrameMatch]]:
        """Return the most likely track of each character, one match a frame, accepted or not."""
        pooled = [self._pool_windows(frame) for frame in frames_NHWC]
        center = self._background([features_WC for features_WC, _ in pooled])
        bank = build_bank(self._exemplars, center)
        compared = [
            self._compare(bank, frame, grid, normalize(features_WC - center))
            for frame, (features_WC, grid) in zip(frames_NHWC, pooled, strict=True)
        ]
        return {
            name: [
                match if match.problem else self._look_closer(bank, center, frame, match)
                for frame, match in zip(
                    frames_NHWC, _follow(compared, name, self._settings), strict=True
                )
            ]
            for name in names
        }

    def _background(self, features: Sequence[Floats]) -> Floats:
        """Return the mean features of the windows of a clip that are least like anybody."""
        rough = build_bank(self._exemplars, self._typical)
        background = []
        for features_WC in features:
            unit_WC = normalize(features_WC - self._typical)
            nearest = np.max([rough.similarity(name, unit_WC) for name in rough.vectors], axis=0)
            background.append(features_WC[nearest <= np.quantile(nearest, _BACKGROUND_SHARE)])
        center: Floats = np.concatenate(background).mean(axis=0)
        return center

    def _compare(
        self, bank: CharacterBank, frame_HWC: RgbImage, grid: WindowGrid, unit_WC: Floats
    ) -> WindowSimilarities:
        """Compare the windows of a frame with a bank of the same center."""
        height, width = frame_HWC.shape[:2]
        rows, columns = grid.shape
        return WindowSimilarities(
            similarity={name: bank.similarity(name, unit_WC) for name in bank.vectors},
            figure={name: bank.figure_similarity(name, unit_WC) for name in bank.vectors},
            limits={name: _limit(bank, name, self._settings) for name in bank.vectors},
            cells_W4=grid.cells_W4,
            cell=(width / columns, height / rows),
            size=(width, height),
        )

    def _look_closer(
        self, bank: CharacterBank, center: Floats, frame_HWC: RgbImage, match: FrameMatch
    ) -> FrameMatch:
        """Find a character again in the enlarged surroundings of its box, where windows are finer.

        Who does not look like the character at second sight gets the reason as its problem.
        """
        height, width = frame_HWC.shape[:2]
        x0, y0, x1, y1 = match.box
        dx, dy = _SURROUNDINGS * (x1 - x0), _SURROUNDINGS * (y1 - y0)
        left, top = int(max(0, x0 - dx)), int(max(0, y0 - dy))
        part_HWC = frame_HWC[top : int(min(height, y1 + dy)), left : int(min(width, x1 + dx))]
        features_WC, grid = self._pool_windows(part_HWC)
        unit_WC = normalize(features_WC - center)
        closer = self._compare(bank, part_HWC, grid, unit_WC)
        rows_W = grid.cells_W4[:, 3] - grid.cells_W4[:, 1]
        figure = {
            name: (alike_W + self._figures.similarity(name, unit_WC, center, rows_W)) / 2
            for name, alike_W in closer.figure.items()
        }
        closer = replace(closer, figure=figure)
        window = int(closer.values(match.character).argmax())
        found = closer.judge(match.character, window, self._settings)
        x0, y0, x1, y1 = found.box
        return replace(found, box=(x0 + left, y0 + top, x1 + left, y1 + top))

    def _pool_windows(self, frame_HWC: RgbImage) -> tuple[Floats, WindowGrid]:
        height, width = frame_HWC.shape[:2]
        columns = max(3, round(width / height * _ROWS))
        size = (columns * STRIDE, _ROWS * STRIDE)
        resized = cv2.resize(frame_HWC, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
        cells = extract_features(self._network, resized)
        grid = build_window_grid(_ROWS, columns)
        pooled_WC: Floats = grid.mean_WN @ cells.reshape(_ROWS * columns, -1)
        return pooled_WC, grid


def _limit(bank: CharacterBank, name: str, settings: EmbeddingLocatorSettings) -> float:
    return bank.limit(name) if settings.min_similarity is None else settings.min_similarity


def _follow(
    frames: Sequence[WindowSimilarities], name: str, settings: EmbeddingLocatorSettings
) -> list[FrameMatch]:
    """Follow a character through the frames: where it would be, and whether it is there."""
    path = find_best_path([frame.candidates(name) for frame in frames])
    return [frame.judge(name, window, settings) for frame, window in zip(frames, path, strict=True)]


def _describe_best(seen: Sequence[FrameMatch]) -> str:
    """Say how similar the best window of all frames is, and what it lacks."""
    best = max(seen, key=lambda match: (not match.problem, match.value))
    text = f"the most similar window at {best.shown}"
    return f"{text}: {best.problem}" if best.problem else text


@dataclass(frozen=True)
class WindowSimilarities:
    """Similarity of each window of one frame to each character.

    ``similarity``: to its most similar exemplar; ``figure``: to its first one. ``limits``: the
    minimum similarity of each. ``cell``: width and height of a cell in pixels of the frame;
    ``size``: those of the frame.
    """

    similarity: Mapping[str, NDArray[np.float64]]
    figure: Mapping[str, NDArray[np.float64]]
    limits: Mapping[str, float]
    cells_W4: NDArray[np.int64]
    cell: tuple[float, float]
    size: tuple[int, int]

    @cached_property
    def boxes_W4(self) -> NDArray[np.float64]:
        scale = np.array([*self.cell, *self.cell])
        boxes: NDArray[np.float64] = self.cells_W4 * scale
        return boxes

    def values(self, name: str) -> NDArray[np.float64]:
        """Return how likely each window is to hold the whole figure of a character."""
        others = [other for character, other in self.figure.items() if character != name]
        rival = np.max(others, axis=0) if others else np.full_like(self.figure[name], -1.0)
        sides = self.boxes_W4[:, 2:] - self.boxes_W4[:, :2]
        area = np.log2(sides.prod(axis=1) / (self.size[0] * self.size[1]))
        values: NDArray[np.float64] = (
            self.figure[name] - np.maximum(rival - _RIVAL_ALLOWANCE, 0) + _AREA_WEIGHT * area
        )
        return values

    def candidates(self, name: str) -> list[Candidate]:
        """Return the windows that are most likely to hold the figure, the best first."""
        values = self.values(name)
        best = np.argsort(-values, kind="stable")[:_MAX_CANDIDATES]
        return [
            Candidate(int(window), _to_box(self.boxes_W4[window]), float(values[window]))
            for window in best
        ]

    def judge(self, name: str, window: int, settings: EmbeddingLocatorSettings) -> FrameMatch:
        """Say whether a window shows the character, by its parts and by all exemplars."""
        own = self.similarity[name]
        inside = np.flatnonzero(_shares_inside(self.boxes_W4, self.boxes_W4[window]) >= _MIN_INSIDE)
        part = int(inside[np.argmax(own[inside])])
        value = float(own[part])
        shown, wanted = format_beside_limit(value, self.limits[name])
        problem = ""
        others = {o: float(values[part]) for o, values in self.similarity.items() if o != name}
        if value < self.limits[name]:
            problem = f"at least {wanted} wanted (cutouts.embedding.min_similarity)"
        elif others:
            rival = max(others, key=lambda other: (others[other], other))
            margin, wanted = format_beside_limit(value - others[rival], settings.min_margin, "+.2f")
            if value - others[rival] < settings.min_margin:
                problem = (
                    f"{margin} compared with {rival}, at least {wanted} wanted "
                    "(cutouts.embedding.min_margin)"
                )
        return FrameMatch(name, self.refine_box(name, window), value, shown, problem)

    def refine_box(self, name: str, window: int) -> Box:
        """Average the box over windows of about the same value and position."""
        values, box = self.values(name), _to_box(self.boxes_W4[window])
        similar = self.boxes_W4[values >= values[window] - _VALUE_TOLERANCE]
        near = similar[_box_ious(similar, box) >= _MIN_OVERLAP]
        x0, y0, x1, y1 = _to_box(near.mean(axis=0))
        dx, dy = _EXPANSION * (x1 - x0), _EXPANSION * (y1 - y0)
        expanded = clip_box((x0 - dx, y0 - dy, x1 + dx, y1 + dy), *self.size)
        assert expanded is not None
        return expanded


@dataclass(frozen=True)
class Candidate:
    """A window that may hold a figure: its index, box and value."""

    window: int
    box: Box
    value: float


def find_best_path(candidates: Sequence[Sequence[Candidate]]) -> list[int]:
    """Select one window per frame by value and overlap between frames. Viterbi's algorithm."""
    best = [np.array([one.value for one in candidates[0]])]
    back: list[NDArray[np.int64]] = []
    for before, frame in pairwise(candidates):
        earlier = np.array([one.box for one in before])
        overlaps = np.stack([_box_ious(earlier, one.box) for one in frame])
        totals = _OVERLAP_WEIGHT * overlaps + best[-1]
        back.append(totals.argmax(axis=1))
        best.append(np.array([one.value for one in frame]) + totals.max(axis=1))
    state = int(best[-1].argmax())
    path = [candidates[-1][state].window]
    for sources, frame in zip(reversed(back), reversed(candidates[:-1]), strict=True):
        state = int(sources[state])
        path.append(frame[state].window)
    return path[::-1]


def _shares_inside(boxes_W4: NDArray[np.float64], box: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of the area of each of W boxes that lies in ``box``."""
    low = np.maximum(boxes_W4[:, :2], box[:2])
    inside = np.clip(np.minimum(boxes_W4[:, 2:], box[2:]) - low, 0, None).prod(axis=1)
    shares: NDArray[np.float64] = inside / (boxes_W4[:, 2:] - boxes_W4[:, :2]).prod(axis=1)
    return shares


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
