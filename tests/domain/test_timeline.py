"""Exact time: the grid, the preceding frame, and the clips that fit into a scene."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mimix_core.domain.timeline import (
    CLIP_FRAMES,
    CLIP_RATE,
    Span,
    clip_duration,
    clip_start_times,
    format_time,
    grid_times,
    parse_seconds,
    preceding_frame_indices,
)

time_bases = st.sampled_from(
    [Fraction(1, 24000), Fraction(1, 12288), Fraction(1, 90000), Fraction(1, 1000), Fraction(1, 25)]
)


def test_the_papers_clip() -> None:
    times = grid_times(Fraction(0))
    assert len(times) == CLIP_FRAMES == 81
    assert times[-1] - times[0] == 5
    assert clip_duration() == Fraction(81, 16) == Fraction("5.0625")


@given(
    st.sets(st.integers(-(10**6), 10**6), min_size=1, max_size=50),
    time_bases,
    st.lists(st.fractions(-100, 100), max_size=10),
)
def test_preceding_frames_match_the_definition(
    pts: set[int], time_base: Fraction, times: list[Fraction]
) -> None:
    ordered = sorted(pts)
    times = [time for time in times if time >= ordered[0] * time_base]
    for time, index in zip(times, preceding_frame_indices(ordered, time_base, times), strict=True):
        assert ordered[index] * time_base <= time
        assert index + 1 == len(ordered) or ordered[index + 1] * time_base > time


def test_a_time_before_the_first_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match="no frame at or before"):
        preceding_frame_indices([100], Fraction(1, 10), [Fraction("9.99")])


@given(
    st.integers(-(10**6), 10**6),
    st.integers(0, 10**6),
    time_bases,
    st.none() | st.fractions("1/100", 10),
    st.fractions(0, 1),
)
def test_every_clip_that_fits_into_a_scene_and_no_other(
    start: int, length: int, time_base: Fraction, stride: Fraction | None, margin: Fraction
) -> None:
    assume(stride is None or length * time_base / stride < 2000)
    scene = Span(start, start + length, time_base)
    starts = clip_start_times(scene, stride=stride, margin=margin)
    end = scene.end * time_base
    for first in starts:
        times = grid_times(first)
        assert times[0] >= scene.start * time_base + margin
        assert times[-1] + 1 / CLIP_RATE <= end - margin
    step = clip_duration() if stride is None else stride
    one_more = starts[-1] + step if starts else scene.start * time_base + margin
    assert one_more + clip_duration() > end - margin, "another clip would have fitted"


def test_a_scene_of_exactly_one_clip() -> None:
    time_base = Fraction(1, 16)
    assert clip_start_times(Span(0, 81, time_base)) == [0]
    assert clip_start_times(Span(0, 80, time_base)) == []
    assert clip_start_times(Span(0, 162, time_base)) == [0, Fraction(81, 16)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("3.25", Fraction(13, 4)), ("1:02.5", Fraction(125, 2)), ("1:00:00", 3600), (7, 7)],
)
def test_times_are_exact(text: str | int, seconds: Fraction | int) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "1:2:3:4",
        "-1",
        "1e",
        "nan",
        "inf",
        "1e999999999",
        "1e-999999999",
        "0" * 81,
        None,
        [],
        True,
    ],
)
def test_invalid_times(text: Any) -> None:
    with pytest.raises(ValueError, match="not a time"):
        parse_seconds(text)


def test_float_times_are_rejected() -> None:
    with pytest.raises(ValueError, match="quotes"):
        parse_seconds(0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (Fraction(0), "0:00:00.0"),
        (Fraction(15, 16), "0:00:00.9"),
        (Fraction(59999, 1000), "0:00:59.9"),
        (Fraction(60), "0:01:00.0"),
        (Fraction(36125, 10), "1:00:12.5"),
    ],
)
def test_a_time_is_formatted_as_it_is_read(seconds: Fraction, text: str) -> None:
    assert format_time(seconds) == text
    assert 0 <= seconds - parse_seconds(text) < Fraction(1, 10)
