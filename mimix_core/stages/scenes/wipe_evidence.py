"""Whether frames that change block by block are a wipe or a slide, or motion within a shot.

In a wipe each block changes once, in the short time in which the edge crosses it, and is calm
before and after; the time depends on the block's place. In a slide the frame is put together from
parts of its first and its last one. Motion within a shot changes blocks again and again.

Differences are of thumbnails, and tolerate motion by a pixel of theirs: what counts is how far a
pixel is outside of the values around its place in the other frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.frame_distances import Floats, FrameDistances
from mimix_core.stages.scenes.frame_downscale import THUMBNAIL_SIZE, ByteArray

LAG = 3
"""Frames between the two that are compared: an edge takes some frames to cross a block."""

_BLOCK_SIZE = (4, 3)
"""Width and height of a block, in pixels of the thumbnail's luma."""

BLOCK_PIXELS = _BLOCK_SIZE[0] * _BLOCK_SIZE[1]

MIN_BLOCK_CHANGE = 8
"""Mean difference (levels of 255) of a block that shows something else."""

_AROUND = 12
"""Frames before and after a wipe in which its blocks are calm."""

_CROSSING_PART = 6
"""An edge crosses a block in this part of the wipe's time at most, there being as many blocks."""

_MOMENTS = (0.2, 0.35, 0.5, 0.65, 0.8)
"""When frames are examined for an edge, as shares of the transition's time."""

_TOLERANCE = 3
"""Pixels of the thumbnail by which either shot may have moved during a slide."""

_MIN_CHANGED = 0.6
"""Least share of blocks that show something else after any of these transitions."""

_MIN_SWEPT, _MAX_MISFIT, _MIN_CONCENTRATION, _MIN_ORDER, _MIN_SPREAD = 0.8, 0.12, 0.78, 0.8, 0.05
"""Limits of a wipe; see ``WipeEvidence``. ``perf/wipes.py`` measures what they find."""

_MIN_QUIET_CHANGED, _MAX_QUIET_MISFIT = 0.85, 0.06
_MIN_QUIET_CONCENTRATION, _MIN_QUIET_ORDER = 0.75, 0.65
"""The same between two quiet shots, which leave less doubt. A fast wipe has few times of change."""

_MIN_SURE = 0.5
"""Least share of blocks whose change is concentrated: only these count for the order."""

_MAX_EDGE_MISFIT, _MIN_SEAM, _MAX_UNREST = 0.2, 0.85, 0.5
"""The same of a slide. A fast pan also moves one half out and the other in, but has no seam, unless
its background repeats, and goes on before and after."""

_MIN_CLOSED, _MAX_PLAIN_CONTRAST = 0.9, 0.03
"""The same of an iris that closes to a plain frame, and opens again."""

_CHUNK = 2048
"""Frames compared at once."""

BlockChanges = NDArray[np.uint16]
_Luma = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class WipeEvidence:
    """What speaks for a wipe.

    ``changed``: the share of blocks that show something else afterwards. ``misfit``: median
    difference of a block from the first shot before it turns into the second one, and from the
    second one afterwards, as a share of their difference. ``concentration``: median share of a
    block's change that happens while an edge could cross it. ``spread``: standard deviation of the
    times of change, as a share of the wipe's. ``order``: the share of these times' variance that
    the blocks' places explain. ``edge_misfit``: misfit of the frame from parts of both shots, apart
    at an edge that moves. ``seam``: the contrast at this edge, relative to that elsewhere.
    ``unrest``: how much blocks change before or after the wipe, whichever is less, relative to that
    within. ``contrast``: the least contrast on the way, relative to the shots'.
    """

    changed: float
    misfit: float
    concentration: float
    spread: float
    order: float
    edge_misfit: float
    seam: float
    unrest: float
    contrast: float


