"""Score the asked-for characters of one video."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.characters.cell_features import CellEncoder
from mimix_core.benchmark.characters.character_verdicts import CharacterVerdict, judge_characters
from mimix_core.benchmark.characters.figure_motion import STEP, figure_motion
from mimix_core.benchmark.characters.trained_looks import TrainedLooks
from mimix_core.benchmark.characters.video_figures import (
    VideoFigure,
    find_video_figures,
    sampled_frame_indices,
)
from mimix_core.domain.timeline import CLIP_RATE


@dataclass(frozen=True)
class CharacterScore:
    """The scores of one character; names and meanings as in ``CharacterScoreRow``."""

    identity: str
    looks_like: str
    count: int
    frames: list[int]
    boxes: list[list[float]]
    presence: float = 0.0
    distance: float | None = None
    limit: float | None = None
    other: str = ""
    other_distance: float | None = None
    in_own_style: bool | None = None
    style_share: float | None = None
    nearest_clip: str = ""
    nearest_frame: int | None = None
    copy_similarity: float | None = None
    copied: bool | None = None
    motion: float | None = None
    motion_rank: float | None = None

    def columns(self) -> dict[str, Any]:
        """Return the scores as columns of the table."""
        return asdict(self)


def score_characters(
    frames_THWC: NDArray[np.uint8],
    asked: Sequence[str],
    looks: TrainedLooks,
    encoder: CellEncoder,
    rate: Fraction = CLIP_RATE,
) -> dict[str, CharacterScore]:
    """Score each asked-for character of a video of T frames. All of them are in the bank.

    ``rate``: frames per second.
    """
    indices = sampled_frame_indices(len(frames_THWC))
    sampled = [frames_THWC[index] for index in indices]
    figures = find_video_figures(sampled, looks.bank, encoder, len(asked))
    compared = [looks.bank.compare(figure.features_ND) for figure in figures]
    scores = {}
    for name, verdict in judge_characters(asked, compared).items():
        if verdict.figure is None:
            scores[name] = CharacterScore(
                verdict.identity.value, "", 0, indices, [[]] * len(indices)
            )
            continue
        figure, look = figures[verdict.figure], compared[verdict.figure]
        other = look.nearest_but(name)
        scores[name] = CharacterScore(
            identity=verdict.identity.value,
            looks_like=verdict.looks_like,
            count=verdict.count,
            frames=indices,
            boxes=[list(box or ()) for box in figure.boxes],
            presence=round(figure.presence, 4),
            distance=look.distances[name],
            limit=look.limits[name],
            other=other,
            other_distance=look.distances[other],
            **_style(name, figure, looks),
            **_copy(name, verdict, figure, looks),
            **_motion(name, figure, frames_THWC, indices, looks, rate),
        )
    return scores


def _style(name: str, figure: VideoFigure, looks: TrainedLooks) -> dict[str, Any]:
    shares = looks.bank.style_shares(figure.histograms_NF)
    if not shares:
        return {}
    share = shares[looks.bank.styles[name]]
    return {"style_share": share, "in_own_style": share > 0.5}


def _copy(
    name: str, verdict: CharacterVerdict, figure: VideoFigure, looks: TrainedLooks
) -> dict[str, Any]:
    """Return the training frame that the character's poses are most like."""
    shown = verdict.looks_like or name
    index = looks.poses.get(shown)
    if index is None:
        return {}
    nearest = max((index.nearest(pose) for pose in figure.poses), key=lambda one: one.similarity)
    return {
        "nearest_clip": nearest.clip_id,
        "nearest_frame": nearest.frame,
        "copy_similarity": nearest.similarity,
        "copied": nearest.copied,
    }


def _motion(
    name: str,
    figure: VideoFigure,
    frames_THWC: NDArray[np.uint8],
    indices: Sequence[int],
    looks: TrainedLooks,
    rate: Fraction,
) -> dict[str, Any]:
    pairs = [
        (frames_THWC[index], frames_THWC[index + STEP], box)
        for index, box in zip(indices, figure.boxes, strict=True)
        if box is not None and index + STEP < len(frames_THWC)
    ]
    speed = figure_motion(pairs, rate)
    own = looks.motions.get(name, ())
    if speed is None:
        return {}
    rank = round(bisect_left(own, speed) / len(own), 4) if own else None
    return {"motion": speed, "motion_rank": rank}
