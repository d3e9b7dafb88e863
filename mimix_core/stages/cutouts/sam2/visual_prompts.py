"""What SAM2 is told about a character: its best frame, the box there, points that are not it.

Boxes come from the locator, one a frame. SAM2 is asked at one frame and follows the character from
there both ways, so that frame should show much of it, whole, alone, and not at an end of the clip.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mimix_core.stages.cutouts.locate import Box, Located

# A side of a box this close to the frame's edge (pixels) is cut off by it.
_AT_EDGE = 2.0
# What each side that is cut off leaves of a frame's worth.
_CUT_OFF = 0.5
# What being at an end of the clip, farthest from the other, takes of it.
_FAR_END = 0.25

INSIDE, OUTSIDE = 1, 0
"""SAM2's labels of a point: on the character, or on something else."""


@dataclass(frozen=True)
class Prompt:
    """One character at its best frame: its box and points (x, y, label) in the frame's pixels."""

    frame: int
    box: Box
    points: tuple[tuple[float, float, int], ...] = ()


def prompts(located: Mapping[str, Located], width: int, height: int) -> dict[str, Prompt]:
    """The prompt of each character that has a box at all.

    The middle of another character that lies in the box is a point outside: whoever stands in
    front of it takes its middle. Not where each has its middle in the other's box: there neither
    is known to be in front.
    """
    found = {}
    for name, place in located.items():
        others = [other for key, other in located.items() if key != name]
        frame = best_frame(place, others, width, height)
        box = None if frame is None else place.boxes[frame]
        if frame is None or box is None:
            continue
        points = []
        for other in others:
            rival = other.boxes[frame]
            if rival is None or _holds(rival, _middle(box)) or not _holds(box, _middle(rival)):
                continue
            points.append((*_middle(rival), OUTSIDE))
        found[name] = Prompt(frame, box, tuple(points))
    return found


def best_frame(place: Located, others: Sequence[Located], width: int, height: int) -> int | None:
    """The frame to ask at, the first of equals; None when the character has no box.

    A frame is worth the locator's score there, times the share that its box has of the largest
    box, times the share of it that no other character's box covers, halved for each side that the
    frame cuts off, and up to a quarter less towards the clip's ends.
    """
    largest = max((_area(box) for box in place.boxes if box is not None), default=0.0)
    if largest <= 0:
        return None

    def worth(frame: int) -> float:
        box = place.boxes[frame]
        if box is None:
            return -1.0
        covered = [
            _area(_common(box, rival))
            for other in others
            if (rival := other.boxes[frame]) is not None
        ]
        clear = 1 - max(covered, default=0.0) / max(_area(box), 1e-6)
        cut_off = sum(
            (
                box[0] <= _AT_EDGE,
                box[1] <= _AT_EDGE,
                box[2] >= width - _AT_EDGE,
                box[3] >= height - _AT_EDGE,
            )
        )
        from_middle = abs(2 * frame / max(len(place.boxes) - 1, 1) - 1)
        near = 1 - _FAR_END * from_middle
        return place.scores[frame] * _area(box) / largest * clear * _CUT_OFF**cut_off * near

    return max(range(len(place.boxes)), key=worth)


def _area(box: Box) -> float:
    return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)


def _common(one: Box, two: Box) -> Box:
    return max(one[0], two[0]), max(one[1], two[1]), min(one[2], two[2]), min(one[3], two[3])


def _middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def _holds(box: Box, point: tuple[float, float]) -> bool:
    return box[0] <= point[0] < box[2] and box[1] <= point[1] < box[3]