def measure_block_changes(thumbnails: ByteArray) -> BlockChanges:
    """Return for each frame the summed changes of each block until ``LAG`` frames later."""
    columns, rows = THUMBNAIL_SIZE[0] // _BLOCK_SIZE[0], THUMBNAIL_SIZE[1] // _BLOCK_SIZE[1]
    chunks = [np.zeros((0, columns * rows), np.uint16)]
    for start in range(0, len(thumbnails) - LAG, _CHUNK):
        luma = _luma(thumbnails[start : start + _CHUNK + LAG])
        low, high = _envelope(luma)
        chunks.append(
            _sum_blocks(
                np.maximum(
                    _outside(luma[LAG:], low[:-LAG], high[:-LAG]),
                    _outside(luma[:-LAG], low[LAG:], high[LAG:]),
                )
            )
        )
    return np.concatenate(chunks)


def plain_block_differences(one: ByteArray, other: ByteArray) -> BlockChanges:
    """Return the summed absolute differences of each block's luma: [frames, blocks]."""
    first, second = _luma(one), _luma(other)
    return _sum_blocks(np.maximum(first, second) - np.minimum(first, second))


def _luma(thumbnails: ByteArray) -> _Luma:
    width, height = THUMBNAIL_SIZE
    return thumbnails[:, : width * height].reshape(-1, height, width)


