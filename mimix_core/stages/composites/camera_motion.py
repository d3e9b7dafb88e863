"""How the camera moves in a clip, from corners of the picture followed from frame to frame.

Corners are found (Shi and Tomasi, 1994) outside of the characters that are known to be there,
followed (Lucas and Kanade, 1981, in a pyramid) into the next frame, and the shift and zoom that
most of them agree on (RANSAC) is the camera's. Rotation is measured and left out, since a pasted
figure must not lean: where the picture turns by so much that the ground would slide away under it,
the path is not to be relied upon.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.composites.scale_translate import STILL, Boxes, Move, present

Grey = NDArray[np.uint8]

_WIDTH = 320
"""Pixels that a wider frame is reduced to."""

_CORNERS, _QUALITY, _APART = 160, 0.01, 7
_MISS = 0.75
"""A corner agrees with the camera when it is found so near to where it should be (pixels)."""

_FEWEST = 12
"""With fewer corners there is next to nothing that a pasted figure could be seen to slide on."""

_AGREED = 0.5
"""Share of the corners that must agree."""

_UNCLEAR = 0.1
"""Share of the steps on which they may disagree."""

_STANDS = 0.01
"""A camera that moves by less over the whole clip stands (share of the frame's width)."""

_ZOOMS = 0.02
"""A zoom by less is none."""


_LEANS = 4.0
"""Degrees by which the picture may turn; parallax alone is taken for two."""


@dataclass(frozen=True)
class Camera:
    """``path``: where the first frame's points lie in each frame, pixels of the clip.

    ``clear`` is False where no one motion explains the picture (water, crowds, a figure not known
    that fills the frame) or the camera rolls: then the path is not to be relied upon.
    """

    path: tuple[Move, ...]
    clear: bool = True

    @property
    def moves(self) -> bool:
        return any(move != STILL for move in self.path)


def follow(frames: Iterable[Grey], taken: Sequence[Boxes]) -> Camera:
    """The camera's path over ``frames``, uint8 grey [height, width].

    ``taken``: boxes of the clip's characters, each [frames, 4] in pixels: they move by themselves.
    """
    path = [STILL]
    unclear = 0
    lean = most = 0.0
    width = height = 0
    before: Grey | None = None
    for n, frame in enumerate(frames):
        height, width = frame.shape
        ratio = min(1.0, _WIDTH / width)
        small = _reduced(frame, ratio)
        if before is not None:
            free = _free(small.shape, [boxes[n - 1] * ratio for boxes in taken if n <= len(boxes)])
            step, turn, sure = _step(before, small, free)
            unclear += not sure
            lean += turn
            most = max(most, abs(lean))
            path.append(Move(step.scale, step.x / ratio, step.y / ratio).after(path[-1]))
        before = small
    clear = unclear <= _UNCLEAR * max(len(path) - 1, 1) and most <= _LEANS
    return Camera(_settled(path, width, height), clear)


def _reduced(frame_HW: Grey, ratio: float) -> Grey:
    if ratio == 1:
        return frame_HW
    height, width = frame_HW.shape
    size = (round(width * ratio), max(1, round(height * ratio)))
    reduced: Grey = cv2.resize(frame_HW, size, interpolation=cv2.INTER_AREA)
    return reduced


def _free(shape: tuple[int, ...], boxes: Sequence[NDArray[np.float64]]) -> Grey:
    """255 where no character is known to be."""
    free = np.full(shape, 255, np.uint8)
    for x0, y0, x1, y1 in boxes:
        free[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = 0
    return free


def _step(before: Grey, after: Grey, free: Grey) -> tuple[Move, float, bool]:
    """The camera's move from one frame to the next, by how many degrees the picture turns, and
    whether most of it agrees.
    """
    corners = cv2.goodFeaturesToTrack(before, _CORNERS, _QUALITY, _APART, mask=free)
    if corners is None or len(corners) < _FEWEST:
        return STILL, 0.0, True
    found, status, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=(15, 15))
    followed = status.ravel() == 1
    if followed.sum() < _FEWEST:
        return STILL, 0.0, False
    there, here = corners[followed], found[followed]
    matrix, agreed = cv2.estimateAffinePartial2D(
        there, here, method=cv2.RANSAC, ransacReprojThreshold=_MISS, maxIters=500
    )
    if matrix is None or agreed.mean() < _AGREED:
        return STILL, 0.0, False
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    # Turning happens around the middle of the picture: what the middle does is shift.
    middle = np.array([before.shape[1] / 2, before.shape[0] / 2])
    x, y = matrix[:, :2] @ middle + matrix[:, 2] - scale * middle
    turn = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    return Move(scale, float(x), float(y)), turn, True


def _settled(path: Sequence[Move], width: int, height: int) -> tuple[Move, ...]:
    """The path without what is only noise: a standing camera stands, and does not zoom."""
    if all(abs(move.scale - 1) < _ZOOMS for move in path):
        path = [without_zoom(move, width, height) for move in path]
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    reach = max(
        max(abs(move.scale * x + move.x - x), abs(move.scale * y + move.y - y))
        for move in path
        for x, y in corners
    )
    if reach < _STANDS * max(width, 1):
        return (STILL,) * len(path)
    return tuple(Move(round(m.scale, 5), round(m.x, 3), round(m.y, 3)) for m in path)


def without_zoom(move: Move, width: int, height: int) -> Move:
    """The shift of the frame's middle."""
    return Move(
        1.0,
        move.x + (move.scale - 1) * width / 2,
        move.y + (move.scale - 1) * height / 2,
    )


def known_in(boxes: Sequence[Boxes], frames: int) -> list[Boxes]:
    """The boxes that say something about each of ``frames`` frames."""
    return [one for one in boxes if len(one) == frames and present(one).any()]
