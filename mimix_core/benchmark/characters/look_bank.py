"""The bank that figures of generated videos are compared with, learned from training clips.

Three linear discriminants: which cells show whom or background, whom a figure shows (both of a
network's features), and in which style it is drawn (histograms). Limits are calibrated by
leaving clips out: every figure of a clip is compared with a bank that never saw the clip.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.characters.cell_features import ROWS, CellEncoder
from mimix_core.benchmark.characters.character_verdicts import FigureLook
from mimix_core.benchmark.characters.discriminant import (
    ClassMoments,
    Discriminant,
    Doubles,
    Floats,
    class_moments,
    fit_discriminant,
    fit_labelled,
)
from mimix_core.benchmark.characters.figure_tracks import FigureSize
from mimix_core.benchmark.characters.style_histograms import style_histograms
from mimix_core.benchmark.characters.training_figures import TrainingFrame, mask_box, relight
from mimix_core.errors import BadInput
from mimix_core.media.images import RgbImage

BACKGROUND = ""
"""The class of cells that show no character; sorts first."""

FOLDS = 3
"""Parts of the clips that are left out in turn."""

_FIGURE_COVER, _BACKGROUND_COVER = 0.6, 0.05
_BACKGROUND_STEP = 7
_LOOK_SHRINKAGE = 0.2
"""There are fewer figures than features, and those of one clip are much alike."""

_LIMIT_SHARE = 0.98
"""Share of a character's own left-out figures within its limit."""

_MARGIN_SHARE = 0.02
"""Share of its own left-out figures whose lead over others is smaller than the margin."""

_EXPOSURES = (0.6, 1.15)
"""Least and largest exposure of a pasted frame in another light; 1 is its own."""

_LIGHT_SEED = 0

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class FigureFeatures:
    """What a figure looks like: features_D of its cells, and where it is from."""

    character: str
    clip_id: str
    features_D: Floats
    pasted: bool = False


@dataclass(frozen=True)
class LookBank:
    """Discriminants, limits and sizes of the characters. ``styles``: of each by name."""

    cells: Discriminant
    looks: Discriminant
    style: Discriminant | None
    limits: Mapping[str, float]
    margins: Mapping[str, float]
    sizes: Mapping[str, FigureSize]
    styles: Mapping[str, str]

    @property
    def names(self) -> tuple[str, ...]:
        """All characters of the bank."""
        return self.looks.names

    def compare(self, features_ND: Floats) -> FigureLook:
        """Compare a figure, seen in N frames, with each character: its mean over the frames."""
        distances = self.looks.distances(features_ND.mean(axis=0, keepdims=True))[0]
        return FigureLook(
            {name: round(float(d), 4) for name, d in zip(self.names, distances, strict=True)},
            self.limits,
            self.margins,
        )

    def style_shares(self, histograms_NF: Floats) -> dict[str, float]:
        """Return how likely a figure is drawn in each style; empty if all clips have one."""
        if self.style is None:
            return {}
        shares = self.style.posteriors(histograms_NF.mean(axis=0, keepdims=True))[0]
        return {
            name: round(float(share), 4)
            for name, share in zip(self.style.names, shares, strict=True)
        }


def pool_figure(cells_YXD: Floats, weights_YX: Doubles, window: Window) -> Floats:
    """Average the cells of a window, each counting as much as it shows a figure: features_D.

    Mean and deviation of each feature: 2 D values.
    """
    x0, y0, x1, y1 = window
    features = cells_YXD[y0:y1, x0:x1].reshape(-1, cells_YXD.shape[2])
    weights = weights_YX[y0:y1, x0:x1].ravel() + 1e-6
    weights = (weights / weights.sum()).astype(np.float32)
    mean = weights @ features
    variance = weights @ (features - mean) ** 2
    pooled: Floats = np.concatenate([mean, np.sqrt(variance)]).astype(np.float32)
    return pooled


