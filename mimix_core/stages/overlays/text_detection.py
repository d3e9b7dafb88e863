"""Lines of text in a picture, by rapidocr's detector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels as shown; x1 and y1 just outside."""

Detector = Callable[[NDArray[np.uint8]], list[Box]]
"""Text boxes of a picture, uint8 RGB [height, width, 3]."""

_MAX_LINE_HEIGHT = 0.12
"""Of the picture's height: a taller box is no line of text but something in the picture."""

_MIN_LINE_ASPECT = 1.5
"""Width to height: blossoms and butterflies are found as boxes, but as square ones."""

_DETECTION_SIDE = 640
"""The longer side of the picture that is looked at: subtitles and end rolls are found at it."""

_THREADS = 2


class DetectorFailed(Exception):
    """The text detector broke: nothing is known about text in the picture."""


def text_lines(image: NDArray[np.uint8], detect: Detector, pts: int) -> tuple[Box, ...]:
    """The boxes of a frame that have the shape of a line of text, sorted.

    Raises DetectorFailed for whatever the detector raises.
    """
    try:
        boxes = detect(image)
    except Exception as error:
        raise DetectorFailed(f"{type(error).__name__} at PTS {pts}: {error}") from error
    height = image.shape[0]
    return tuple(
        sorted(
            (x0, y0, x1, y1)
            for x0, y0, x1, y1 in boxes
            if y1 - y0 <= _MAX_LINE_HEIGHT * height and x1 - x0 >= _MIN_LINE_ASPECT * (y1 - y0)
        )
    )


def text_rows(lines: Sequence[Box]) -> list[list[Box]]:
    """The lines by the row of text they stand in: names and roles side by side are one row."""
    rows: list[list[Box]] = []
    for box in sorted(lines, key=lambda box: (box[1] + box[3], box)):
        middle = (box[1] + box[3]) / 2
        if rows and rows[-1][0][1] <= middle < rows[-1][0][3]:
            rows[-1].append(box)
        else:
            rows.append([box])
    return rows


def no_text(image: NDArray[np.uint8]) -> list[Box]:
    """The detector of the backend ``none``."""
    return []


def rapidocr(image: NDArray[np.uint8]) -> list[Box]:
    """Boxes from PP-OCR's text detector; nothing is read."""
    height, width = image.shape[:2]
    found = _engine()(
        np.ascontiguousarray(image[:, :, ::-1]), use_det=True, use_cls=False, use_rec=False
    )
    boxes = []
    for corners in found.boxes if found.boxes is not None else ():
        xs, ys = corners[:, 0], corners[:, 1]
        x0, y0 = max(0, int(xs.min())), max(0, int(ys.min()))
        x1, y1 = min(width, ceil(xs.max())), min(height, ceil(ys.max()))
        if x1 > x0 and y1 > y0:
            boxes.append((x0, y0, x1, y1))
    return boxes


@cache
def _engine() -> Any:
    """PP-OCR's text detector; its weights are part of the package."""
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
