"""Compare a figure with the training frames of its character: has a frame been copied?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mimix_core.benchmark.characters.discriminant import Floats

_GRID = 4
"""A pose is the features of a figure's box in so many rows and columns."""

Window = tuple[int, int, int, int]


def pose_features(cells_YXD: Floats, window: Window) -> Floats:
    """Describe what is where in a figure's box: features of a coarse grid, in one vector."""
    x0, y0, x1, y1 = window
    rows, columns = _parts(y0, y1), _parts(x0, x1)
    grid = [
        cells_YXD[top:low, left:right].mean((0, 1)) for top, low in rows for left, right in columns
    ]
    pose: Floats = np.concatenate(grid).astype(np.float32)
    return pose


def shifted_poses(cells_YXD: Floats, window: Window) -> Floats:
    """Describe the boxes at and around a figure's own: features_SD. No box is exact to a cell."""
    height, width = cells_YXD.shape[:2]
    x0, y0, x1, y1 = window
    poses = []
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            left, top = min(max(0, x0 + dx), width - 2), min(max(0, y0 + dy), height - 2)
            right, low = max(left + 1, min(width, x1 + dx)), max(top + 1, min(height, y1 + dy))
            poses.append(pose_features(cells_YXD, (left, top, right, low)))
    return np.stack(poses)


def _parts(start: int, end: int) -> list[tuple[int, int]]:
    """Split a side into ``_GRID`` parts of at least a cell, which overlap if there are too few."""
    borders = np.linspace(start, end, _GRID + 1)
    lows = np.minimum(np.floor(borders[:-1]).astype(int), end - 1)
    highs = np.maximum(np.ceil(borders[1:]).astype(int), lows + 1)
    return [(int(low), int(high)) for low, high in zip(lows, highs, strict=True)]


@dataclass(frozen=True)
class TrainingPose:
    """A character's pose in a training frame: features_D, and those of boxes around it."""

    clip_id: str
    frame: int
    features_D: Floats
    shifted_SD: Floats


@dataclass(frozen=True)
class NearestFrame:
    """The training frame that a figure is most like, and whether it is a copy of it."""

    clip_id: str
    frame: int
    similarity: float
    copied: bool


@dataclass(frozen=True)
class PoseIndex:
    """The poses of one character, centered and of unit length.

    ``limit``: similarity that no frame of one clip has to a frame of another; None with one clip.
    """

    clip_ids: tuple[str, ...]
    frames: tuple[int, ...]
    center_D: Floats
    unit_ND: Floats
    limit: float | None

    def nearest(self, shifted_SD: Floats) -> NearestFrame:
        """Return the training frame that is most similar to one of a figure's boxes."""
        similarities = (self.unit_ND @ _unit(shifted_SD - self.center_D).T).max(axis=1)
        best = int(similarities.argmax())
        value = round(float(similarities[best]), 4)
        copied = self.limit is not None and value > self.limit
        return NearestFrame(self.clip_ids[best], self.frames[best], value, copied)


def index_poses(poses: Mapping[str, Sequence[TrainingPose]]) -> dict[str, PoseIndex]:
    """Index the poses of each character, with a limit calibrated from clip against clip."""
    return {name: _index(own) for name, own in poses.items() if own}


def _index(poses: Sequence[TrainingPose]) -> PoseIndex:
    stacked = np.stack([pose.features_D for pose in poses])
    center: Floats = stacked.mean(axis=0)
    unit_ND = _unit(stacked - center)
    clips = np.array([pose.clip_id for pose in poses])
    similarities = np.stack(
        [(unit_ND @ _unit(pose.shifted_SD - center).T).max(axis=1) for pose in poses]
    )
    across = similarities[clips[:, None] != clips[None]]
    return PoseIndex(
        tuple(pose.clip_id for pose in poses),
        tuple(pose.frame for pose in poses),
        center,
        unit_ND,
        round(float(across.max()), 4) if across.size else None,
    )


def _unit(features_ND: Floats) -> Floats:
    lengths = np.linalg.norm(features_ND, axis=-1, keepdims=True)
    unit: Floats = features_ND / np.maximum(lengths, 1e-9)
    return unit
