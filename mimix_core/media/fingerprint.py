"""What a clip looks like in 2 kB, and how alike two clips are that may begin at different times.

A fingerprint is a byte with its version and then, of every fourth frame of a clip, a thumbnail:
8 x 8 luma and twice 4 x 4 chroma means, one byte each. All sums are of integers, and the floats
that stand for them are exact, so equal clips have equal fingerprints and equal answers on every
machine. Two numbers compare clips at a shift of whole thumbnails (1/4 s):

- likeness: the mean cosine of the thumbnails; light and contrast of a picture do not count. Footage
  and its copy are alike, but so are two shots of one set.
- common motion: the correlation of what changes over time, the mean picture of each clip taken
  away. It is what two shots of one set do not share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.domain.timeline import CLIP_FRAMES, CLIP_RATE

VERSION = 1
STEP = 4
THUMBS = (CLIP_FRAMES - 1) // STEP + 1
LUMA, CHROMA = 8, 4
CELLS = LUMA * LUMA + 2 * CHROMA * CHROMA
SPACING = STEP / CLIP_RATE
"""Seconds between two thumbnails."""

_CHROMA_WEIGHT = 3
"""Colours vary less than light does, and there are fewer of them."""

_FLAT = 2
"""Levels (root mean square over a thumbnail) that are added to its contrast: pictures with less,
such as black ones, are like no other."""

_SCALE = 127


class Maker:
    """Takes the frames of one clip, ``av.VideoFrame`` yuv420p, and gives its fingerprint."""

    def __init__(self) -> None:
        self._thumbs: list[bytes] = []

    def add(self, number: int, frame: Any) -> None:
        """Look at frame ``number``, counted from 0; to be called in order."""
        if number % STEP == 0:
            planes = zip(frame.planes, (LUMA, CHROMA, CHROMA), strict=True)
            self._thumbs.append(
                b"".join(_means(_pixels(p), cells).tobytes() for p, cells in planes)
            )

    def done(self) -> bytes:
        return bytes([VERSION]) + b"".join(self._thumbs)


def _pixels(plane: Any) -> NDArray[np.uint8]:
    rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
    return rows[:, : plane.width]


def _means(pixels: NDArray[np.uint8], cells: int) -> NDArray[np.uint8]:
    """Means over ``cells`` x ``cells`` equal parts, rounded."""
    height, width = pixels.shape
    rows = np.arange(cells + 1) * height // cells
    columns = np.arange(cells + 1) * width // cells
    corners = cv2.integral(pixels)[np.ix_(rows, columns)].astype(np.int64)
    sums = np.diff(np.diff(corners, axis=0), axis=1)
    counts = np.outer(np.diff(rows), np.diff(columns))
    means: NDArray[np.uint8] = ((sums + counts // 2) // counts).astype(np.uint8)
    return means


def read(fingerprints: Sequence[bytes]) -> NDArray[np.uint8]:
    """Thumbnails of clips, uint8 [clips, THUMBS, CELLS]. Raises ValueError."""
    for one in fingerprints:
        if one[:1] != bytes([VERSION]) or len(one) != 1 + THUMBS * CELLS:
            raise ValueError(f"no fingerprint of version {VERSION}: {len(one)} bytes")
    joined = np.frombuffer(b"".join(fingerprints), np.uint8)
    return joined.reshape(len(fingerprints), 1 + THUMBS * CELLS)[:, 1:].reshape(-1, THUMBS, CELLS)


def directions(thumbs: NDArray[np.uint8]) -> NDArray[np.int8]:
    """Thumbnails without light and contrast: [..., CELLS] whole numbers, at most 127 long.

    The product of two is 127 x 127 times their cosine. Products of float32 copies are exact: they
    stay below 2 ** 24.
    """
    light = thumbs[..., : LUMA * LUMA].astype(np.int64)
    # 64 times what is meant, to stay with integers.
    luma = light * light.shape[-1] - light.sum(axis=-1, keepdims=True)
    colour = (thumbs[..., LUMA * LUMA :].astype(np.int64) - 128) * (_CHROMA_WEIGHT * LUMA * LUMA)
    both = np.concatenate([luma, colour], axis=-1)
    length = np.sqrt((both * both).sum(axis=-1, keepdims=True).astype(np.float64))
    floor = _FLAT * LUMA * LUMA * LUMA
    whole: NDArray[np.int8] = np.rint(both * (_SCALE / (length + floor))).astype(np.int8)
    return whole


SEARCHED = THUMBS - 2 * (STEP // 2)
"""Thumbnails of a clip that have another one 1/2 s before and after: what a search looks at."""

SEARCH_SCALE = 90

SEARCH_LEAST = 1.2
"""Of at most 2: what the search vectors of one moment of a clip and of its copy have in common."""


def search_vectors(thumbs: NDArray[np.uint8]) -> NDArray[np.int8]:
    """What to look for first, of thumbnails [clips, THUMBS, CELLS]: [clips, SEARCHED, numbers].

    Half of a vector is the picture at half the size, half the change of light over the second
    around it; each is at most ``SEARCH_SCALE`` long. Products of float32 copies are exact.
    """
    light = thumbs[..., : LUMA * LUMA].astype(np.int64)
    colour = thumbs[..., LUMA * LUMA :].astype(np.int64) - 128
    around = STEP // 2
    middle = slice(around, -around)
    coarse = _halved(light[:, middle], LUMA)
    cells = coarse.shape[-1]
    # Sums of 2 x 2 cells; ``cells`` times what is meant, to stay with integers.
    picture = np.concatenate(
        [
            coarse * cells - coarse.sum(axis=-1, keepdims=True),
            *(
                _halved(part[:, middle], CHROMA) * (_CHROMA_WEIGHT * cells)
                for part in np.split(colour, 2, axis=-1)
            ),
        ],
        axis=-1,
    )
    change = light[:, 2 * around :] - light[:, : -2 * around]
    return np.concatenate(
        [_direction(picture, _FLAT * 4 * cells * 4), _direction(change, LUMA)], axis=-1
    )


def _direction(values: NDArray[np.int64], floor: int) -> NDArray[np.int8]:
    length = np.sqrt((values * values).sum(axis=-1, keepdims=True).astype(np.float64))
    whole: NDArray[np.int8] = np.rint(values * (SEARCH_SCALE / (length + floor))).astype(np.int8)
    return whole


def _halved(cells: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Sums of 2 x 2 of the ``side`` x ``side`` cells on the last axis."""
    half = side // 2
    summed: NDArray[np.int64] = cells.reshape(*cells.shape[:-1], half, 2, half, 2).sum(
        axis=(-3, -1)
    )
    return summed.reshape(*cells.shape[:-1], half * half)


