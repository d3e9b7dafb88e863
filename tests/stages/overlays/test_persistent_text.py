"""Persistent text: which of the detected lines are an overlay, and the crop above them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.media import Rect
from mimix_core.settings import OverlaySettings
from mimix_core.stages.overlays import (
    letterbox_detection,
    persistent_text,
)
from mimix_core.stages.overlays.text_detection import PixelBox
from tests.stages.overlays.overlays_runner import (
    LINE,
    samples,
)


def overlay_text(lines: Sequence[Sequence[PixelBox]], **more: Any) -> list[list[PixelBox]]:
    settings = OverlaySettings(min_text_share=more.pop("min_text_share", 0.15))
    return persistent_text.find_overlay_text(samples(lines, **more), 300, 100, settings)


@pytest.mark.parametrize(("with_text", "counts"), [(1, False), (2, False), (3, True), (16, True)])
def test_text_counts_when_it_is_frequent_enough(with_text: int, counts: bool) -> None:
    lines: list[list[PixelBox]] = [[] for _ in range(16)]
    for k in range(with_text):
        lines[k * 16 // with_text] = [LINE]
    assert overlay_text(lines) == (lines if counts else [[]] * 16)


def test_a_rare_line_counts_when_its_position_is_constant() -> None:
    lines: list[list[PixelBox]] = [[] for _ in range(90)]
    placed = [(110, 80, 190, 90), (95, 80, 205, 91), (60, 79, 240, 90)]
    strewn = [(10, 75, 60, 83), (210, 85, 290, 97), (120, 72, 150, 80)]
    for k in range(3):
        lines[30 * k] = [placed[k]]
        lines[30 * k + 5] = [strewn[k]]
    result = overlay_text(lines)
    assert [boxes for boxes in result if boxes] == [[box] for box in placed]


def test_a_sign_in_one_scene_is_not_an_overlay() -> None:
    assert overlay_text([[LINE]] * 8, scenes=[0] * 8) == [[]] * 8
    assert overlay_text([[LINE]] * 8 + [[]] * 8, scenes=[0] * 8 + [1] * 8) == [[]] * 16


def test_changing_words_in_one_take_are_an_overlay() -> None:
    lines = [[(100 - 9 * (k % 4), 80, 200 + 9 * (k % 4), 90)] for k in range(8)]
    assert overlay_text(lines, scenes=[0] * 8) == lines


def test_names_in_opening_credits_are_not_an_overlay() -> None:
    assert overlay_text([[LINE]] * 4 + [[]] * 16) == [[]] * 20


def test_overlay_words_may_change() -> None:
    lines = [[(10 * k, 80 + k % 3, 50 + 10 * k, 90 + k % 3)] for k in range(8)]
    assert overlay_text(lines, min_text_share=0.9) == lines


def test_text_above_the_band_is_not_an_overlay() -> None:
    assert overlay_text([[(100, 40, 200, 50)]] * 8) == [[]] * 8


def test_the_upper_line_of_a_subtitle_counts_with_the_lower_one() -> None:
    upper, sign = (90, 68, 210, 78), (90, 20, 210, 30)
    lines = [[LINE]] * 9 + [[upper, LINE, sign]]
    assert overlay_text(lines, min_text_share=0.5)[9] == [upper, LINE]


@given(
    st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 250), st.integers(0, 88), st.integers(5, 50), st.integers(2, 12)
            ).map(lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])),
            max_size=3,
        ),
        min_size=1,
        max_size=12,
    )
)
def test_overlays_are_detected_lines_in_the_band(lines: list[list[PixelBox]]) -> None:
    for seen, counted in zip(lines, overlay_text(lines), strict=True):
        assert set(counted) <= set(seen)
        assert all(box[3] > 70 for box in counted)


@pytest.mark.parametrize(
    ("ticker", "clear", "keeps"), [(20, 8, True), (20, 7, False), (0, 20, False)]
)
def test_the_half_before_a_ticker_is_not_cropped(ticker: int, clear: int, keeps: bool) -> None:
    boxes: list[list[PixelBox]] = [[]] * clear + [[LINE]] * ticker
    expected = set(range(clear)) if keeps else set()
    assert persistent_text.find_overlay_free_scenes(samples(boxes), boxes) == expected


def test_scenes_without_dialogue_are_cropped_like_others() -> None:
    # Subtitles: half of the frames, then a long chase without a word.
    boxes: list[list[PixelBox]] = [[LINE], []] * 10 + [[]] * 20
    assert persistent_text.find_overlay_free_scenes(samples(boxes), boxes) == frozenset()


@given(
    st.integers(10, 2000),
    st.integers(10, 2000),
    st.lists(st.integers(0, 2000), max_size=5),
    st.integers(0, 20),
)
def test_the_crop_is_even_and_above_every_overlay(
    width: int, height: int, tops: list[int], margin: int
) -> None:
    picture = letterbox_detection.estimate_content_rect(width, height, [])
    assert picture == Rect(0, 0, width // 2 * 2, height // 2 * 2)
    kept = persistent_text.crop_above_text(picture, [(0, top, 4, top + 4) for top in tops], margin)
    assert kept.width == picture.width and kept.height % 2 == 0
    assert 2 <= kept.height <= picture.height
    if kept.height > 2:
        assert all(kept.height <= top - margin for top in tops)
    if all(top - margin >= height for top in tops):
        assert kept == picture
