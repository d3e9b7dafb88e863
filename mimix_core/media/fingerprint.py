"""Clip fingerprints of 2 kB (81 frames), and comparison of clips that may start at different times.

A fingerprint is a version byte followed by a thumbnail of every fourth frame: 8 x 8 luma means and
two planes of 4 x 4 chroma means, one byte each. All sums are integer sums and are represented
exactly as floats: equal clips have equal fingerprints and results on every machine. Two measures
compare clips at a shift of whole thumbnails (1/4 s):

- similarity: the mean cosine of the thumbnails, independent of brightness and contrast. It is high
  for footage and its copy, but also for two shots of one set.
- motion correlation: the correlation of the changes over time, after subtracting each clip's mean
  thumbnail. Two shots of one set do not share it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.media.inset import find_inset

VERSION = 1
LUMA, CHROMA = 8, 4
THUMBNAIL_VALUES = LUMA * LUMA + 2 * CHROMA * CHROMA
THUMBNAIL_INTERVAL = Fraction(1, 4)
"""Seconds between two thumbnails."""

_CHROMA_WEIGHT = 3
"""Chroma varies less than luma does, and has fewer cells."""

_MIN_CONTRAST = 2
"""Levels (root mean square over a thumbnail) added to its contrast: frames with less contrast, such
as black ones, are not similar to any other."""

_VECTOR_LENGTH = 127


_INSET_LINES = 50
"""Chroma planes are halved to at least so many lines for the search of an inset, luma to twice."""


class FingerprintBuilder:
    """Builds the fingerprints of one clip from its frames, ``av.VideoFrame`` yuv420p."""

    def __init__(self, rate: Fraction = CLIP_RATE) -> None:
        """Prepare for a clip of ``rate`` frames per second, a multiple of four."""
        self._step = int(THUMBNAIL_INTERVAL * rate)
        self._thumbnails: list[bytes] = []
        self._small: list[list[NDArray[np.uint8]]] = []

    def add(self, number: int, frame: Any) -> None:
        """Add frame ``number``, counted from 0; call it for all frames in order."""
        if number % self._step == 0:
            planes = [_pixels(plane) for plane in frame.planes]
            self._thumbnails.append(_thumbnail(planes))
            self._small.append(_halve_planes(planes))

    def finish(self) -> bytes:
        """Return the fingerprint of the frames added."""
        return bytes([VERSION]) + b"".join(self._thumbnails)

    def finish_inset(self) -> bytes:
        """Return the fingerprint of the image within the frames added; empty if there is none."""
        inset = find_inset([planes[0] for planes in self._small])
        if inset is None:
            return b""
        thumbnails = (_thumbnail([inset.crop(p) for p in planes]) for planes in self._small)
        return bytes([VERSION]) + b"".join(thumbnails)


def _thumbnail(planes: Sequence[NDArray[np.uint8]]) -> bytes:
    sides = zip(planes, (LUMA, CHROMA, CHROMA), strict=True)
    return b"".join(_cell_means(plane, cells).tobytes() for plane, cells in sides)


def _halve_planes(planes: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """Halve all planes by averaging, in integers, while they have more lines than needed."""
    halved = [plane.copy() for plane in planes]
    while halved[1].shape[0] >= 2 * _INSET_LINES:
        for number, plane in enumerate(halved):
            high, wide = plane.shape[0] // 2, plane.shape[1] // 2
            halved[number] = cv2.resize(
                plane[: 2 * high, : 2 * wide], (wide, high), interpolation=cv2.INTER_AREA
            ).astype(np.uint8, copy=False)
    return halved


def _pixels(plane: Any) -> NDArray[np.uint8]:
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def _cell_means(pixels: NDArray[np.uint8], cells: int) -> NDArray[np.uint8]:
    """Compute rounded means over a grid of ``cells`` x ``cells``."""
    height, width = pixels.shape
    rows = np.arange(cells + 1) * height // cells
    columns = np.arange(cells + 1) * width // cells
    corners = cv2.integral(pixels)[np.ix_(rows, columns)].astype(np.int64)
    sums = np.diff(np.diff(corners, axis=0), axis=1)
    counts = np.outer(np.diff(rows), np.diff(columns))
    means: NDArray[np.uint8] = ((sums + counts // 2) // counts).astype(np.uint8)
    return means


def parse_fingerprints(fingerprints: Sequence[bytes]) -> NDArray[np.uint8]:
    """Parse fingerprints of clips of one length to uint8 [clips, thumbnails, THUMBNAIL_VALUES].

    Raises ValueError for other bytes, for clips of several lengths, and for no clips at all.
    """
    lengths = {len(fingerprint) for fingerprint in fingerprints}
    if len(lengths) != 1:
        raise ValueError(f"clips of one length expected, not of {len(lengths)}")
    (length,) = lengths
    count, remainder = divmod(length - 1, THUMBNAIL_VALUES)
    versions = {fingerprint[:1] for fingerprint in fingerprints}
    if versions != {bytes([VERSION])} or count < 2 or remainder:
        raise ValueError(f"not a fingerprint of version {VERSION}: {length} bytes")
    joined = np.frombuffer(b"".join(fingerprints), np.uint8)
    return joined.reshape(-1, length)[:, 1:].reshape(-1, count, THUMBNAIL_VALUES)


def mirror_thumbnails(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the thumbnails [..., THUMBNAIL_VALUES] of the same clips, mirrored left to right."""
    edges = (LUMA * LUMA, LUMA * LUMA + CHROMA * CHROMA)
    planes = np.split(thumbnails, edges, axis=-1)
    mirrored = [
        plane.reshape(*plane.shape[:-1], side, side)[..., ::-1].reshape(plane.shape)
        for plane, side in zip(planes, (LUMA, CHROMA, CHROMA), strict=True)
    ]
    return np.concatenate(mirrored, axis=-1)


