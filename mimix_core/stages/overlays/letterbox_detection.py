"""Detect black borders that are part of the encoded image: letterbox, pillarbox and windowbox.

Borders that a whole episode has are estimated from all of its frames. Where they change within it
(half widescreen, half 4:3, an insert of other footage), each scene has borders of its own: from the
frames of the scene when these are symmetric, or when other scenes have the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from mimix_core.media import Rect
from mimix_core.stages.overlays.text_detection import PixelBox

ContentEdges = tuple[int, int, int, int]
"""Left, top, right, bottom of a frame's lit area in pixels; right and bottom are exclusive."""

_Interval = tuple[int, int]
"""First column and the one after the last, or the same of rows."""

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

_MIN_CONTENT = 0.4
"""Share of width or height that remains between borders: less is an object on a black ground."""

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
            tolerance = _tolerance(size)
            shared = sum(abs(value - outermost) <= tolerance for value in values)
            is_border = abs(outermost - bounds[side]) > tolerance
            if is_border and shared >= _MIN_SHARED_EDGE * len(lit):
                bounds[side] = outermost
    return _rect_inside((bounds[0], bounds[2]), (bounds[1], bounds[3]), width, height)


def estimate_scene_rects(
    width: int, height: int, episode: Rect, scene_edges: Mapping[int, Sequence[ContentEdges | None]]
) -> dict[int, Rect]:
    """Estimate the rectangle inside the black borders of each scene; at most the ``episode``'s.

    ``scene_edges``: by scene, the edges of its sampled frames. Left and right borders, or upper and
    lower ones, count in a scene when all of its lit frames have them, and they are either symmetric
    or found in other scenes too: the edge of a dark image varies. Where they change within a
    scene, its rectangle is the part of the image that all of its frames show.
    """
    lit = {
        scene: [edges for edges in frames if edges is not None]
        for scene, frames in scene_edges.items()
    }
    columns = _scene_intervals(width, {s: [(e[0], e[2]) for e in lit[s]] for s in lit})
    rows = _scene_intervals(height, {s: [(e[1], e[3]) for e in lit[s]] for s in lit})
    return {
        scene: _intersection(episode, _rect_inside(columns[scene], rows[scene], width, height))
        for scene in lit
    }


def _scene_intervals(size: int, lit: Mapping[int, Sequence[_Interval]]) -> dict[int, _Interval]:
    """Return the columns (or rows) between the borders of each scene, those of the frame if none.

    ``lit``: by scene, the lit columns of its frames.
    """
    tolerance = _tolerance(size)
    steady: list[tuple[_Interval, int]] = []
    for frames in lit.values():
        if frames:
            outer = min(low for low, _ in frames), max(high for _, high in frames)
            has_border = outer[0] > tolerance or outer[1] < size - tolerance
            is_wide = outer[1] - outer[0] >= _MIN_CONTENT * size
            if has_border and is_wide and all(_close(one, outer, tolerance) for one in frames):
                steady.append((outer, len(frames)))
    confirmed = []
    for interval, count in steady:
        symmetric = abs(interval[0] + interval[1] - size) <= 2 * tolerance
        same = [n for other, n in steady if _close(interval, other, tolerance)]
        if (symmetric and count > 1) or (len(same) > 1 and sum(same) >= _MIN_SAMPLES):
            confirmed.append(interval)
    return {
        scene: (
            max([0, *(c[0] for c in confirmed for one in frames if _close(one, c, tolerance))]),
            min([size, *(c[1] for c in confirmed for one in frames if _close(one, c, tolerance))]),
        )
        for scene, frames in lit.items()
    }


def _close(one: _Interval, other: _Interval, tolerance: int) -> bool:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1])) <= tolerance


def _tolerance(size: int) -> int:
    return max(2, ceil(_TOLERANCE * size))


def _intersection(one: Rect, other: Rect) -> Rect:
    x, y = max(one.x, other.x), max(one.y, other.y)
    right = min(one.x + one.width, other.x + other.width)
    bottom = min(one.y + one.height, other.y + other.height)
    return Rect(x, y, max(2, right - x), max(2, bottom - y))


def _rect_inside(columns: _Interval, rows: _Interval, width: int, height: int) -> Rect:
    """Return the rectangle with even coordinates between borders, without their blended edges."""
    left, top = (ceil((low + _BLEND_PIXELS * (low > 0)) / 2) * 2 for low, _ in (columns, rows))
    right = columns[1] - _BLEND_PIXELS * (columns[1] < width)
    bottom = rows[1] - _BLEND_PIXELS * (rows[1] < height)
    content_width, content_height = (right - left) // 2 * 2, (bottom - top) // 2 * 2
    if content_width < 2 or content_height < 2:
        # A frame of a few pixels: nothing would remain between the borders.
        return Rect(0, 0, width // 2 * 2, height // 2 * 2)
    return Rect(left, top, content_width, content_height)