def _sum_blocks(values: _Luma) -> BlockChanges:
    (width, height), (wide, high) = THUMBNAIL_SIZE, _BLOCK_SIZE
    rows = values.reshape(len(values), height // high, high, width).sum(2, dtype=np.uint16)
    blocks = rows.reshape(len(values), height // high, width // wide, wide)
    result: BlockChanges = blocks.sum(3, dtype=np.uint16).reshape(len(values), -1)
    return result


def _envelope(luma: _Luma) -> tuple[_Luma, _Luma]:
    """Return the lowest and the highest value within a pixel of each place."""
    low, high = luma.copy(), luma.copy()
    for result, extreme in ((low, np.minimum), (high, np.maximum)):
        extreme(result[..., 1:], luma[..., :-1], out=result[..., 1:])
        extreme(result[..., :-1], luma[..., 1:], out=result[..., :-1])
        rows = result.copy()
        extreme(result[..., 1:, :], rows[..., :-1, :], out=result[..., 1:, :])
        extreme(result[..., :-1, :], rows[..., 1:, :], out=result[..., :-1, :])
    return low, high


def _outside(luma: _Luma, low: _Luma, high: _Luma) -> _Luma:
    """Return how far values are outside of their range."""
    result: _Luma = (np.maximum(luma, high) - high) + (low - np.minimum(luma, low))
    return result


def measure_evidence(
    distances: FrameDistances, changes: BlockChanges, ends: tuple[int, int], free: tuple[int, int]
) -> WipeEvidence:
    """Measure the frames from the first to the last of ``ends``, which are of one shot each.

    ``free``: the frames [first, last) around them that contain no cut.
    """
    (first, last), (before, after) = ends, free
    images = distances.thumbnails[first : last + 1]
    luma = _luma(images)
    changed = plain_block_differences(images[:1], images[-1:])[0] > MIN_BLOCK_CHANGE * BLOCK_PIXELS
    if changed.mean() < _MIN_CHANGED:
        return WipeEvidence(float(changed.mean()), 1, 0, 0, 0, 1, 1, 1, 1)
    start, stop = max(before, first - _AROUND), min(after - 1, last + _AROUND) - LAG + 1
    concentration, times = _measure_turns(changes[start:stop], last - first)
    edge_misfit, seam = _measure_edge(luma)
    contrast = distances.variances[first : last + 1]
    return WipeEvidence(
        changed=float(changed.mean()),
        misfit=_measure_misfit(luma, changed),
        concentration=float(np.median(concentration[changed])),
        spread=float(times[changed].std() / (last - first)),
        order=_measure_order(times, changed & (concentration >= _MIN_CONCENTRATION)),
        edge_misfit=edge_misfit,
        seam=seam,
        unrest=_measure_unrest(changes, ends, free),
        contrast=float(contrast.min() / max(1.0, min(contrast[0], contrast[-1]))),
    )


def _measure_unrest(changes: BlockChanges, ends: tuple[int, int], free: tuple[int, int]) -> float:
    """Compare how much blocks change before and after the wipe with how much they do within."""
    (first, last), (before, after) = ends, free
    within = changes[first : max(first + 1, last - LAG)].mean()
    outside = (
        changes[max(before, first - _AROUND) : max(before, first - LAG)],
        changes[last : min(after - LAG, last + _AROUND)],
    )
    return min((float(some.mean() / max(1.0, within)) for some in outside if len(some)), default=0)


def _measure_turns(changes: BlockChanges, length: int) -> tuple[Floats, Floats]:
    """Return for each block the share of its change in one crossing of the edge, and when."""
    excess = np.maximum(changes - np.median(changes, axis=0), 0)
    crossing = min(LAG + -(-length // _CROSSING_PART), len(excess))
    total = np.concatenate([np.zeros((1, excess.shape[1])), np.cumsum(excess, axis=0)])
    within = total[crossing:] - total[:-crossing]
    return within.max(0) / np.maximum(total[-1], 1), within.argmax(0).astype(float)


def _measure_misfit(luma: _Luma, changed: NDArray[np.bool_]) -> float:
    """Measure how far blocks are from the first shot until they turn, and from the second then."""
    to_first, to_last = (
        _sum_blocks(_outside(luma, *_envelope(end))).astype(float) for end in (luma[:1], luma[-1:])
    )
    start = np.zeros((1, to_first.shape[1]))
    misfit = np.concatenate([start, np.cumsum(to_first, axis=0)])
    misfit += np.concatenate([np.cumsum(to_last[::-1], axis=0)[::-1], start])
    scale = np.maximum((to_first[-1] + to_last[0]) / 2, BLOCK_PIXELS)
    share: Floats = misfit.min(0) / scale / len(luma)
    return float(np.median(share[changed]))


def _measure_order(times: Floats, changed: NDArray[np.bool_]) -> float:
    """Return how much of the times' variance the blocks' places explain, by least squares."""
    variance = times[changed].var() if changed.mean() >= _MIN_SURE else 0
    if variance == 0:
        return 0.0
    basis = _PLACES[changed]
    weights, *_ = np.linalg.lstsq(basis, times[changed], rcond=None)
    residual = ((times[changed] - basis @ weights) ** 2).sum()
    degrees = max(1, int(changed.sum()) - basis.shape[1])
    return float(1 - residual / degrees / variance)


def _places() -> Floats:
    """Return what edges move along: sideways, from the middle, around it; [blocks, functions]."""
    columns, rows = THUMBNAIL_SIZE[0] // _BLOCK_SIZE[0], THUMBNAIL_SIZE[1] // _BLOCK_SIZE[1]
    y, x = np.mgrid[0:rows, 0:columns].reshape(2, -1)
    x, y = (x + 0.5) / columns * 2 - 1, (y + 0.5) / rows * 2 - 1
    radius = np.hypot(x, y)
    around = np.arctan2(x, y)
    return np.stack(
        [np.ones_like(x), x, y, radius, abs(x), abs(y), x / radius, y / radius, around], axis=1
    )


_PLACES = _places()


def _measure_edge(luma: _Luma) -> tuple[float, float]:
    """Return the misfit and the seam of the straight edge that explains the frames best."""
    values = luma.astype(np.int16)
    views = (values, values[..., ::-1], values.swapaxes(1, 2), values.swapaxes(1, 2)[..., ::-1])
    return min((found for view in views for found in _measure_edge_left(view)), default=(1.0, 1.0))


def _measure_edge_left(luma: NDArray[np.int16]) -> Iterator[tuple[float, float]]:
    """Measure edges that move left: the first shot is left of it, the second one right of it.

    Either moves with the edge or not. ``luma`` [frames, height, width].
    """
    size = luma.shape[2]
    moments = sorted({round((len(luma) - 1) * share) for share in _MOMENTS})
    ends = [_envelope(luma[at : at + 1]) for at in (0, -1)]
    scale = max(1.0, float(_outside(luma[-1:], *ends[0]).mean()))
    mirrored = [_envelope(luma[-1:, :, ::-1])]
    parts = np.arange(2, size - 1)
    costs = []
    for moment in moments:
        old = _part_costs(luma[moment], ends[0], size - parts)
        # Mirrored, the second shot is left of the edge.
        new = _part_costs(luma[moment][:, ::-1], mirrored[0], parts)
        costs.append((old, new))
    for moves_first in (0, 1):
        for moves_last in (0, 1):
            totals = [old[moves_first] + new[moves_last] for old, new in costs]
            shown = [int(parts[total.argmin()]) for total in totals]
            if any(one >= other for one, other in pairwise(shown)):
                continue
            misfit = float(np.median([total.min() for total in totals])) / size / scale
            seams = [_seam(luma[at], size - part) for at, part in zip(moments, shown, strict=True)]
            yield misfit, float(np.median(seams))


def _part_costs(
    image: NDArray[np.int16], ends: tuple[_Luma, _Luma], lengths: NDArray[np.int64]
) -> Floats:
    """Return the costs of explaining the leftmost ``lengths`` columns by those of a shot.

    [2, lengths]: by the same columns; by the rightmost ones, of a shot that moves with the edge.
    Both within the tolerance. ``ends``: the envelope of the shot's frame.
    """
    height, size = image.shape
    shifts = np.arange(-_TOLERANCE, size + _TOLERANCE + 1)
    low, high = (
        np.lib.stride_tricks.sliding_window_view(
            np.pad(end[0], ((0, 0), (_TOLERANCE, size + _TOLERANCE)), "edge"), size, axis=1
        )
        for end in ends
    )
    cost = _outside(image[:, None, :], low, high).sum(0, dtype=np.int64)
    total = np.concatenate([np.zeros((len(shifts), 1)), np.cumsum(cost, axis=1)], axis=1) / height
    offsets = np.arange(2 * _TOLERANCE + 1)[:, None]
    still = total[offsets, lengths].min(0)
    moved = total[offsets + size - lengths, lengths].min(0)
    return np.stack([still, moved])


def _seam(image: NDArray[np.int16], column: int) -> float:
    """Return the contrast at the left side of a column, relative to that of all columns."""
    steps = np.abs(np.diff(image, axis=1)).mean(0)
    return float(steps[column - 1] / max(1.0, steps.mean()))


def is_wipe(
    distances: FrameDistances, changes: BlockChanges, ends: tuple[int, int], free: tuple[int, int]
) -> bool:
    """Return whether the frames within ``ends`` are a wipe; see ``measure_evidence``."""
    evidence = measure_evidence(distances, changes, ends, free)
    return _speaks_for_wipe(evidence)


def _speaks_for_wipe(evidence: WipeEvidence) -> bool:
    sweeps = (
        evidence.changed >= _MIN_SWEPT
        and evidence.misfit <= _MAX_MISFIT
        and evidence.concentration >= _MIN_CONCENTRATION
        and evidence.order >= _MIN_ORDER
        and evidence.spread >= _MIN_SPREAD
    )
    sweeps_quietly = (
        evidence.changed >= _MIN_QUIET_CHANGED
        and evidence.misfit <= _MAX_QUIET_MISFIT
        and evidence.concentration >= _MIN_QUIET_CONCENTRATION
        and evidence.order >= _MIN_QUIET_ORDER
        and evidence.spread >= _MIN_SPREAD
    )
    slides = (
        evidence.edge_misfit <= _MAX_EDGE_MISFIT
        and evidence.seam >= _MIN_SEAM
        and evidence.unrest <= _MAX_UNREST
    )
    closes = evidence.changed >= _MIN_CLOSED and evidence.contrast <= _MAX_PLAIN_CONTRAST
    return sweeps or sweeps_quietly or slides or closes
