"""The interface that every segmentation backend implements: located boxes in, alpha mattes out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.cutouts.locate import BoxTrack
from mimix_core.tables import ClipRow

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class CharacterMatte:
    """Alpha mattes of one character in one clip, and the backend's confidence.

    ``alpha_NHW``: uint8 [frames, height, width]. ``scores``: one per frame in 0..1, 0 without a
    mask; comparable only within one backend.
    """

    alpha_NHW: Images
    scores: list[float]


@dataclass(frozen=True)
class LocatedClip:
    """A clip with located characters: uint8 RGB frames [frames, height, width, 3]."""

    row: ClipRow
    tracks: Mapping[str, BoxTrack]
    frames_NHWC: Images


class Segmenter(Protocol):
    """Segment located characters in clips.

    All characters of a clip come in one call, so a backend that tracks several at once (SAM2) can
    separate their masks. A character has no mask in frames without a box, unless the backend still
    detects it there. ``batch_size``: the preferred number of clips per ``segment_batch`` call.
    """

    @property
    def name(self) -> str: ...

    @property
    def batch_size(self) -> int: ...

    def segment_batch(self, clips: Sequence[LocatedClip]) -> list[dict[str, CharacterMatte]]: ...
