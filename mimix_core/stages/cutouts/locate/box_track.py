"""Box tracks: one character's boxes over the frames of a clip, with confidence scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from mimix_core.tables import ClipRow

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of a clip; x1 and y1 are exclusive."""

FrameBoxes = Sequence[Box | None]
"""One character's box in each frame of a clip, None where it is not located."""

MIN_LINK_IOU = 0.3
"""Minimum IoU of two detections for boxes to be interpolated between them."""


@dataclass(frozen=True)
class BoxTrack:
    """Boxes of one character in a clip.

    ``scores``: one per frame in 0..1, 0 without a box; the locator's confidence in its own
    measure. ``error``: why locating failed, empty if it did not. ``evidence``: what the locator saw
    and by how much it missed its thresholds, for a character that is not located.
    """

    boxes: FrameBoxes
    scores: Sequence[float]
    error: str = ""
    evidence: str = ""


@dataclass(frozen=True)
class FrameMatch:
    """What a locator makes of one frame: a box and the character that it comes closest to.

    ``value``: the locator's own measure, a distance or a similarity; ``shown``: the same as text,
    with decimals that differ from those of a limit that it misses. ``problem``: why the box is not
    accepted, empty if it is.
    """

    character: str
    box: Box
    value: float
    shown: str
    problem: str = ""


class Locator(Protocol):
    """Locate characters in a clip."""

    @property
    def name(self) -> str: ...

    def locate(self, clip: ClipRow, characters: Sequence[str]) -> dict[str, BoxTrack]: ...


@dataclass(frozen=True)
class BoxDetection:
    """A box detected in one frame, with the locator's confidence."""

    box: Box
    score: float


def empty_track(frames: int, error: str = "", evidence: str = "") -> BoxTrack:
    """Return a track without a box in any of ``frames`` frames."""
    return BoxTrack([None] * frames, [0.0] * frames, error, evidence)


def strided_frame_indices(frames: int, stride: int) -> list[int]:
    """Return frame 0, every ``stride``-th frame, and the last frame."""
    numbers = list(range(0, frames, stride))
    return numbers if numbers[-1] == frames - 1 else [*numbers, frames - 1]


def interpolate_detections(
    detections: Mapping[int, BoxDetection], frames: int, max_gap: int
) -> BoxTrack:
    """Interpolate boxes linearly between detections, with the lower of both scores.

    ``detections``: by frame number. There is no interpolation between two that are more than
    ``max_gap`` frames apart or overlap by less than MIN_LINK_IOU, and no extrapolation.
    """
    boxes: list[Box | None] = [None] * frames
    scores = [0.0] * frames
    for number, detection in detections.items():
        boxes[number], scores[number] = detection.box, detection.score
    for (first, one), (last, two) in pairwise(sorted(detections.items())):
        if last - first > max_gap or box_iou(one.box, two.box) < MIN_LINK_IOU:
            continue
        for number in range(first + 1, last):
            boxes[number] = _interpolate(one.box, two.box, number - first, last - first)
            scores[number] = min(one.score, two.score)
    return BoxTrack(boxes, scores)


def _interpolate(one: Box, two: Box, step: int, steps: int) -> Box:
    x0, y0, x1, y1 = (
        (a * (steps - step) + b * step) / steps for a, b in zip(one, two, strict=True)
    )
    return x0, y0, x1, y1


def box_iou(one: Box, two: Box) -> float:
    """Compute the intersection over union of two boxes."""
    width = min(one[2], two[2]) - max(one[0], two[0])
    height = min(one[3], two[3]) - max(one[1], two[1])
    if width <= 0 or height <= 0:
        return 0.0
    intersection = width * height
    return intersection / (box_area(one) + box_area(two) - intersection)


def box_area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def clip_box(box: Box, width: int, height: int) -> Box | None:
    """Clip a box to a frame of that size; return None if a side gets shorter than 2 pixels."""
    x0, y0 = max(box[0], 0.0), max(box[1], 0.0)
    x1, y1 = min(box[2], float(width)), min(box[3], float(height))
    return (x0, y0, x1, y1) if x1 - x0 >= 2 and y1 - y0 >= 2 else None
