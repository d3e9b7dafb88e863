"""Opening and closing credits: scenes with text in much of the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from mimix_core.settings import OverlaySettings, exact
from mimix_core.stages.overlays.frame_sampling import length
from mimix_core.stages.overlays.persistent_text import Sample
from mimix_core.stages.overlays.text_detection import Box, text_rows
from mimix_core.tables import Row

_ENDS = Fraction(1, 5)
"""Names over the picture count in the first and the last fifth of the usable time."""

_NAMES = 3
"""So many frames that show other names each make opening credits; a sign stays what it is."""

_NAME_HEIGHT = 0.025
"""Of the picture's height: smaller text over a picture is no name to be read."""

_SAME = 0.8
"""Text that covers the same pixels to this share (intersection over union) is the same."""

_SAME_WIDTH = 0.1
"""Lines whose widths differ by no more are the same words moved: a sign that the camera passes."""


@dataclass(frozen=True)
class Written:
    """Of a scene's frames: how many were looked at, how many are full of text, the most rows."""

    frames: int
    full: int
    most_rows: int


def credit_scenes(
    scenes: Sequence[Row],
    samples: Sequence[Sample],
    overlays: Sequence[Sequence[Box]],
    height: int,
    settings: OverlaySettings,
) -> dict[int, str]:
    """Index of each scene that is credits, with the figures that say so. Overlays do not count.

    Cards and rolls: scenes of which ``credits_share`` of the frames have ``credits_rows`` rows of
    text, where neighbouring ones last ``credits_seconds`` together or reach an end of the episode.
    A page of a book fills the frame as well, but for one short shot in the middle.
    Names over the picture: near an end of the episode, neighbouring scenes of which that share of
    the frames have any text, which is another one in several frames.
    """
    rest: dict[int, list[tuple[Box, ...]]] = {}
    for sample, boxes in zip(samples, overlays, strict=True):
        lines = tuple(box for box in sample.lines if box not in boxes)
        rest.setdefault(sample.scene, []).append(lines)
    found: dict[int, str] = {}
    judged = {
        index: Written(
            len(frames),
            sum(len(text_rows(lines)) >= settings.credits_rows for lines in frames),
            max(len(text_rows(lines)) for lines in frames),
        )
        for index, frames in rest.items()
    }
    looked_at = sorted(rest)
    for run in _runs(
        looked_at, lambda i: judged[i].full >= settings.credits_share * judged[i].frames
    ):
        seconds = sum((length(scenes[index]) for index in run), Fraction(0))
        at_end = run != looked_at and (run[0] == looked_at[0] or run[-1] == looked_at[-1])
        if at_end or seconds >= exact(settings.credits_seconds):
            for index in run:
                one = judged[index]
                found[index] = (
                    f"{settings.credits_rows} or more rows of text in {one.full} of {one.frames} "
                    f"frames, at most {one.most_rows}; such scenes last {float(seconds):.1f} s here"
                )
    names = {index: _names(frames, height) for index, frames in rest.items()}
    near = _near_ends(scenes)
    for run in _runs(
        looked_at,
        lambda i: i in near and len(names[i]) >= settings.credits_share * judged[i].frames,
    ):
        different = _different([lines for index in run for lines in names[index]])
        if different >= _NAMES:
            for index in run:
                found.setdefault(
                    index,
                    f"text over the picture in {len(names[index])} of {judged[index].frames} "
                    f"frames, {different} different ones in these {len(run)} scenes",
                )
    return found


def _runs(items: Sequence[int], belongs: Callable[[int], bool]) -> list[list[int]]:
    """Maximal stretches of neighbours that belong."""
    runs: list[list[int]] = [[]]
    for item in items:
        if belongs(item):
            runs[-1].append(item)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _near_ends(scenes: Sequence[Row]) -> set[int]:
    """Scenes whose middle lies in the first or the last fifth of all scenes' time."""
    total = sum(scene["end_pts"] - scene["start_pts"] for scene in scenes)
    near, before = set(), 0
    for index, scene in enumerate(scenes):
        ticks = scene["end_pts"] - scene["start_pts"]
        middle = before + Fraction(ticks, 2)
        if min(middle, total - middle) < _ENDS * total:
            near.add(index)
        before += ticks
    return near


def _names(frames: Sequence[tuple[Box, ...]], height: int) -> list[tuple[Box, ...]]:
    """The frames that have lines large enough for names, with those lines."""
    large = [
        tuple(box for box in lines if box[3] - box[1] >= _NAME_HEIGHT * height) for lines in frames
    ]
    return [lines for lines in large if lines]


def _different(texts: Sequence[tuple[Box, ...]]) -> int:
    """How many of the texts, each a set of lines, are unlike all before them."""
    kept: list[tuple[Box, ...]] = []
    for lines in texts:
        if not any(_moved(lines, other) or _overlap(lines, other) >= _SAME for other in kept):
            kept.append(lines)
    return len(kept)


def _moved(one: Sequence[Box], other: Sequence[Box]) -> bool:
    """Whether the lines are as many and as wide, wherever they stand."""
    widths = [sorted(box[2] - box[0] for box in lines) for lines in (one, other)]
    return len(one) == len(other) and all(
        abs(a - b) <= _SAME_WIDTH * max(a, b) for a, b in zip(*widths, strict=True)
    )


def _overlap(one: Sequence[Box], other: Sequence[Box]) -> float:
    """Intersection over union of what two sets of boxes cover; boxes of a set overlap little."""
    shared = sum(
        max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
        for a in one
        for b in other
    )
    total = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (*one, *other))
    return shared / (total - shared) if total > shared else 1.0
