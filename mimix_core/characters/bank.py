"""The character bank: exemplars of each character as vectors, and limits calibrated from them.

An exemplar is a picture of one character: a reference image of the library, or a crop of a track
that a person has named. No limit is chosen by hand: each exemplar in turn is left out and compared
with the others of its character, which says how alike two pictures of one character are in this
show. A cosine of raw features is high for any two pictures, so vectors are compared after what all
pictures share, the ``center``, is subtracted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.images import GRAY, RgbImage, load_reference_image
from mimix_core.networks.efficientnet import extract_features

Floats = NDArray[np.float32]

LIMIT_SHARE = 0.75
"""Similarity asked of a window, as a share of that of the least similar exemplar left out.

A window of a frame is smaller than an exemplar, blurred by motion and not cropped by hand.
"""

MIN_LIMIT = 0.3
"""No calibrated limit is lower: windows without a figure reach about this similarity."""

UNCALIBRATED_LIMIT = 0.4
"""The limit of a character with a single exemplar, which cannot be compared with another."""

_EXEMPLAR_SIZE = 224


def encode_exemplar(network: Any, path: Path) -> Floats:
    """Encode a picture as the mean features of all its cells. Raises BadInput for no image."""
    return encode_image(network, load_reference_image(path, GRAY))


def encode_image(network: Any, image_HWC: RgbImage) -> Floats:
    """Encode an RGB image as the mean features of all its cells."""
    size = (_EXEMPLAR_SIZE, _EXEMPLAR_SIZE)
    square = cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA)
    mean: Floats = extract_features(network, square.astype(np.uint8)).mean(axis=(0, 1))
    return mean


def normalize(vectors: Floats) -> Floats:
    """Scale vectors to unit length."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: Floats = vectors / np.maximum(lengths, 1e-12)
    return unit


@dataclass(frozen=True)
class LookAlike:
    """Two characters of the library and how alike they are.

    ``similarity``: of their two most similar exemplars. ``own``: of each character, how similar its
    least similar exemplar is to its others; None with a single exemplar.
    """

    first: str
    second: str
    similarity: float
    own: tuple[float | None, float | None]

    @property
    def alarming(self) -> bool:
        """Whether one of them is more like the other than like itself."""
        return any(own is not None and self.similarity >= own for own in self.own)


@dataclass(frozen=True)
class CharacterBank:
    """Unit vectors of exemplars [exemplars, features] by character, relative to one center.

    The first exemplar of a character shows the whole figure: it decides how large a box is.
    """

    vectors: Mapping[str, Floats]

    def similarity(self, name: str, unit_WD: Floats) -> NDArray[np.float64]:
        """Return how similar each vector is to the character's most similar exemplar.

        Rounded, so that sums in another order on another processor give the same value.
        """
        alike_WE = (unit_WD @ self.vectors[name].T).astype(np.float64)
        nearest: NDArray[np.float64] = alike_WE.max(axis=1).round(4)
        return nearest

    def figure_similarity(self, name: str, unit_WD: Floats) -> NDArray[np.float64]:
        """Return how similar each vector is to the character's first exemplar, rounded."""
        alike: NDArray[np.float64] = (unit_WD @ self.vectors[name][0]).astype(np.float64).round(4)
        return alike

    def leave_one_out(self, name: str) -> list[float]:
        """Return how similar each exemplar is to the character's others; empty for a single one."""
        vectors = self.vectors[name]
        if len(vectors) < 2:
            return []
        alike = vectors @ vectors.T
        np.fill_diagonal(alike, -1.0)
        return [round(float(value), 4) for value in alike.max(axis=1)]

    def limit(self, name: str) -> float:
        """Return the similarity from which a window may be the character."""
        own = self.leave_one_out(name)
        if not own:
            return UNCALIBRATED_LIMIT
        return round(max(MIN_LIMIT, LIMIT_SHARE * min(own)), 4)

    def look_alikes(self) -> list[LookAlike]:
        """Compare all pairs of characters, the most alike first."""
        own = {name: min(self.leave_one_out(name), default=None) for name in self.vectors}
        pairs = []
        for first, second in combinations(self.vectors, 2):
            alike = float((self.vectors[first] @ self.vectors[second].T).max())
            pairs.append(LookAlike(first, second, round(alike, 4), (own[first], own[second])))
        return sorted(pairs, key=lambda pair: (-pair.similarity, pair.first, pair.second))


def build_bank(features: Mapping[str, Sequence[Floats]], center: Floats) -> CharacterBank:
    """Build a bank from exemplars' features; characters without an exemplar are left out."""
    return CharacterBank(
        {name: normalize(np.stack(own) - center) for name, own in features.items() if len(own)}
    )
