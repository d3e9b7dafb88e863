"""Find the figures of a generated video and describe each, as the bank describes its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mimix_core.benchmark.characters.cell_features import CellEncoder
from mimix_core.benchmark.characters.discriminant import Doubles, Floats
from mimix_core.benchmark.characters.figure_copies import shifted_poses
from mimix_core.benchmark.characters.figure_tracks import FigureTrack, find_figures
from mimix_core.benchmark.characters.look_bank import (
    LookBank,
    cell_posteriors,
    figure_weights,
    inside_window,
    pool_figure,
)
from mimix_core.benchmark.characters.style_histograms import style_histograms
from mimix_core.media.images import RgbImage, evenly_spaced_indices

SAMPLED_FRAMES = 5
"""Frames of a video that are looked at, evenly spaced."""

MIN_PRESENCE = 0.4
"""A figure visible in a smaller share of the sampled frames does not count."""

_SPARE = 2
"""Figures looked for beyond those asked for, to see whether there are too many."""


@dataclass(frozen=True)
class VideoFigure:
    """One figure of a video: its track, and features_ND in the N frames that show it.

    ``histograms_NF``: how it is drawn, and ``poses``: what is where in its box, in these frames.
    ``boxes``: [x0, y0, x1, y1] as shares of the frame, in each sampled frame; None if not visible.
    """

    track: FigureTrack
    features_ND: Floats
    histograms_NF: Floats
    poses: tuple[Floats, ...]
    boxes: tuple[tuple[float, float, float, float] | None, ...]

    @property
    def presence(self) -> float:
        """The share of sampled frames that show it."""
        return sum(box is not None for box in self.boxes) / len(self.boxes)


def sampled_frame_indices(count: int) -> list[int]:
    """Return the frames of a video of ``count`` frames that are looked at."""
    return evenly_spaced_indices(count, min(count, SAMPLED_FRAMES))


def find_video_figures(
    frames_NHWC: Sequence[RgbImage], bank: LookBank, encoder: CellEncoder, asked: int
) -> list[VideoFigure]:
    """Find the figures in sampled frames of a video that asks for ``asked`` characters."""
    cells_TYXD = [encoder.encode(frame) for frame in frames_NHWC]
    posteriors_TYXC = np.stack([cell_posteriors(bank.cells, cells) for cells in cells_TYXD])
    weights_TYX = figure_weights(posteriors_TYXC)
    names = bank.cells.names[1:]
    rows, columns = posteriors_TYXC.shape[1:3]
    scale = np.array([columns, rows, columns, rows], float)
    figures = []
    for track in find_figures(posteriors_TYXC[..., 1:], names, bank.sizes, asked + _SPARE):
        seen = [
            (frame, cells, weights, window)
            for frame, cells, weights, window in zip(
                frames_NHWC, cells_TYXD, weights_TYX, track.windows, strict=True
            )
            if window is not None
        ]
        boxes = tuple(
            None if window is None else _as_shares(np.array(window) / scale)
            for window in track.windows
        )
        if seen and len(seen) >= MIN_PRESENCE * len(boxes):
            figures.append(
                VideoFigure(
                    track,
                    np.stack([pool_figure(cells, weights, w) for _, cells, weights, w in seen]),
                    np.stack(
                        [
                            style_histograms(frame, inside_window(weights, window))
                            for frame, _, weights, window in seen
                        ]
                    ),
                    tuple(shifted_poses(cells, window) for _, cells, _, window in seen),
                    boxes,
                )
            )
    return figures


def _as_shares(sides: Doubles) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = (round(float(side), 4) for side in sides)
    return x0, y0, x1, y1
