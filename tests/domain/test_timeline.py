"""Exact time: the grid, the nearest previous frame, and how many clips a scene holds."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mimix_core.domain.timeline import (
    CLIP_FRAMES,
    CLIP_RATE,
    Span,
    clip_duration,
    clip_starts,
    exact_seconds,
    grid,
    nearest_previous,
)

time_bases = st.sampled_from(
    [Fraction(1, 24000), Fraction(1, 12288), Fraction(1, 90000), Fraction(1, 1000), Fraction(1, 25)]
)


def test_the_papers_clip() -> None:
    times = grid(Fraction(0))
    assert len(times) == CLIP_FRAMES == 81
    assert times[-1] - times[0] == 5
    assert clip_duration() == Fraction(81, 16) == Fraction("5.0625")


@given(
    st.sets(st.integers(-(10**6), 10**6), min_size=1, max_size=50),
    time_bases,
    st.lists(st.fractions(-100, 100), max_size=10),
)
def test_nearest_previous_is_the_definition(
    pts: set[int], time_base: Fraction, times: list[Fraction]
) -> None:
    ordered = sorted(pts)
    times = [time for time in times if time >= ordered[0] * time_base]
    for time, index in zip(times, nearest_previous(ordered, time_base, times), strict=True):
        assert ordered[index] * time_base <= time
        assert index + 1 == len(ordered) or ordered[index + 1] * time_base > time


def test_a_time_before_the_first_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match="no frame at or before"):
        nearest_previous([100], Fraction(1, 10), [Fraction("9.99")])


@given(
    st.integers(-(10**6), 10**6),
    st.integers(0, 10**6),
    time_bases,
    st.none() | st.fractions("1/100", 10),
    st.fractions(0, 1),
)
def test_all_clips_of_a_scene_and_only_those(
    start: int, length: int, time_base: Fraction, stride: Fraction | None, margin: Fraction
) -> None:
    assume(stride is None or length * time_base / stride < 2000)
    scene = Span(start, start + length, time_base)
    starts = clip_starts(scene, stride=stride, margin=margin)
    end = scene.end * time_base
    for first in starts:
        times = grid(first)
        assert times[0] >= scene.start * time_base + margin
        assert times[-1] + 1 / CLIP_RATE <= end - margin
    step = clip_duration() if stride is None else stride
    one_more = starts[-1] + step if starts else scene.start * time_base + margin
    assert one_more + clip_duration() > end - margin, "another clip would have fitted"


def test_a_scene_of_exactly_one_clip() -> None:
    time_base = Fraction(1, 16)
    assert clip_starts(Span(0, 81, time_base)) == [0]
    assert clip_starts(Span(0, 80, time_base)) == []
    assert clip_starts(Span(0, 162, time_base)) == [0, Fraction(81, 16)]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("3.25", Fraction(13, 4)), ("1:02.5", Fraction(125, 2)), ("1:00:00", 3600), (7, 7)],
)
def test_times_are_exact(text: str | int, seconds: Fraction | int) -> None:
    assert exact_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "a", "1:2:3:4", "-1", "1e", "nan", "inf"])
def test_no_times(text: str) -> None:
    with pytest.raises(ValueError, match="no time"):
        exact_seconds(text)


def test_float_times_are_refused() -> None:
    with pytest.raises(ValueError, match="quotes"):
        exact_seconds(0.1)  # type: ignore[arg-type]
