"""Find flashes within shots, and take them out of the footage: lightning, a camera's flash, a fade.

To the detectors of boundaries a flash is a cut to white and back, or a cut to white and a fade
back, or a fade. What tells it apart is that the same shot goes on afterwards, and where its motion
has led to by then. So what may be a flash near a boundary is examined; and with frames of the shot
in place of the flashes found, all boundaries are detected again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.alignment import (
    STILL,
    Alignment,
    align_thumbnails,
    continue_motion,
    keep_details,
)
from mimix_core.stages.scenes.frame_distances import (
    THUMBNAIL_VALUES,
    Floats,
    FrameDistanceBuilder,
    FrameDistances,
    Segment,
)
from mimix_core.stages.scenes.frame_downscale import THUMBNAIL_SIZE, ByteArray

_PIXELS = THUMBNAIL_SIZE[0] * THUMBNAIL_SIZE[1]

_MAX_FLASH_FRAMES = 16
"""Maximum length of a flash with its decay, frames: longer ones are fades."""

_MAX_GAP = 3
"""Frames of nearly normal light within a flash."""

_MIN_CHANGE, _MIN_PEAK = 6, 12
"""Levels of mean luma by which each frame of a flash differs from the frames around it, and by
which at least one does."""

_MIN_STEP = 5
"""Levels by which mean luma or contrast change from one frame to the next at least once: what
passes by changes them more slowly."""

_MAX_PLAIN_CONTRAST = 0.5
"""A frame is plain when it has this share of the contrast around it (root mean square)."""

_MAX_HARD_STEP = 0.75
"""A dip to a plain frame with a larger share of its depth in one step is no fade, but a blank
frame, which ends a scene."""

_MAX_NOISE, _MAX_OPPOSITE_PIXELS, _MIN_UNCHANGED_PIXELS = 10, 0.15, 0.3
"""A frame shows the shot with a part of it lit when hardly any pixels are darker by so many levels
than before and after, and many are as they are then; and the reverse for a dip."""

_MIN_CORRELATION = 0.7
"""Minimum correlation of the frames before and after a flash; see ``alignment``. Of two shots, one
pair in ten has as much at some shift, but not at one that fits their motion."""

_MIN_DETAIL_CORRELATION = 0.55
"""The same without what a light changes; generated shots lit by a spot have 0.57 to 0.85, and
unrelated ones at most 0.46."""

_MAX_DEVIATION, _MAX_RELATIVE_DEVIATION, _MAX_SCALE_RATIO = 3.0, 0.5, 1.25
"""The shift over a flash is that over as much time before or after it, within this many pixels of
the thumbnail plus this share of it, and the magnification within this ratio."""

_MAX_TINT = 16
"""Maximum difference of the mean chroma, levels."""

_MAX_STILL_DECORRELATION, _MAX_STILL_DIFFERENCE = 0.2, 144
"""Frames that differ by no more (see ``FrameDistances.decorrelation``; levels^2 per value) are of
the same shot, in which hardly anything moves."""


@dataclass(frozen=True)
class Flash:
    """Frames [start, end) of a flash within a shot, and how the shot moves in this time."""

    start: int
    end: int
    motion: Alignment = STILL


def find_flashes(distances: FrameDistances, segments: Sequence[Segment]) -> list[Flash]:
    """Find flashes and short fades after which the same shot goes on; in order.

    ``segments``: what has been found without regard to flashes. Only flashes that may be the reason
    for a boundary or a transition matter.
    """
    is_boundary = np.zeros(len(distances), bool)
    for segment in segments:
        is_boundary[segment.start] = segment.start > 0
        if segment.transition:
            is_boundary[segment.start : segment.end] = True
    if not is_boundary.any():
        return []
    luma = distances.sums[:, 0] / _PIXELS
    contrast = np.sqrt(np.maximum(_luma_variances(distances), 0))
    found: list[Flash] = []
    for flash in sorted(set(_candidates(luma, contrast)), key=lambda each: (each.start, -each.end)):
        if found and flash.start < found[-1].end:
            continue
        if (
            is_boundary[flash.start - 1 : flash.end + 2].any()
            and not _is_blank(luma, contrast, flash)
            and (motion := _find_motion(distances, flash)) is not None
            and _shows_the_shot(distances, contrast, flash, motion)
        ):
            found.append(Flash(flash.start, flash.end, motion))
    return found


def remove_flashes(distances: FrameDistances, flashes: Sequence[Flash]) -> FrameDistances:
    """Return the distances with frames that lead on from before to after it in place of a flash."""
    thumbnails = distances.thumbnails.copy()
    for flash in flashes:
        thumbnails[flash.start : flash.end] = continue_motion(
            thumbnails[flash.start - 1],
            thumbnails[flash.end],
            flash.motion,
            flash.end - flash.start,
        )
    builder = FrameDistanceBuilder()
    for thumbnail in thumbnails:
        builder.add(thumbnail)
    return builder.finish()


def outside_flashes(cuts: Iterable[int], flashes: Sequence[Flash]) -> list[int]:
    """Return those of ``cuts`` that are not at the start or the end of a flash, or within it."""
    return [cut for cut in cuts if not any(each.start <= cut <= each.end for each in flashes)]


def _luma_variances(distances: FrameDistances) -> Floats:
    values = distances.thumbnails[:, :_PIXELS].astype(np.int32)
    sums = values.sum(1, dtype=np.int64)
    result: Floats = ((values * values).sum(1, dtype=np.int64) - sums**2 / _PIXELS) / _PIXELS
    return result


def _candidates(luma: Floats, contrast: Floats) -> Iterator[Flash]:
    """Yield short runs of frames that are brighter, darker or plainer than those around them.

    What a morphological opening or closing over a longer time changes is short.
    """
    usual = -_open(-contrast)
    for values, change, least, peak in (
        (luma, luma - _open(luma), _MIN_CHANGE, _MIN_PEAK),
        (luma, -_open(-luma) - luma, _MIN_CHANGE, _MIN_PEAK),
        (contrast, usual - contrast, _MAX_PLAIN_CONTRAST * usual, _MIN_CHANGE),
    ):
        marked = np.flatnonzero((change >= least) & (change > 0))
        if not len(marked):
            continue
        for run in np.split(marked, np.flatnonzero(np.diff(marked) > _MAX_GAP) + 1):
            start, end = int(run[0]), int(run[-1]) + 1
            if (
                start > 0
                and end < len(luma)
                and end - start <= _MAX_FLASH_FRAMES
                and change[start:end].max() >= peak
                and np.abs(np.diff(values[start - 1 : end + 1])).max() >= _MIN_STEP
            ):
                yield Flash(start, end)


def _open(values: Floats) -> Floats:
    """Return values without peaks shorter than ``_MAX_FLASH_FRAMES`` + 1 (grey opening)."""
    for extreme in (np.min, np.max):
        padded = np.pad(values, _MAX_FLASH_FRAMES // 2, "edge")
        windows = np.lib.stride_tricks.sliding_window_view(padded, _MAX_FLASH_FRAMES + 1)
        values = extreme(windows, axis=1)
    return values


def _is_blank(luma: Floats, contrast: Floats, flash: Flash) -> bool:
    """Return whether frames are black, or darker and plain, from one frame to the next."""
    before, after = flash.start - 1, flash.end
    darkest = flash.start + int(luma[flash.start : flash.end].argmin())
    depth = (luma[before] + luma[after]) / 2 - luma[darkest]
    steps = np.diff(luma[before : after + 1])
    return bool(
        depth >= _MIN_PEAK
        and contrast[darkest] <= _MAX_PLAIN_CONTRAST * min(contrast[before], contrast[after])
        and max(-steps.min(), steps.max()) > _MAX_HARD_STEP * depth
    )


def _shows_the_shot(
    distances: FrameDistances, contrast: Floats, flash: Flash, motion: Alignment
) -> bool:
    """Return whether each frame of a flash is plain, or the shot in another light.

    Others are of another shot, inserted for a moment.
    """
    before, after = flash.start - 1, flash.end
    thumbnails = distances.thumbnails
    around = thumbnails[[before, after], :_PIXELS].astype(np.int16)
    low, high = around.min(0) - _MAX_NOISE, around.max(0) + _MAX_NOISE
    usual = min(contrast[before], contrast[after])
    for frame in range(flash.start, flash.end):
        shown = thumbnails[frame, :_PIXELS]
        darker, brighter = float((shown < low).mean()), float((shown > high).mean())
        if (
            contrast[frame] <= _MAX_PLAIN_CONTRAST * usual
            or (
                min(darker, brighter) <= _MAX_OPPOSITE_PIXELS
                and darker + brighter <= 1 - _MIN_UNCHANGED_PIXELS
            )
            or any(
                _is_on_the_way(alignment, motion, least)
                for end in (before, after)
                for alignment, least in _align_in_any_light(thumbnails[end], thumbnails[frame])
            )
        ):
            continue
        return False
    return True


def _align_in_any_light(one: ByteArray, other: ByteArray) -> Iterator[tuple[Alignment, float]]:
    """Yield how two frames match, as they are and by their details, and the least correlation."""
    yield align_thumbnails(one, other), _MIN_CORRELATION
    yield align_thumbnails(keep_details(one), keep_details(other)), _MIN_DETAIL_CORRELATION


def _is_on_the_way(alignment: Alignment, motion: Alignment, least: float) -> bool:
    """Return whether a frame within a flash matches one beside it, moved no more than this far."""
    return bool(
        alignment.correlation >= least
        and np.hypot(*alignment.shift) <= _MAX_DEVIATION + np.hypot(*motion.shift)
        and max(alignment.scale, 1 / alignment.scale) <= _MAX_SCALE_RATIO
    )


def _find_motion(distances: FrameDistances, flash: Flash) -> Alignment | None:
    """Return how a shot moves during a flash; None: the frames beside it are not of one shot."""
    before, after = flash.start - 1, flash.end
    lag = after - before
    chroma = distances.sums[[before, after], 1:] * 4 / _PIXELS
    if np.abs(chroma[0] - chroma[1]).max() > _MAX_TINT:
        return None
    if (
        distances.decorrelation(np.array([before]), lag)[0] <= _MAX_STILL_DECORRELATION
        and distances.distance(before, after) <= _MAX_STILL_DIFFERENCE * THUMBNAIL_VALUES
    ):
        return STILL
    frames: NDArray[np.uint8] = distances.thumbnails
    over = align_thumbnails(frames[before], frames[after])
    if over.correlation < _MIN_CORRELATION:
        return None
    pairs = ((before - lag, before), (after, after + lag))
    continues = any(
        _is_continued(align_thumbnails(frames[first], frames[last]), over)
        for first, last in pairs
        if first >= 0 and last < len(distances)
    )
    return over if continues else None


def _is_continued(motion: Alignment, over: Alignment) -> bool:
    """Return whether the motion over a flash is about that in as much time beside it."""
    limit = _MAX_DEVIATION + _MAX_RELATIVE_DEVIATION * np.hypot(*motion.shift)
    deviation = np.hypot(*np.subtract(motion.shift, over.shift))
    ratio = max(motion.scale / over.scale, over.scale / motion.scale)
    return bool(deviation <= limit and ratio <= _MAX_SCALE_RATIO)