@dataclass(frozen=True)
class Comparison:
    """Pairs of clips at the shift where they have most motion in common.

    ``likeness`` and ``motion``: -1..1 [pairs], -1 where no shift is alike enough. ``shift``:
    thumbnails by which the second clip's are later.
    """

    likeness: NDArray[np.float64]
    motion: NDArray[np.float64]
    shift: NDArray[np.int64]


def least_overlap(seconds: Fraction) -> int:
    """Thumbnails that two clips must have in common, for an overlap of ``seconds``."""
    return min(THUMBS, max(2, -int(-seconds // SPACING)))


def compare(
    first: NDArray[np.uint8], second: NDArray[np.uint8], *, overlap: int, likeness: float
) -> Comparison:
    """Compare thumbnails [pairs, THUMBS, CELLS] at all shifts that leave ``overlap`` in common."""
    pairs = len(first)
    alike = (
        directions(first).astype(np.float32)
        @ directions(second).astype(np.float32).transpose(0, 2, 1)
    ).astype(np.float64)
    one, other = _weighted(first), _weighted(second)
    best = np.full(pairs, -1.0)
    at = np.full(pairs, -1.0)
    shifts = np.zeros(pairs, np.int64)
    for shift in range(overlap - THUMBS, THUMBS - overlap + 1):
        count = THUMBS - abs(shift)
        mean = np.diagonal(alike, shift, 1, 2).sum(axis=1) / (count * _SCALE * _SCALE)
        a = one[:, max(0, -shift) :][:, :count]
        b = other[:, max(0, shift) :][:, :count]
        motion = _correlation(a, b, count)
        better = (mean >= likeness) & (motion > best)
        best[better], at[better], shifts[better] = motion[better], mean[better], shift
    return Comparison(at, best, shifts)


def _weighted(thumbs: NDArray[np.uint8]) -> NDArray[np.float64]:
    values = thumbs.astype(np.float64)
    values[..., LUMA * LUMA :] *= _CHROMA_WEIGHT
    return values


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Of the changes over time, all cells together, -1..1 [pairs]; 0 where nothing changes.

    All terms are whole numbers below 2 ** 53.
    """

    def common(x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
        products = np.einsum("ptc,ptc->p", x, y)
        sums = np.einsum("pc,pc->p", x.sum(axis=1), y.sum(axis=1))
        total: NDArray[np.float64] = count * products - sums
        return total

    scale = np.sqrt(common(a, a)) * np.sqrt(common(b, b))
    result: NDArray[np.float64] = common(a, b) / np.maximum(scale, 1)
    return result
