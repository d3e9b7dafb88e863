"""Black bars that are baked into the picture: letterbox and pillarbox."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from numpy.typing import NDArray

from mimix_core.media import Rect
from mimix_core.stages.overlays.text_detection import Box

Edges = tuple[int, int, int, int]
"""Left, top, right, bottom of what is lit in a frame; right and bottom just outside."""

_BLACK = 28
"""A pixel whose brightest channel (of 255) is at most this may be a bar's: compressed black."""

_LIT_SHARE = 0.02
"""A row or column with more lit pixels than this is picture: noise and specks are not."""

_MIN_SAMPLES = 3
"""Lit frames that are needed to tell a bar from the dark."""

_STEADY_SHARE = 0.5
"""Of the lit frames, so many have to end where the bar begins: in the dark the edge wanders."""

_TOLERANCE = 0.005
"""Of width or height: edges this close are the same; a bar this thin is not looked at."""

_BLEND = 2
"""Pixels beside a bar that scaling and compression have mixed with it."""


def lit_edges(image: NDArray[np.uint8], text: Sequence[Box]) -> Edges | None:
    """Where the picture of a frame (uint8 RGB [height, width, 3]) ends; None when all is dark.

    Lines of ``text`` do not count: subtitles often stand in a bar.
    """
    lit = image.max(axis=2) > _BLACK
    for x0, y0, x1, y1 in text:
        lit[y0:y1, x0:x1] = False
    rows = np.flatnonzero(lit.mean(axis=1) > _LIT_SHARE)
    columns = np.flatnonzero(lit.mean(axis=0) > _LIT_SHARE)
    if not len(rows) or not len(columns):
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def picture(width: int, height: int, found: Sequence[Edges | None]) -> Rect:
    """The part of the frame that is picture, even: all of it unless there are bars.

    A bar is what is dark in every sampled frame, with an edge that most lit frames share.
    """
    lit = [edges for edges in found if edges is not None]
    ends = [0, 0, width, height]
    if len(lit) >= _MIN_SAMPLES:
        for side, size in enumerate((width, height, width, height)):
            values = [edges[side] for edges in lit]
            outermost = min(values) if side < 2 else max(values)
            near = max(2, ceil(_TOLERANCE * size))
            shared = sum(abs(value - outermost) <= near for value in values)
            if abs(outermost - ends[side]) > near and shared >= _STEADY_SHARE * len(lit):
                ends[side] = outermost + (_BLEND if side < 2 else -_BLEND)
    left, top = (ceil(value / 2) * 2 for value in ends[:2])
    wide, high = (ends[2] - left) // 2 * 2, (ends[3] - top) // 2 * 2
    if wide < 2 or high < 2:
        # A picture of a few pixels: there is nothing between the bars.
        return Rect(0, 0, width // 2 * 2, height // 2 * 2)
    return Rect(left, top, wide, high)