def normalize_thumbnails(thumbnails: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Remove brightness and contrast: integer vectors [..., THUMBNAIL_VALUES] of length up to 127.

    The dot product of two is 127 x 127 times their cosine. Products of float32 copies are exact,
    because they stay below 2 ** 24.
    """
    luma_cells = thumbnails[..., : LUMA * LUMA].astype(np.int64)
    # Scaled by 64 to stay with integers.
    luma = luma_cells * luma_cells.shape[-1] - luma_cells.sum(axis=-1, keepdims=True)
    chroma = (thumbnails[..., LUMA * LUMA :].astype(np.int64) - 128) * (
        _CHROMA_WEIGHT * LUMA * LUMA
    )
    both = np.concatenate([luma, chroma], axis=-1)
    length = np.sqrt((both * both).sum(axis=-1, keepdims=True).astype(np.float64))
    floor = _MIN_CONTRAST * LUMA * LUMA * LUMA
    rounded: NDArray[np.int8] = np.rint(both * (_VECTOR_LENGTH / (length + floor))).astype(np.int8)
    return rounded


_SEARCH_REACH = 2
"""Thumbnails before and after one that its search vector compares: 1/2 s each way."""

SEARCH_VECTOR_LENGTH = 90

MIN_SEARCH_PRODUCT = 1.2
"""Minimum normalized product (at most 2) of the search vectors of a clip and of its copy."""


def build_search_vectors(thumbnails: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Build search vectors [clips, positions, values] of thumbnails, as a cheap prefilter.

    The positions are the thumbnails that have others 1/2 s before and after. One half of a vector
    is the thumbnail at half size, the other the change of luma over the second around it (less in
    clips of less than a second); each has a length of up to ``SEARCH_VECTOR_LENGTH``. Products of
    float32 copies are exact.
    """
    count = thumbnails.shape[1]
    offset = min(_SEARCH_REACH, (count - 1) // 2)
    positions = np.arange(offset, count - offset)
    luma_cells = thumbnails[..., : LUMA * LUMA].astype(np.int64)
    chroma = thumbnails[..., LUMA * LUMA :].astype(np.int64) - 128
    coarse = _sum_2x2_cells(luma_cells[:, positions], LUMA)
    cells = coarse.shape[-1]
    # Sums of 2 x 2 cells, scaled by ``cells`` to stay with integers.
    appearance = np.concatenate(
        [
            coarse * cells - coarse.sum(axis=-1, keepdims=True),
            *(
                _sum_2x2_cells(part[:, positions], CHROMA) * (_CHROMA_WEIGHT * cells)
                for part in np.split(chroma, 2, axis=-1)
            ),
        ],
        axis=-1,
    )
    before = np.maximum(positions - _SEARCH_REACH, 0)
    after = np.minimum(positions + _SEARCH_REACH, count - 1)
    change = luma_cells[:, after] - luma_cells[:, before]
    return np.concatenate(
        [
            _normalize_search_vector(appearance, _MIN_CONTRAST * 4 * cells * 4),
            _normalize_search_vector(change, LUMA),
        ],
        axis=-1,
    )


def _normalize_search_vector(values: NDArray[np.int64], floor: int) -> NDArray[np.int8]:
    length = np.sqrt((values * values).sum(axis=-1, keepdims=True).astype(np.float64))
    rounded: NDArray[np.int8] = np.rint(values * (SEARCH_VECTOR_LENGTH / (length + floor))).astype(
        np.int8
    )
    return rounded


def _sum_2x2_cells(cells: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Sum blocks of 2 x 2 of the ``side`` x ``side`` cells on the last axis."""
    half = side // 2
    summed: NDArray[np.int64] = cells.reshape(*cells.shape[:-1], half, 2, half, 2).sum(
        axis=(-3, -1)
    )
    return summed.reshape(*cells.shape[:-1], half * half)


@dataclass(frozen=True)
class ClipComparison:
    """Measures of clip pairs at the shift with the highest motion correlation.

    ``similarity`` and ``motion_correlation``: -1..1 [pairs], -1 where no shift is similar enough.
    ``shift``: thumbnails by which the second clip is later.
    """

    similarity: NDArray[np.float64]
    motion_correlation: NDArray[np.float64]
    shift: NDArray[np.int64]


def query_positions(positions: int) -> range:
    """Choose the search vectors of a later clip that are compared with all of an earlier clip's.

    Any overlap of two seconds contains one of them, also that of two whole shorter clips.
    """
    return range(min(_SEARCH_REACH, positions - 1), positions, 2 * _SEARCH_REACH)


def min_overlap_thumbnails(seconds: Fraction, thumbnails: int) -> int:
    """Return how many of its ``thumbnails`` a clip must share for an overlap of ``seconds``.

    Shorter clips must share all of them.
    """
    return min(thumbnails, max(2, -int(-seconds // THUMBNAIL_INTERVAL)))


def compare_clips(
    first: NDArray[np.uint8], second: NDArray[np.uint8], *, overlap: int, min_similarity: float
) -> ClipComparison:
    """Compare pairs of thumbnails at all shifts with at least ``overlap`` thumbnails in common."""
    pairs, thumbnails = first.shape[:2]
    cosines = (
        normalize_thumbnails(first).astype(np.float32)
        @ normalize_thumbnails(second).astype(np.float32).transpose(0, 2, 1)
    ).astype(np.float64)
    weighted_first, weighted_second = _weight_chroma(first), _weight_chroma(second)
    first_sums, second_sums = _RangeSums(weighted_first), _RangeSums(weighted_second)
    products = weighted_first @ weighted_second.transpose(0, 2, 1)
    best_motion = np.full(pairs, -1.0)
    best_similarity = np.full(pairs, -1.0)
    shifts = np.zeros(pairs, np.int64)
    for shift in range(overlap - thumbnails, thumbnails - overlap + 1):
        count = thumbnails - abs(shift)
        similarity = np.diagonal(cosines, shift, 1, 2).sum(axis=1) / (
            count * _VECTOR_LENGTH * _VECTOR_LENGTH
        )
        first_range = range(max(0, -shift), max(0, -shift) + count)
        second_range = range(max(0, shift), max(0, shift) + count)
        covariance = count * np.diagonal(products, shift, 1, 2).sum(axis=1) - np.einsum(
            "pc,pc->p", first_sums.values(first_range), second_sums.values(second_range)
        )
        scale = np.sqrt(first_sums.variance(first_range))
        scale *= np.sqrt(second_sums.variance(second_range))
        motion = covariance / np.maximum(scale, 1)
        better = (similarity >= min_similarity) & (motion > best_motion)
        best_motion[better], best_similarity[better] = motion[better], similarity[better]
        shifts[better] = shift
    return ClipComparison(best_similarity, best_motion, shifts)


def _weight_chroma(thumbnails: NDArray[np.uint8]) -> NDArray[np.float64]:
    values = thumbnails.astype(np.float64)
    values[..., LUMA * LUMA :] *= _CHROMA_WEIGHT
    return values


class _RangeSums:
    """Sums over ranges of a clip's weighted thumbnails [pairs, thumbnails, values].

    All terms, of motion correlations as well, are integers below 2 ** 53: sums are exact in any
    order. A pair without any change over time has a variance of 0.
    """

    def __init__(self, weighted: NDArray[np.float64]) -> None:
        zeros = np.zeros_like(weighted[:, :1])
        self._values = np.concatenate([zeros, weighted.cumsum(axis=1)], axis=1)
        squares = np.einsum("ptc,ptc->pt", weighted, weighted)
        self._squares = np.concatenate([zeros[..., 0], squares.cumsum(axis=1)], axis=1)

    def values(self, thumbnails: range) -> NDArray[np.float64]:
        """Return the sum of each value [pairs, values]."""
        sums: NDArray[np.float64] = (
            self._values[:, thumbnails.stop] - self._values[:, thumbnails.start]
        )
        return sums

    def variance(self, thumbnails: range) -> NDArray[np.float64]:
        """Return the variance [pairs], times the square of the number of thumbnails."""
        sums = self.values(thumbnails)
        squares = self._squares[:, thumbnails.stop] - self._squares[:, thumbnails.start]
        result: NDArray[np.float64] = len(thumbnails) * squares - np.einsum("pc,pc->p", sums, sums)
        return result
