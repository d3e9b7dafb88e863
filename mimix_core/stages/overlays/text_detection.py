"""Detect lines of text in a frame with the detector of RapidOCR."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

PixelBox = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels as displayed; x1 and y1 are exclusive."""

TextDetector = Callable[[NDArray[np.uint8]], list[PixelBox]]
"""Returns the text boxes of an image, uint8 RGB [height, width, 3]."""

_MAX_LINE_HEIGHT = 0.12
"""Share of the frame's height: a taller box is not a line of text but an object."""

_MIN_LINE_ASPECT = 1.5
"""Width to height: blossoms and butterflies are detected as text, but in square boxes."""

_MIN_COLUMN_ASPECT = 2.5
"""Height to width of a column of text."""

_MAX_TEXT_SIDE = 0.35
"""Share of the frame's height and width: a larger box is a texture, e.g. of grass."""

_DETECTION_SIDE = 640
"""Longer side of the image for the detector: enough for subtitles and end rolls."""

_THREADS = 2


class TextDetectionError(Exception):
    """The text detector failed: whether the image contains text is unknown."""


def detect_text_lines(
    image: NDArray[np.uint8], detect: TextDetector, pts: int
) -> tuple[PixelBox, ...]:
    """Detect the boxes of a frame that have the shape of a line of text, sorted.

    Raises TextDetectionError for any exception of the detector.
    """
    return detect_text(image, detect, pts)[0]


def detect_text(
    image: NDArray[np.uint8], detect: TextDetector, pts: int
) -> tuple[tuple[PixelBox, ...], tuple[PixelBox, ...]]:
    """Detect the boxes with the shape of a line of text, and the others; both sorted.

    The others are columns of text, logos, and objects that look like text; boxes of much of the
    frame are left out. Raises TextDetectionError for any exception of the detector.
    """
    try:
        boxes = sorted(detect(image))
    except Exception as error:
        raise TextDetectionError(f"{type(error).__name__} at PTS {pts}: {error}") from error
    height, width = image.shape[:2]
    boxes = [
        (x0, y0, x1, y1)
        for x0, y0, x1, y1 in boxes
        if min((x1 - x0) / width, (y1 - y0) / height) <= _MAX_TEXT_SIDE
    ]
    lines = [
        (x0, y0, x1, y1)
        for x0, y0, x1, y1 in boxes
        if y1 - y0 <= _MAX_LINE_HEIGHT * height and x1 - x0 >= _MIN_LINE_ASPECT * (y1 - y0)
    ]
    return tuple(lines), tuple(box for box in boxes if box not in lines)


def is_column(box: PixelBox) -> bool:
    """Return whether a box has the shape of vertical text."""
    return box[3] - box[1] >= _MIN_COLUMN_ASPECT * (box[2] - box[0])


def group_text_rows(lines: Sequence[PixelBox]) -> list[list[PixelBox]]:
    """Group boxes into rows of text: a name and a role next to each other are one row."""
    rows: list[list[PixelBox]] = []
    for box in sorted(lines, key=lambda box: (box[1] + box[3], box)):
        middle = (box[1] + box[3]) / 2
        if rows and rows[-1][0][1] <= middle < rows[-1][0][3]:
            rows[-1].append(box)
        else:
            rows.append([box])
    return rows


def detect_no_text(image: NDArray[np.uint8]) -> list[PixelBox]:
    """Return no boxes: the detector of the backend ``none``."""
    return []


def detect_text_rapidocr(image: NDArray[np.uint8]) -> list[PixelBox]:
    """Detect text boxes with PP-OCR's detector, without recognizing the text."""
    height, width = image.shape[:2]
    result = _rapidocr_engine()(
        np.ascontiguousarray(image[:, :, ::-1]), use_det=True, use_cls=False, use_rec=False
    )
    boxes = []
    for corners in result.boxes if result.boxes is not None else ():
        xs, ys = corners[:, 0], corners[:, 1]
        x0, y0 = max(0, int(xs.min())), max(0, int(ys.min()))
        x1, y1 = min(width, ceil(xs.max())), min(height, ceil(ys.max()))
        if x1 > x0 and y1 > y0:
            boxes.append((x0, y0, x1, y1))
    return boxes


@cache
def _rapidocr_engine() -> Any:
    """Load PP-OCR's text detector; its weights are part of the package."""
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": _THREADS,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.limit_type": "max",
            "Det.limit_side_len": _DETECTION_SIDE,
        }
    )
