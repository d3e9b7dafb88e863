"""Find overlay text in the bottom band: lines that recur at one position over the episode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from mimix_core.media import Rect
from mimix_core.settings import OverlaySettings
from mimix_core.stages.overlays.letterbox_detection import ContentEdges
from mimix_core.stages.overlays.text_detection import PixelBox, group_text_rows

EPISODE_PARTS = 10
"""Equal parts of the episode's time; an overlay occurs in several of them."""

_MIN_PARTS = 3
"""Names in opening credits often have the position of subtitles, but in one or two parts only."""

_MIN_SCENES_AT_POSITION = 3
"""Lines at the same position in this many scenes are an overlay, however rare they are."""

_SAME_EDGE = 0.012
"""Share of the height: lower edges this close are the same; letters such as g reach below."""

_SAME_HEIGHT = 0.35
"""Relative difference in height up to which lines at the same position match."""

_SAME_SIDE = 0.02
"""Share of the width: lines are centered on the same axis or aligned at the same left edge."""

_OTHER_WIDTH = 0.1
"""Lines whose widths differ by more have different words."""

_MIN_WORDINGS = 3

_PERMANENT_SHARE = 0.9
"""Share of frames with an overlay from which on it is permanent (a ticker, a channel's name).

Only then does its absence from a frame mean anything: subtitles come and go.
"""

_MIN_CLEAR_FRAMES = 8
"""Frames without an overlay that a run of scenes needs to be exempt from cropping."""


@dataclass(frozen=True)
class SampledFrame:
    """A sampled frame.

    ``scene``: index of its scene. ``part``: index of its part of the episode, see
    ``EPISODE_PARTS``. ``lines``: all lines of text in it. ``edges``: of its lit area, see
    ``letterbox_detection``. ``other_boxes``: text boxes that have not the shape of a line.
    """

    scene: int
    part: int
    pts: int
    lines: tuple[PixelBox, ...]
    edges: ContentEdges | None
    other_boxes: tuple[PixelBox, ...] = ()


@dataclass(frozen=True)
class _BandLine:
    """A line of text in the bottom band and the index of its sample."""

    sample: int
    box: PixelBox


def find_overlay_text(
    samples: Sequence[SampledFrame], width: int, height: int, settings: OverlaySettings
) -> list[list[PixelBox]]:
    """For each sample, find the lines of text that belong to an overlay.

    Overlay lines lie in the bottom band and occur in several parts of the episode and in several
    scenes (or in a single scene with changing words: the words of a sign do not change). In
    addition, either most of their pixel rows contain text in ``min_text_share`` of the samples, or
    lines of the same height occur at the same position in several scenes. A line directly above an
    overlay line is its upper line, which is rarer. Frames full of text are not counted: a credits
    roll passes through the band.
    """
    top = height * (1 - settings.bottom_band)
    counted = [
        index
        for index, sample in enumerate(samples)
        if len(group_text_rows(sample.lines)) < settings.credits_rows
    ]
    band_lines = [
        _BandLine(index, box) for index in counted for box in samples[index].lines if box[1] >= top
    ]
    # A single frame is not enough evidence, however small the required share.
    min_samples = max(2, ceil(settings.min_text_share * len(counted)))
    persistent = _persistent_rows(band_lines, samples, height, min_samples)
    overlays: list[list[PixelBox]] = []
    for index, sample in enumerate(samples):
        overlay: list[PixelBox] = []
        for box in sorted(sample.lines, key=lambda box: (-box[3], box)):
            if box[3] <= top:
                continue
            is_upper_line = any(_is_directly_above(box, other) for other in overlay)
            if is_upper_line or (
                box[1] >= top
                and (
                    persistent[box[1] : box[3]].mean() >= 0.5
                    or _recurs_at_position(
                        _BandLine(index, box), band_lines, samples, width, height
                    )
                )
            ):
                overlay.append(box)
        overlays.append(sorted(overlay))
    return overlays


