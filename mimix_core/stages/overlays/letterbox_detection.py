"""Detect black borders that are part of the encoded image: letterbox and pillarbox."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from mimix_core.media import Rect
from mimix_core.stages.overlays.text_detection import PixelBox

ContentEdges = tuple[int, int, int, int]
"""Left, top, right, bottom of a frame's lit area in pixels; right and bottom are exclusive."""

_BLACK_LEVEL = 28
"""Pixels whose brightest channel (0..255) is at most this count as black after compression."""

_MIN_LIT_SHARE = 0.02
"""A row or column with more lit pixels than this is content: noise and specks have fewer."""

_MIN_SAMPLES = 3
"""Lit frames needed to distinguish a border from a dark image."""

_MIN_SHARED_EDGE = 0.5
"""Share of lit frames whose content must end at the border: in dark scenes the edge varies."""

_TOLERANCE = 0.005
"""Share of width or height: edges this close are the same; a border this thin is ignored."""

_BLEND_PIXELS = 2
"""Pixels next to a border that scaling and compression have mixed with it."""


def detect_content_edges(image: NDArray[np.uint8], text: Sequence[PixelBox]) -> ContentEdges | None:
    """Find the edges of the lit area of a frame; None when all of it is dark.

    ``image``: uint8 RGB [height, width, 3]. ``text``: lines to ignore, as subtitles are often
    inside a border.
    """
    lit = image.max(axis=2) > _BLACK_LEVEL
    for x0, y0, x1, y1 in text:
        lit[y0:y1, x0:x1] = False
    rows = np.flatnonzero(lit.mean(axis=1) > _MIN_LIT_SHARE)
    columns = np.flatnonzero(lit.mean(axis=0) > _MIN_LIT_SHARE)
    if not len(rows) or not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def estimate_content_rect(
    width: int, height: int, frame_edges: Sequence[ContentEdges | None]
) -> Rect:
    """Estimate the rectangle inside the black borders, with even coordinates.

    A border is dark in every sampled frame and has an edge that most lit frames share. Without
    borders the rectangle is the complete frame.
    """
    lit = [edges for edges in frame_edges if edges is not None]
    bounds = [0, 0, width, height]
    if len(lit) >= _MIN_SAMPLES:
        for side, size in enumerate((width, height, width, height)):
            values = [edges[side] for edges in lit]
            outermost = min(values) if side < 2 else max(values)
            tolerance = max(2, ceil(_TOLERANCE * size))
            shared = sum(abs(value - outermost) <= tolerance for value in values)
            is_border = abs(outermost - bounds[side]) > tolerance
            if is_border and shared >= _MIN_SHARED_EDGE * len(lit):
                bounds[side] = outermost + (_BLEND_PIXELS if side < 2 else -_BLEND_PIXELS)
    left, top = (ceil(value / 2) * 2 for value in bounds[:2])
    content_width, content_height = (bounds[2] - left) // 2 * 2, (bounds[3] - top) // 2 * 2
    if content_width < 2 or content_height < 2:
        # A frame of a few pixels: nothing would remain between the borders.
        return Rect(0, 0, width // 2 * 2, height // 2 * 2)
    return Rect(left, top, content_width, content_height)
