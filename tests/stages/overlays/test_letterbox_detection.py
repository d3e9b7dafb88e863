"""Black borders: their edges, and what is not a border."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.media import Rect
from mimix_core.stages.overlays import (
    letterbox_detection,
)

# --- black bars -----------------------------------------------------------------------------------


@given(
    st.integers(8, 400),
    st.integers(8, 400),
    st.lists(st.tuples(*[st.integers(0, 400)] * 4), max_size=12),
)
def test_no_lit_frame_loses_more_than_the_blend(
    width: int, height: int, found: list[tuple[int, int, int, int]]
) -> None:
    edges = [
        (
            min(a, width - 1),
            min(b, height - 1),
            min(max(a + 1, c), width),
            min(max(b + 1, d), height),
        )
        for a, b, c, d in found
    ]
    kept = letterbox_detection.estimate_content_rect(width, height, edges)
    assert kept.x % 2 == kept.y % 2 == kept.width % 2 == kept.height % 2 == 0
    assert kept.x >= 0 and kept.x + kept.width <= width
    # Two pixels of blend, and one to make it even.
    for left, top, right, bottom in edges:
        assert kept.x <= left + 3 and kept.y <= top + 3
        assert kept.x + kept.width >= right - 3 and kept.y + kept.height >= bottom - 3


def test_a_varying_edge_is_darkness_and_not_a_border() -> None:
    wandering = [(10 * k, 5, 300, 200 - 7 * k) for k in range(2, 9)]
    assert letterbox_detection.estimate_content_rect(300, 200, wandering).width == 300
    assert letterbox_detection.estimate_content_rect(300, 200, [(40, 0, 260, 200)] * 2) == Rect(
        0, 0, 300, 200
    )
    assert letterbox_detection.estimate_content_rect(300, 200, [(40, 0, 260, 200)] * 3) == Rect(
        42, 0, 216, 200
    )


def test_text_in_a_border_does_not_make_it_content() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    image[20:80] = 90
    image[85:95, 60:140] = 255
    assert letterbox_detection.detect_content_edges(image, [(58, 83, 142, 97)]) == (0, 20, 200, 80)
    assert letterbox_detection.detect_content_edges(np.full_like(image, 20), []) is None
