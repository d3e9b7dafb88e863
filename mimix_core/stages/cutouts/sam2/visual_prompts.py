"""Build SAM2's prompt for each character: its best frame, the box there, and negative points.

Boxes come from the locator, one per frame. SAM2 is prompted at one frame and propagates the mask in
both directions, so that frame should show the character large, complete, uncovered, and not at an
end of the clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mimix_core.stages.cutouts.locate import Box, BoxTrack

# A box side this close to the frame's edge (pixels) is cut off by it.
_EDGE_TOLERANCE = 2.0
# Factor on a frame's value for each side that is cut off.
_CUT_OFF_FACTOR = 0.5
# Largest relative loss of value towards the ends of the clip.
_END_PENALTY = 0.25

POSITIVE_POINT, NEGATIVE_POINT = 1, 0
"""SAM2's point labels: on the character, or on something else."""


@dataclass(frozen=True)
class VisualPrompt:
    """The prompt of one character: frame number, box and points (x, y, label) in frame pixels."""

    frame: int
    box: Box
    points: tuple[tuple[float, float, int], ...] = ()


def build_prompts(
    tracks: Mapping[str, BoxTrack], width: int, height: int
) -> dict[str, VisualPrompt]:
    """Build the prompt of each character that has at least one box.

    The center of another character inside the box becomes a negative point: whoever is in front
    covers it. Not if each has its center in the other's box, where the order is unknown.
    """
    prompts = {}
    for name, track in tracks.items():
        others = [other for key, other in tracks.items() if key != name]
        frame = select_prompt_frame(track, others, width, height)
        box = None if frame is None else track.boxes[frame]
        if frame is None or box is None:
            continue
        points = []
        for other in others:
            rival = other.boxes[frame]
            if (
                rival is None
                or _contains(rival, _center(box))
                or not _contains(box, _center(rival))
            ):
                continue
            points.append((*_center(rival), NEGATIVE_POINT))
        prompts[name] = VisualPrompt(frame, box, tuple(points))
    return prompts


def select_prompt_frame(
    track: BoxTrack, others: Sequence[BoxTrack], width: int, height: int
) -> int | None:
    """Select the frame to prompt SAM2 at, the first of equals; None without any box.

    The value of a frame is the locator's score, times the area of the box relative to the largest
    one, times the share of the box that no other character's box covers, halved for each side that
    the frame cuts off, and up to a quarter less towards the ends of the clip.
    """
    largest = max((_area(box) for box in track.boxes if box is not None), default=0.0)
    if largest <= 0:
        return None

    def frame_value(frame: int) -> float:
        box = track.boxes[frame]
        if box is None:
            return -1.0
        covered = [
            _area(_intersection(box, rival))
            for other in others
            if (rival := other.boxes[frame]) is not None
        ]
        uncovered = 1 - max(covered, default=0.0) / max(_area(box), 1e-6)
        cut_off = sum(
            (
                box[0] <= _EDGE_TOLERANCE,
                box[1] <= _EDGE_TOLERANCE,
                box[2] >= width - _EDGE_TOLERANCE,
                box[3] >= height - _EDGE_TOLERANCE,
            )
        )
        from_middle = abs(2 * frame / max(len(track.boxes) - 1, 1) - 1)
        centrality = 1 - _END_PENALTY * from_middle
        value = track.scores[frame] * _area(box) / largest * uncovered
        return value * _CUT_OFF_FACTOR**cut_off * centrality

    return max(range(len(track.boxes)), key=frame_value)


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _intersection(one: Box, two: Box) -> Box:
    return max(one[0], two[0]), max(one[1], two[1]), min(one[2], two[2]), min(one[3], two[3])


def _center(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _contains(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]