@dataclass(frozen=True)
class EncodedFrame:
    """A training frame's cells_YXD, and the share of each cell that each character covers."""

    source: TrainingFrame
    cells_YXD: Floats
    covers: Mapping[str, Doubles]

    @cached_property
    def boxes(self) -> dict[str, Window]:
        """The window of cells of each visible character."""
        rows, columns = self.cells_YXD.shape[:2]
        windows: dict[str, Window] = {}
        for name, alpha_HW in self.source.alphas.items():
            box = mask_box(alpha_HW)
            if box is None:
                continue
            height, width = alpha_HW.shape
            scale_x, scale_y = columns / width, rows / height
            x0, y0 = int(box[0] * scale_x), int(box[1] * scale_y)
            x1, y1 = int(np.ceil(box[2] * scale_x)), int(np.ceil(box[3] * scale_y))
            windows[name] = (x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
        return windows


def encode_frame(frame: TrainingFrame, encoder: CellEncoder) -> EncodedFrame:
    """Encode a training frame."""
    cells = encoder.encode(frame.image_HWC)
    size = (cells.shape[1], cells.shape[0])
    covers = {
        name: cv2.resize(alpha, size, interpolation=cv2.INTER_AREA).astype(np.float64) / 255
        for name, alpha in frame.alphas.items()
    }
    return EncodedFrame(frame, cells.astype(np.float16).astype(np.float32), covers)


def build_look_bank(frames: Sequence[EncodedFrame], styles: Mapping[str, str]) -> LookBank:
    """Build a bank from frames of training clips.

    ``styles``: of each character's show. Raises BadInput if no clip shows sure background.
    """
    names = sorted({name for frame in frames for name in frame.boxes})
    own = {name: styles[name] for name in names}
    folds = _split_by_clip(frames)
    moments = _cell_moments(folds, (BACKGROUND, *names))
    cells = fit_discriminant(sum(moments[1:], moments[0]))
    figures = [figure for frame in frames for figure in frame_figures(frame, cells)]
    limits, margins = _calibrate(folds, moments, own)
    sizes = {name: _figure_size(frames, name) for name in names}
    looks = _fit_looks(figures)
    style = None
    if len(set(own.values())) > 1:
        style = _fit_style(frames, cells, own)
    return LookBank(cells, looks, style, limits, margins, sizes, own)


def _fit_style(
    frames: Sequence[EncodedFrame], cells: Discriminant, styles: Mapping[str, str]
) -> Discriminant:
    """Fit the discriminant of styles to the figures of frames.

    Pasted ones count a second time in another light: histograms of colors know how light a scene
    is, and clips may show each show in its usual light only.
    """
    rng = random.Random(_LIGHT_SEED)
    described: list[tuple[str, Floats]] = []
    for frame in frames:
        described += _frame_histograms(frame, cells, frame.source.image_HWC)
        if frame.source.pasted:
            relit_HWC = relight(frame.source.image_HWC, rng.uniform(*_EXPOSURES))
            described += _frame_histograms(frame, cells, relit_HWC)
    return fit_labelled(
        np.stack([histograms_F for _, histograms_F in described]),
        [styles[name] for name, _ in described],
    )


def _fit_looks(figures: Sequence[FigureFeatures]) -> Discriminant:
    return fit_labelled(
        np.stack([figure.features_D for figure in figures]),
        [figure.character for figure in figures],
        _LOOK_SHRINKAGE,
    )


def _split_by_clip(frames: Sequence[EncodedFrame]) -> list[list[EncodedFrame]]:
    """Split frames into parts, so that all of a clip are in one."""
    clips = sorted({frame.source.clip_id for frame in frames})
    parts = {clip_id: number % FOLDS for number, clip_id in enumerate(clips)}
    folds: list[list[EncodedFrame]] = [[] for _ in range(min(FOLDS, len(clips)))]
    for frame in frames:
        folds[parts[frame.source.clip_id]].append(frame)
    return folds


def _cell_moments(
    folds: Sequence[Sequence[EncodedFrame]], names: tuple[str, ...]
) -> list[ClassMoments]:
    """Add up, for each part, the cells that show one character or surely background.

    All classes weigh the same over all parts together. Raises BadInput if background is
    missing: then no clip has masks of all its characters.
    """
    labelled = [_labelled_cells(frames, names) for frames in folds]
    counts = np.bincount(np.concatenate([classes for _, classes in labelled]), minlength=len(names))
    if not counts[0]:
        raise BadInput(
            "no clip has a mask of every character that its caption names",
            where="the cutouts of the training clips",
            fix="Look at the rejected cutouts (mimix reasons cutouts), or do not score characters.",
        )
    weights = 1 / np.maximum(counts, 1)
    return [class_moments(cells, classes, names, weights) for cells, classes in labelled]


def _labelled_cells(
    frames: Sequence[EncodedFrame], names: tuple[str, ...]
) -> tuple[Floats, NDArray[np.int64]]:
    """Return cells that show one character or surely background, with the name's number."""
    features: list[Floats] = []
    classes: list[int] = []
    for frame in frames:
        total = sum(frame.covers.values(), np.zeros(frame.cells_YXD.shape[:2]))
        for name, cover_YX in frame.covers.items():
            chosen = frame.cells_YXD[cover_YX > _FIGURE_COVER]
            features.append(chosen)
            classes += [names.index(name)] * len(chosen)
        if frame.source.complete:
            background = frame.cells_YXD[total < _BACKGROUND_COVER][::_BACKGROUND_STEP]
            features.append(background)
            classes += [0] * len(background)
    return np.concatenate(features), np.array(classes)


def figure_weights(posteriors_YXC: Doubles) -> Doubles:
    """Return how likely each cell shows a figure. Background is the first class."""
    weights: Doubles = 1 - posteriors_YXC[..., 0]
    return weights


def cell_posteriors(cells: Discriminant, cells_YXD: Floats) -> Doubles:
    """Return posteriors_YXC of a frame's cells."""
    flat = cells.posteriors(cells_YXD.reshape(-1, cells_YXD.shape[2]))
    return flat.reshape(*cells_YXD.shape[:2], -1)


def frame_figures(frame: EncodedFrame, cells: Discriminant) -> list[FigureFeatures]:
    """Describe the figures of a training frame as those of a generated video are."""
    weights_YX = figure_weights(cell_posteriors(cells, frame.cells_YXD))
    source = frame.source
    return [
        FigureFeatures(
            name,
            source.clip_id,
            pool_figure(frame.cells_YXD, weights_YX, window),
            source.pasted,
        )
        for name, window in frame.boxes.items()
    ]


def _frame_histograms(
    frame: EncodedFrame, cells: Discriminant, image_HWC: RgbImage
) -> list[tuple[str, Floats]]:
    """Describe how each figure of a training frame is drawn. ``image_HWC``: its image, or relit."""
    weights_YX = figure_weights(cell_posteriors(cells, frame.cells_YXD))
    return [
        (name, style_histograms(image_HWC, inside_window(weights_YX, window)))
        for name, window in frame.boxes.items()
    ]


def inside_window(weights_YX: Doubles, window: Window) -> Doubles:
    """Return the weights of a window's cells, zero outside of it."""
    x0, y0, x1, y1 = window
    inside = np.zeros_like(weights_YX)
    inside[y0:y1, x0:x1] = weights_YX[y0:y1, x0:x1]
    return inside


def _calibrate(
    folds: Sequence[Sequence[EncodedFrame]],
    moments: Sequence[ClassMoments],
    styles: Mapping[str, str],
) -> tuple[dict[str, float], dict[str, float]]:
    """Return limit and margin of each character, from figures of clips that are left out."""
    from scipy.stats import chi2

    own: dict[str, list[float]] = {name: [] for name in styles}
    leads: dict[str, list[float]] = {name: [] for name in styles}
    for left_out, frames in enumerate(folds):
        rest = [number for number in range(len(folds)) if number != left_out]
        remaining = [frame for number in rest for frame in folds[number]]
        if {name for frame in remaining for name in frame.boxes} != set(styles):
            continue
        cells = fit_discriminant(sum((moments[n] for n in rest[1:]), moments[rest[0]]))
        looks = _fit_looks(
            [figure for frame in remaining for figure in frame_figures(frame, cells)]
        )
        for (name, *_), features in _by_clip(frames, cells).items():
            mean = np.mean(features, axis=0, keepdims=True)
            found = dict(zip(looks.names, looks.distances(mean)[0], strict=True))
            own[name].append(found[name])
            leads[name].append(min(d for other, d in found.items() if other != name) - found[name])
    # Few figures that are much alike would give a limit that no other figure meets.
    expected = float(chi2.ppf(_LIMIT_SHARE, len(styles) - 1)) / (len(styles) - 1)
    limits = {
        name: max(_quantile(values, _LIMIT_SHARE, expected), round(expected, 4))
        for name, values in own.items()
    }
    margins = {name: max(0.0, _quantile(v, _MARGIN_SHARE, 0.0)) for name, v in leads.items()}
    return limits, margins


def _by_clip(
    frames: Sequence[EncodedFrame], cells: Discriminant
) -> dict[tuple[str, str, bool], list[Floats]]:
    """Return the features of each figure of each clip, and of what was pasted from it."""
    features: dict[tuple[str, str, bool], list[Floats]] = {}
    for frame in frames:
        for figure in frame_figures(frame, cells):
            key = (figure.character, figure.clip_id, figure.pasted)
            features.setdefault(key, []).append(figure.features_D)
    return features


def _quantile(values: Sequence[float], share: float, default: float) -> float:
    return round(float(np.quantile(values, share)), 4) if values else default


def _figure_size(frames: Sequence[EncodedFrame], name: str) -> FigureSize:
    """Return the median size of a character's figures, as shares of the frame's height."""
    heights, widths, fills = [], [], []
    for frame in frames:
        window = frame.boxes.get(name)
        if window is not None:
            x0, y0, x1, y1 = window
            heights.append((y1 - y0) / ROWS)
            widths.append((x1 - x0) / ROWS)
            fills.append(frame.covers[name][y0:y1, x0:x1].mean())
    return FigureSize(*(float(np.median(values)) for values in (heights, widths, fills)))
