"""What every locator gives: one character's boxes over the frames of a clip, and how sure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from mimix_core.tables import Row

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of a clip; the right and bottom sides do not belong to it."""

Track = Sequence[Box | None]
"""One character's box in each frame of a clip, None where it was not located."""

MIN_LINK = 0.3
"""Two sightings whose boxes overlap by less (IoU) are not joined: nothing is known between them."""


@dataclass(frozen=True)
class Located:
    """Where one character is in a clip.

    ``scores``: one a frame, 0 to 1, 0 where there is no box; how likely the locator holds it, in
    its own measure. ``problem``: what broke, so that nothing is known about the character.
    """

    boxes: Track
    scores: Sequence[float]
    problem: str = ""


class Locator(Protocol):
    """Says where each of some characters is in a clip."""

    @property
    def name(self) -> str: ...

    def locate(self, clip: Row, characters: Sequence[str]) -> dict[str, Located]: ...


@dataclass(frozen=True)
class Sighting:
    """A box in one frame, and how sure the locator is of it."""

    box: Box
    score: float


def nowhere(frames: int, problem: str = "") -> Located:
    """Located in none of ``frames`` frames."""
    return Located([None] * frames, [0.0] * frames, problem)


def sampled(frames: int, every: int) -> list[int]:
    """Frame 0, every ``every``-th one, and the last."""
    numbers = list(range(0, frames, every))
    return numbers if numbers[-1] == frames - 1 else [*numbers, frames - 1]


def joined(sightings: Mapping[int, Sighting], frames: int, max_gap: int) -> Located:
    """A box for every frame between sightings: on a straight line, with the lower of both scores.

    ``sightings``: by frame number. Two that are more than ``max_gap`` frames apart, or whose boxes
    hardly overlap, are not joined; before the first and after the last there is nothing.
    """
    boxes: list[Box | None] = [None] * frames
    scores = [0.0] * frames
    for number, seen in sightings.items():
        boxes[number], scores[number] = seen.box, seen.score
    for (first, one), (last, two) in pairwise(sorted(sightings.items())):
        if last - first > max_gap or iou(one.box, two.box) < MIN_LINK:
            continue
        for number in range(first + 1, last):
            boxes[number] = _on_the_way(one.box, two.box, number - first, last - first)
            scores[number] = min(one.score, two.score)
    return Located(boxes, scores)


def _on_the_way(one: Box, two: Box, steps: int, of: int) -> Box:
    x0, y0, x1, y1 = ((a * (of - steps) + b * steps) / of for a, b in zip(one, two, strict=True))
    return x0, y0, x1, y1


def iou(one: Box, two: Box) -> float:
    """Intersection over union of two boxes."""
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return both / (area(one) + area(two) - both)


def area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def within(box: Box, width: int, height: int) -> Box | None:
    """The part of a box that lies in a frame of that size; None when it is under 2 pixels."""
    x0, y0 = max(box[0], 0.0), max(box[1], 0.0)
    x1, y1 = min(box[2], float(width)), min(box[3], float(height))
    return (x0, y0, x1, y1) if x1 - x0 >= 2 and y1 - y0 >= 2 else None
