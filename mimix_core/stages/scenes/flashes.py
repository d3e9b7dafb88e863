"""Find flashes within shots, and take them out of the footage: lightning, a camera's flash, a fade.

To the detectors of boundaries a flash is a cut to white and back, or a cut to white and a fade back,
or a fade. What tells it apart is that the same shot goes on afterwards, and where its motion has led
to by then. So flashes are searched for first, and the detectors then see the frames before and
after in place of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.scenes.alignment import Alignment, align_thumbnails
from mimix_core.stages.scenes.frame_distances import (
    THUMBNAIL_VALUES,
    Floats,
    FrameDistanceBuilder,
    FrameDistances,
)
from mimix_core.stages.scenes.frame_downscale import THUMBNAIL_SIZE

_PIXELS = THUMBNAIL_SIZE[0] * THUMBNAIL_SIZE[1]

_MAX_FLASH_FRAMES = 16
"""Maximum length of a flash with its decay, frames: longer ones are fades."""

_MAX_GAP = 3
"""Frames of nearly normal light within a flash."""

_MIN_CHANGE, _MIN_PEAK = 6, 12
"""Levels of mean luma by which each frame of a flash differs from the frames around it, and by which
at least one does."""

_MIN_STEP = 5
"""Levels by which mean luma or contrast change from one frame to the next at least once: what passes
by changes them more slowly."""

_MAX_PLAIN_CONTRAST = 0.5
"""A frame is plain when it has this share of the contrast around it (root mean square)."""

_MAX_HARD_STEP = 0.75
"""A dip to a plain frame with a larger share of its depth in one step is no fade, but a blank
frame, which ends a scene."""

_MAX_OPPOSITE, _MAX_OPPOSITE_PIXELS = 10, 0.15
"""A frame shows the shot, brightened, when no more than this share of its pixels are darker by so
many levels than around it; and the reverse for a dip."""

_MIN_CORRELATION = 0.7
"""Minimum correlation of the frames before and after a flash; see ``alignment``. Of two shots, one
pair in ten has as much at some shift, but not at one that fits their motion."""

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
    """Frames [start, end) of a flash within a shot."""

    start: int
    end: int


def find_flashes(distances: FrameDistances) -> list[Flash]:
    """Find flashes and short fades after which the same shot goes on; in order."""
    luma = distances.sums[:, 0] / _PIXELS
    contrast = np.sqrt(np.maximum(_luma_variances(distances), 0))
    found: list[Flash] = []
    for flash in sorted(set(_candidates(luma, contrast)), key=lambda each: (each.start, -each.end)):
        if found and flash.start < found[-1].end:
            continue
        if _shows_the_shot(distances, luma, contrast, flash) and _is_same_shot(distances, flash):
            found.append(flash)
    return found


def remove_flashes(distances: FrameDistances, flashes: Sequence[Flash]) -> FrameDistances:
    """Return the distances with the frames before and after each flash in place of its own."""
    if not flashes:
        return distances
    thumbnails = distances.thumbnails.copy()
    for flash in flashes:
        middle = (flash.start + flash.end) // 2
        thumbnails[flash.start : middle] = thumbnails[flash.start - 1]
        thumbnails[middle : flash.end] = thumbnails[flash.end]
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


def _shows_the_shot(
    distances: FrameDistances, luma: Floats, contrast: Floats, flash: Flash
) -> bool:
    """Return whether each frame of a flash is plain, or the shot in another light.

    Others are of another shot, inserted for a moment. So are blank frames: black from one frame to
    the next.
    """
    before, after = flash.start - 1, flash.end
    frames = np.arange(flash.start, flash.end)
    usual = min(contrast[before], contrast[after])
    plain = contrast[frames] <= _MAX_PLAIN_CONTRAST * usual
    around = distances.thumbnails[[before, after], :_PIXELS].astype(np.int16)
    low, high = around.min(0) - _MAX_OPPOSITE, around.max(0) + _MAX_OPPOSITE
    shown = distances.thumbnails[frames, :_PIXELS]
    mean = (luma[before] + luma[after]) / 2
    darker = luma[frames] < mean
    opposite = np.where(darker[:, None], shown > high, shown < low).mean(1)
    steps = np.diff(luma[before : after + 1])
    depth = mean - luma[frames].min()
    is_blank = (
        depth >= _MIN_PEAK
        and plain[luma[frames].argmin()]
        and max(-steps.min(), steps.max()) > _MAX_HARD_STEP * depth
    )
    return not is_blank and bool((plain | (opposite <= _MAX_OPPOSITE_PIXELS)).all())


def _is_same_shot(distances: FrameDistances, flash: Flash) -> bool:
    """Return whether the frames before and after a flash are of one shot, which may be moving."""
    before, after = flash.start - 1, flash.end
    lag = after - before
    chroma = distances.sums[[before, after], 1:] * 4 / _PIXELS
    if np.abs(chroma[0] - chroma[1]).max() > _MAX_TINT:
        return False
    if (
        distances.decorrelation(np.array([before]), lag)[0] <= _MAX_STILL_DECORRELATION
        and distances.distance(before, after) <= _MAX_STILL_DIFFERENCE * THUMBNAIL_VALUES
    ):
        return True
    frames: NDArray[np.uint8] = distances.thumbnails
    over = align_thumbnails(frames[before], frames[after])
    if over.correlation < _MIN_CORRELATION:
        return False
    pairs = ((before - lag, before), (after, after + lag))
    return any(
        _is_continued(align_thumbnails(frames[first], frames[last]), over)
        for first, last in pairs
        if first >= 0 and last < len(distances)
    )


def _is_continued(motion: Alignment, over: Alignment) -> bool:
    """Return whether the motion over a flash is about that in as much time beside it."""
    limit = _MAX_DEVIATION + _MAX_RELATIVE_DEVIATION * np.hypot(*motion.shift)
    deviation = np.hypot(*np.subtract(motion.shift, over.shift))
    ratio = max(motion.scale / over.scale, over.scale / motion.scale)
    return bool(deviation <= limit and ratio <= _MAX_SCALE_RATIO)