def find_overlay_free_scenes(
    samples: Sequence[SampledFrame], overlays: Sequence[Sequence[PixelBox]]
) -> frozenset[int]:
    """Find scenes that need no cropping although others of the episode do.

    They exist only where the overlay is permanent elsewhere: runs of neighboring scenes with enough
    samples and no overlay in any, while nearly all samples of the other scenes have one.
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
        if sum(counts[scene] for scene in run) >= _MIN_CLEAR_FRAMES
        for scene in run
    )
    others = [
        bool(boxes)
        for sample, boxes in zip(samples, overlays, strict=True)
        if sample.scene not in clear
    ]
    return clear if others and sum(others) >= _PERMANENT_SHARE * len(others) else frozenset()


def crop_above_text(content: Rect, overlays: Iterable[PixelBox], margin: int) -> Rect:
    """Crop the content ``margin`` pixels above the highest overlay, to an even height."""
    tops = [box[1] - margin for box in overlays]
    bottom = min([content.y + content.height, *tops])
    return Rect(content.x, content.y, content.width, max(2, (bottom - content.y) // 2 * 2))


def _persistent_rows(
    band_lines: Sequence[_BandLine],
    samples: Sequence[SampledFrame],
    height: int,
    min_samples: int,
) -> NDArray[np.bool_]:
    """Return for each pixel row whether ``min_samples`` samples across the episode have text."""
    has_text = np.zeros((len(samples), height), bool)
    for line in band_lines:
        has_text[line.sample, line.box[1] : line.box[3]] = True
    persistent: NDArray[np.bool_] = has_text.sum(axis=0) >= min_samples
    for row in np.flatnonzero(persistent):
        at_row = [line for line in band_lines if line.box[1] <= row < line.box[3]]
        persistent[row] = _occurs_across_episode(at_row, samples)
    return persistent


def _recurs_at_position(
    line: _BandLine,
    band_lines: Sequence[_BandLine],
    samples: Sequence[SampledFrame],
    width: int,
    height: int,
) -> bool:
    """Return whether lines occur at the position of ``line`` in several scenes and parts."""
    same = [other for other in band_lines if _same_position(other.box, line.box, width, height)]
    scenes = {samples[other.sample].scene for other in same}
    return len(scenes) >= _MIN_SCENES_AT_POSITION and _occurs_across_episode(same, samples)


def _occurs_across_episode(lines: Sequence[_BandLine], samples: Sequence[SampledFrame]) -> bool:
    """Return whether lines occur in enough parts of an episode and are not one scene's sign."""
    if len({samples[line.sample].part for line in lines}) < _MIN_PARTS:
        return False
    if len({samples[line.sample].scene for line in lines}) > 1:
        return True
    wordings: list[int] = []
    for line in sorted(lines, key=lambda line: line.box[2] - line.box[0]):
        width = line.box[2] - line.box[0]
        if not wordings or width > wordings[-1] * (1 + _OTHER_WIDTH):
            wordings.append(width)
    return len(wordings) >= _MIN_WORDINGS


def _same_position(one: PixelBox, other: PixelBox, width: int, height: int) -> bool:
    one_height, other_height = one[3] - one[1], other[3] - other[1]
    return (
        abs(one[3] - other[3]) <= _SAME_EDGE * height
        and abs(one_height - other_height) <= _SAME_HEIGHT * max(one_height, other_height)
        and (
            abs(one[0] - other[0]) <= _SAME_SIDE * width
            or abs(one[0] + one[2] - other[0] - other[2]) <= 2 * _SAME_SIDE * width
        )
    )


def _is_directly_above(box: PixelBox, other: PixelBox) -> bool:
    """Return whether a line is above another, overlapping in x, less than half a line away."""
    height = box[3] - box[1]
    return (
        abs(other[1] - box[3]) <= height // 2
        and box[0] < other[2]
        and other[0] < box[2]
        and box[1] < other[1]
    )
