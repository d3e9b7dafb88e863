"""Text that stands in the bottom band: which lines are overlays, where they are constant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from mimix_core.media import Rect
from mimix_core.settings import OverlaySettings
from mimix_core.stages.overlays.letterbox_detection import Edges
from mimix_core.stages.overlays.text_detection import Box, text_rows

PARTS = 10
"""The episode's time in equal parts; an overlay is seen in several of them."""

_MIN_PARTS = 3
"""The names of opening credits often stand where subtitles do, but in one or two tenths only."""

_MIN_PLACED = 3
"""Lines at one and the same place, in as many scenes, are an overlay however rare they are."""

_SAME_EDGE = 0.012
"""Of the height: lower edges this close are one line's; letters such as g reach below it."""

_SAME_HEIGHT = 0.35
"""Lines on one place differ in height by no more than this."""

_SAME_SIDE = 0.02
"""Of the width: centred on one axis, or flush left on one edge."""

_OTHER_WIDTH = 0.1
"""Widths that differ by more are other words."""

_MIN_WORDINGS = 3

_STEADY = 0.9
"""An overlay in this share of the frames is one that is always there (a ticker, a channel's name).

Only then does its absence from a frame prove anything: subtitles come and go.
"""

_CLEAR_FRAMES = 8
"""Frames without an overlay that a run of scenes must show to keep its whole picture."""


@dataclass(frozen=True)
class Sample:
    """A frame that was looked at.

    ``scene``: index of its scene. ``part``: the tenth of the episode's time it is of. ``lines``:
    lines of text in all of it. ``edges``: where its picture ends, see ``borders``.
    """

    scene: int
    part: int
    pts: int
    lines: tuple[Box, ...]
    edges: Edges | None


@dataclass(frozen=True)
class _Seen:
    """A line of the bottom band and the index of its sample."""

    sample: int
    box: Box


def overlay_lines(
    samples: Sequence[Sample], width: int, height: int, settings: OverlaySettings
) -> list[list[Box]]:
    """Of the lines in each sample, those that belong to an overlay.

    They stand in the bottom band, are seen in several parts of the episode and in several scenes
    (or, in a single scene, with changing words: a sign keeps its own), and either most of their
    rows carry text in ``min_share`` of the samples, or lines of the same height stand at the same
    place in several scenes. What stands right above such a line is its upper line, which is rarer.
    Frames that are full of text have no say in this: a roll of credits passes through the band.
    """
    top = height * (1 - settings.bottom_band)
    voting = [
        index
        for index, sample in enumerate(samples)
        if len(text_rows(sample.lines)) < settings.credits_rows
    ]
    seen = [_Seen(index, box) for index in voting for box in samples[index].lines if box[1] >= top]
    # One frame alone is no overlay, however small the share asked for.
    needed = max(2, ceil(settings.min_share * len(voting)))
    steady = _steady_rows(seen, samples, height, needed)
    found: list[list[Box]] = []
    for index, sample in enumerate(samples):
        counted: list[Box] = []
        for box in sorted(sample.lines, key=lambda box: (-box[3], box)):
            if box[3] <= top:
                continue
            above = any(_right_above(box, other) for other in counted)
            if above or (
                box[1] >= top
                and (
                    steady[box[1] : box[3]].mean() >= 0.5
                    or _placed(_Seen(index, box), seen, samples, width, height)
                )
            ):
                counted.append(box)
        found.append(sorted(counted))
    return found


def clear_scenes(samples: Sequence[Sample], overlays: Sequence[Sequence[Box]]) -> frozenset[int]:
    """Scenes that keep their whole picture in an episode where others are cropped.

    Only where the overlay is always there: runs of neighbouring scenes with enough samples and no
    overlay in any, when nearly all samples of the other scenes have one.
    """
    with_text = {sample.scene for sample, boxes in zip(samples, overlays, strict=True) if boxes}
    runs: list[list[int]] = [[]]
    for scene in sorted({sample.scene for sample in samples}):
        if scene in with_text:
            runs.append([])
        else:
            runs[-1].append(scene)
    counts = {scene: sum(s.scene == scene for s in samples) for run in runs for scene in run}
    clear = frozenset(
        scene
        for run in runs
        if sum(counts[scene] for scene in run) >= _CLEAR_FRAMES
        for scene in run
    )
    rest = [
        bool(boxes)
        for sample, boxes in zip(samples, overlays, strict=True)
        if sample.scene not in clear
    ]
    return clear if rest and sum(rest) >= _STEADY * len(rest) else frozenset()


def above(picture: Rect, overlays: Iterable[Box], margin: int) -> Rect:
    """The part of the picture above the highest overlay, less ``margin`` pixels; even height."""
    tops = [box[1] - margin for box in overlays]
    bottom = min([picture.y + picture.height, *tops])
    return Rect(picture.x, picture.y, picture.width, max(2, (bottom - picture.y) // 2 * 2))


def _steady_rows(
    seen: Sequence[_Seen], samples: Sequence[Sample], height: int, needed: int
) -> NDArray[np.bool_]:
    """For each row of pixels whether ``needed`` samples all over the episode carry text in it."""
    carrying = np.zeros((len(samples), height), bool)
    for one in seen:
        carrying[one.sample, one.box[1] : one.box[3]] = True
    steady: NDArray[np.bool_] = carrying.sum(axis=0) >= needed
    for row in np.flatnonzero(steady):
        here = [one for one in seen if one.box[1] <= row < one.box[3]]
        steady[row] = _spread(here, samples)
    return steady


def _placed(
    line: _Seen, seen: Sequence[_Seen], samples: Sequence[Sample], width: int, height: int
) -> bool:
    """Whether lines stand at the place of ``line`` in several scenes all over the episode."""
    same = [one for one in seen if _same_place(one.box, line.box, width, height)]
    scenes = {samples[one.sample].scene for one in same}
    return len(scenes) >= _MIN_PLACED and _spread(same, samples)


def _spread(seen: Sequence[_Seen], samples: Sequence[Sample]) -> bool:
    """Whether lines are seen all over an episode, and are no sign of a single scene."""
    if len({samples[one.sample].part for one in seen}) < _MIN_PARTS:
        return False
    if len({samples[one.sample].scene for one in seen}) > 1:
        return True
    wordings: list[int] = []
    for one in sorted(seen, key=lambda one: one.box[2] - one.box[0]):
        wide = one.box[2] - one.box[0]
        if not wordings or wide > wordings[-1] * (1 + _OTHER_WIDTH):
            wordings.append(wide)
    return len(wordings) >= _MIN_WORDINGS


def _same_place(one: Box, other: Box, width: int, height: int) -> bool:
    high, wanted = one[3] - one[1], other[3] - other[1]
    return (
        abs(one[3] - other[3]) <= _SAME_EDGE * height
        and abs(high - wanted) <= _SAME_HEIGHT * max(high, wanted)
        and (
            abs(one[0] - other[0]) <= _SAME_SIDE * width
            or abs(one[0] + one[2] - other[0] - other[2]) <= 2 * _SAME_SIDE * width
        )
    )


def _right_above(box: Box, other: Box) -> bool:
    """Whether a line stands on another: less than half a line between them, side by side none."""
    high = box[3] - box[1]
    return (
        abs(other[1] - box[3]) <= high // 2
        and box[0] < other[2]
        and other[0] < box[2]
        and box[1] < other[1]
    )
