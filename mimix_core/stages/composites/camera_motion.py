"""Estimate a clip's camera motion from corners tracked from frame to frame.

Corners (Shi and Tomasi, 1994) outside the known characters are tracked into the next frame (Lucas
and Kanade, 1981, in a pyramid); the translation and zoom that most of them agree on (RANSAC) are
the camera's. Rotation is measured and ignored, because a pasted figure must not lean: if the image
rotates so much that the ground would slide away under the figure, the path is unreliable.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.composites.scale_translate import (
    IDENTITY,
    Boxes,
    ScaleTranslate,
    non_empty_mask,
)

GrayImage = NDArray[np.uint8]

_ANALYSIS_WIDTH = 320
"""Wider frames are reduced to this width, in pixels."""

_MAX_CORNERS, _CORNER_QUALITY, _CORNER_DISTANCE = 160, 0.01, 7
_REPROJECTION_ERROR = 0.75
"""Largest distance (pixels) of a tracked corner from its predicted position to be an inlier."""

_MIN_CORNERS = 12
"""With fewer corners a pasted figure has almost nothing to slide against visibly."""

_MIN_INLIER_SHARE = 0.5
"""Share of the corners that must agree on the motion."""

_MAX_UNRELIABLE_STEPS = 0.1
"""Share of the steps in which they may disagree."""

_STATIC_THRESHOLD = 0.01
"""A camera with less motion over the clip (share of the frame's width) is static."""

_ZOOM_THRESHOLD = 0.02
"""Relative zoom below which the camera counts as not zooming."""

_MAX_ROTATION = 4.0
"""Degrees by which the image may rotate; parallax alone can look like two."""


@dataclass(frozen=True)
class CameraMotion:
    """Camera motion of a clip.

    ``path``: where the first frame's points are in each frame, in pixels of the clip. ``reliable``
    is False when no single motion explains the image (water, crowds, an unknown figure that fills
    the frame) or the camera rolls.
    """

    path: tuple[ScaleTranslate, ...]
    reliable: bool = True

    @property
    def is_moving(self) -> bool:
        return any(transform != IDENTITY for transform in self.path)


def estimate_camera_motion(
    frames: Iterable[GrayImage], character_boxes: Sequence[Boxes]
) -> CameraMotion:
    """Estimate the camera's path over ``frames``, uint8 gray [height, width].

    ``character_boxes``: of the clip's characters, each [frames, 4] in pixels; they are excluded
    because characters move on their own.
    """
    path = [IDENTITY]
    unreliable_steps = 0
    rotation = max_rotation = 0.0
    width = height = 0
    previous: GrayImage | None = None
    for n, frame in enumerate(frames):
        height, width = frame.shape
        ratio = min(1.0, _ANALYSIS_WIDTH / width)
        reduced = _reduce(frame, ratio)
        if previous is not None:
            boxes = [boxes[n - 1] * ratio for boxes in character_boxes if n <= len(boxes)]
            mask = _background_mask(reduced.shape, boxes)
            step, degrees, reliable = _estimate_step(previous, reduced, mask)
            unreliable_steps += not reliable
            rotation += degrees
            max_rotation = max(max_rotation, abs(rotation))
            path.append(
                ScaleTranslate(step.scale, step.x / ratio, step.y / ratio).compose(path[-1])
            )
        previous = reduced
    reliable = (
        unreliable_steps <= _MAX_UNRELIABLE_STEPS * max(len(path) - 1, 1)
        and max_rotation <= _MAX_ROTATION
    )
    return CameraMotion(_remove_noise(path, width, height), reliable)


def _reduce(frame_HW: GrayImage, ratio: float) -> GrayImage:
    if ratio == 1:
        return frame_HW
    height, width = frame_HW.shape
    size = (round(width * ratio), max(1, round(height * ratio)))
    reduced: GrayImage = cv2.resize(frame_HW, size, interpolation=cv2.INTER_AREA)
    return reduced


def _background_mask(shape: tuple[int, ...], boxes: Sequence[NDArray[np.float64]]) -> GrayImage:
    """255 outside the boxes of known characters, 0 inside."""
    mask = np.full(shape, 255, np.uint8)
    for x0, y0, x1, y1 in boxes:
        mask[int(y0) : int(np.ceil(y1)), int(x0) : int(np.ceil(x1))] = 0
    return mask


def _estimate_step(
    before: GrayImage, after: GrayImage, mask: GrayImage
) -> tuple[ScaleTranslate, float, bool]:
    """Estimate the camera's motion between two frames.

    Returns the translation and zoom, the rotation in degrees, and whether most corners agree.
    """
    corners = cv2.goodFeaturesToTrack(
        before, _MAX_CORNERS, _CORNER_QUALITY, _CORNER_DISTANCE, mask=mask
    )
    if corners is None or len(corners) < _MIN_CORNERS:
        return IDENTITY, 0.0, True
    moved, status, _ = cv2.calcOpticalFlowPyrLK(before, after, corners, None, winSize=(15, 15))
    tracked = status.ravel() == 1
    if tracked.sum() < _MIN_CORNERS:
        return IDENTITY, 0.0, False
    matrix, inliers = cv2.estimateAffinePartial2D(
        corners[tracked],
        moved[tracked],
        method=cv2.RANSAC,
        ransacReprojThreshold=_REPROJECTION_ERROR,
        maxIters=500,
    )
    if matrix is None or inliers.mean() < _MIN_INLIER_SHARE:
        return IDENTITY, 0.0, False
    scale = float(np.hypot(matrix[0, 0], matrix[1, 0]))
    # Rotation is around the center of the image: the motion of the center is translation.
    center = np.array([before.shape[1] / 2, before.shape[0] / 2])
    x, y = matrix[:, :2] @ center + matrix[:, 2] - scale * center
    degrees = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    return ScaleTranslate(scale, float(x), float(y)), degrees, True


def _remove_noise(
    path: Sequence[ScaleTranslate], width: int, height: int
) -> tuple[ScaleTranslate, ...]:
    """Remove measurement noise: a static camera becomes exactly static, and without zoom."""
    if all(abs(transform.scale - 1) < _ZOOM_THRESHOLD for transform in path):
        path = [drop_zoom(transform, width, height) for transform in path]
    corners = [(0, 0), (width, 0), (0, height), (width, height)]
    largest = max(
        max(abs(t.scale * x + t.x - x), abs(t.scale * y + t.y - y))
        for t in path
        for x, y in corners
    )
    if largest < _STATIC_THRESHOLD * max(width, 1):
        return (IDENTITY,) * len(path)
    return tuple(ScaleTranslate(round(t.scale, 5), round(t.x, 3), round(t.y, 3)) for t in path)


def drop_zoom(transform: ScaleTranslate, width: int, height: int) -> ScaleTranslate:
    """Reduce a transform to the translation of the frame's center."""
    return ScaleTranslate(
        1.0,
        transform.x + (transform.scale - 1) * width / 2,
        transform.y + (transform.scale - 1) * height / 2,
    )


def select_complete_boxes(boxes: Sequence[Boxes], frames: int) -> list[Boxes]:
    """Select the non-empty box tracks that cover all of ``frames`` frames."""
    return [
        boxes_N4 for boxes_N4 in boxes if len(boxes_N4) == frames and non_empty_mask(boxes_N4).any()
    ]
