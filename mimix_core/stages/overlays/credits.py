"""Detect opening and closing credits: scenes with text in much of the frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from mimix_core.settings import OverlaySettings, exact_seconds
from mimix_core.stages.overlays.frame_sampling import scene_duration
from mimix_core.stages.overlays.persistent_text import SampledFrame
from mimix_core.stages.overlays.text_detection import PixelBox, group_text_rows
from mimix_core.tables import SceneRow

_END_SHARE = Fraction(1, 5)
"""Names over the image count in the first and the last fifth of the usable time."""

_MIN_DIFFERENT_TEXTS = 3
"""Opening credits show at least this many different texts; a sign shows one."""

_MIN_NAME_HEIGHT = 0.025
"""Share of the frame's height; smaller text over the image is not a credited name."""

_SAME_TEXT_IOU = 0.8
"""Texts whose pixels have at least this intersection over union are the same."""

_SAME_WIDTH = 0.1
"""Lines whose widths differ by no more are the same words moved: a sign that the camera passes."""


@dataclass(frozen=True)
class SceneTextDensity:
    """Sampled frames of a scene, how many of them are full of text, and the most rows of text."""

    frames: int
    full: int
    most_rows: int


def detect_credits(
    scenes: Sequence[SceneRow],
    samples: Sequence[SampledFrame],
    overlays: Sequence[Sequence[PixelBox]],
    height: int,
    settings: OverlaySettings,
) -> dict[int, str]:
    """Map the index of each credits scene to the evidence. Overlay text is not counted.

    Cards and rolls: scenes with ``credits_rows`` rows of text in ``credits_share`` of their frames,
    if a run of such scenes lasts ``credits_seconds`` or reaches an end of the episode. A page of a
    book fills the frame too, but only for one short shot in the middle.
    Names over the image: near an end of the episode, runs of scenes with any text in that share of
    their frames, and a different text in several frames.
    """
    text_lines: dict[int, list[tuple[PixelBox, ...]]] = {}
    for sample, overlay in zip(samples, overlays, strict=True):
        lines = tuple(box for box in sample.lines if box not in overlay)
        text_lines.setdefault(sample.scene, []).append(lines)
    evidence: dict[int, str] = {}
    densities = {
        index: SceneTextDensity(
            len(frames),
            sum(len(group_text_rows(lines)) >= settings.credits_rows for lines in frames),
            max(len(group_text_rows(lines)) for lines in frames),
        )
        for index, frames in text_lines.items()
    }
    sampled = sorted(text_lines)
    for run in _runs(
        sampled, lambda i: densities[i].full >= settings.credits_share * densities[i].frames
    ):
        seconds = sum((scene_duration(scenes[index]) for index in run), Fraction(0))
        at_end = run != sampled and (run[0] == sampled[0] or run[-1] == sampled[-1])
        if at_end or seconds >= exact_seconds(settings.credits_seconds):
            for index in run:
                density = densities[index]
                evidence[index] = (
                    f"{settings.credits_rows} or more rows of text in {density.full} of "
                    f"{density.frames} frames, at most {density.most_rows}; such scenes last "
                    f"{float(seconds):.1f} s here"
                )
    names = {index: _frames_with_names(frames, height) for index, frames in text_lines.items()}
    near_ends = _scenes_near_ends(scenes)
    for run in _runs(
        sampled,
        lambda i: i in near_ends and len(names[i]) >= settings.credits_share * densities[i].frames,
    ):
        different = _count_different([lines for index in run for lines in names[index]])
        if different >= _MIN_DIFFERENT_TEXTS:
            for index in run:
                evidence.setdefault(
                    index,
                    f"text over the image in {len(names[index])} of {densities[index].frames} "
                    f"frames, {different} different texts in these {len(run)} scenes",
                )
    return evidence


def _runs(items: Sequence[int], is_member: Callable[[int], bool]) -> list[list[int]]:
    """Split ``items`` into maximal runs of neighbors that are members."""
    runs: list[list[int]] = [[]]
    for item in items:
        if is_member(item):
            runs[-1].append(item)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _scenes_near_ends(scenes: Sequence[SceneRow]) -> set[int]:
    """Return scenes with their middle in the first or the last fifth of all scenes' time."""
    total = sum(scene["end_pts"] - scene["start_pts"] for scene in scenes)
    near, before = set(), 0
    for index, scene in enumerate(scenes):
        ticks = scene["end_pts"] - scene["start_pts"]
        middle = before + Fraction(ticks, 2)
        if min(middle, total - middle) < _END_SHARE * total:
            near.add(index)
        before += ticks
    return near


def _frames_with_names(
    frames: Sequence[tuple[PixelBox, ...]], height: int
) -> list[tuple[PixelBox, ...]]:
    """Return the lines large enough for names, of each frame that has any."""
    large = [
        tuple(box for box in lines if box[3] - box[1] >= _MIN_NAME_HEIGHT * height)
        for lines in frames
    ]
    return [lines for lines in large if lines]


def _count_different(texts: Sequence[tuple[PixelBox, ...]]) -> int:
    """Count the texts, each a set of lines, that differ from all texts before them."""
    different: list[tuple[PixelBox, ...]] = []
    for lines in texts:
        if not any(
            _is_moved_copy(lines, other) or _iou(lines, other) >= _SAME_TEXT_IOU
            for other in different
        ):
            different.append(lines)
    return len(different)


def _is_moved_copy(one: Sequence[PixelBox], other: Sequence[PixelBox]) -> bool:
    """Return whether two texts have lines of the same number and widths, at any position."""
    widths = [sorted(box[2] - box[0] for box in lines) for lines in (one, other)]
    return len(one) == len(other) and all(
        abs(a - b) <= _SAME_WIDTH * max(a, b) for a, b in zip(*widths, strict=True)
    )


def _iou(one: Sequence[PixelBox], other: Sequence[PixelBox]) -> float:
    """Return the intersection over union of two sets of boxes; boxes of a set overlap little."""
    shared = sum(
        max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
        for a in one
        for b in other
    )
    total = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (*one, *other))
    return shared / (total - shared) if total > shared else 1.0
