from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.stages.cutouts.locate import Box, BoxTrack
from mimix_core.stages.cutouts.sam2.visual_prompts import (
    NEGATIVE_POINT,
    build_prompts,
    select_prompt_frame,
)

WIDTH, HEIGHT = 832, 480
WHOLE: Box = (300.0, 100.0, 400.0, 300.0)


def located(*boxes: Box | None, scores: list[float] | None = None) -> BoxTrack:
    return BoxTrack(list(boxes), scores or [1.0 if box else 0.0 for box in boxes])


def best(place: BoxTrack, *others: BoxTrack) -> int | None:
    return select_prompt_frame(place, others, WIDTH, HEIGHT)


def test_of_equal_frames_the_middle_of_the_clip_is_asked_at() -> None:
    assert best(located(*[WHOLE] * 81)) == 40


def test_a_character_without_a_box_is_not_asked_for() -> None:
    assert best(located(None, None)) is None
    assert build_prompts({"Tom": located(None, None)}, WIDTH, HEIGHT) == {}


@pytest.mark.parametrize(
    "worse",
    [
        (300.0, 100.0, 350.0, 200.0),  # a quarter of the size
        (0.0, 100.0, 100.0, 300.0),  # cut off by the frame
        None,
    ],
)
def test_a_large_whole_box_is_better(worse: Box | None) -> None:
    assert best(located(worse, WHOLE, worse)) == 1
    assert best(located(WHOLE, worse, worse)) == 0


def test_a_confident_box_is_better() -> None:
    assert best(located(WHOLE, WHOLE, WHOLE, scores=[0.9, 0.4, 0.5])) == 0


def test_a_box_that_nobody_covers_is_better() -> None:
    near, far = (320.0, 100.0, 420.0, 300.0), (600.0, 100.0, 700.0, 300.0)
    assert best(located(WHOLE, WHOLE, WHOLE), located(far, near, near)) == 0


box = st.tuples(st.floats(0, 700), st.floats(0, 400), st.floats(1, 132), st.floats(1, 80)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
track = st.lists(st.none() | box, min_size=1, max_size=8)


@given(track, track)
def test_the_prompt_is_a_box_that_was_located(one: list[Box | None], two: list[Box | None]) -> None:
    frames = min(len(one), len(two))
    places = {"Tom": located(*one[:frames]), "Jerry": located(*two[:frames])}
    found = build_prompts(places, WIDTH, HEIGHT)
    assert set(found) == {name for name, place in places.items() if any(place.boxes)}
    for name, prompt in found.items():
        assert prompt.box == places[name].boxes[prompt.frame]
        x0, y0, x1, y1 = prompt.box
        for x, y, label in prompt.points:
            assert label == NEGATIVE_POINT
            assert x0 <= x < x1
            assert y0 <= y < y1


def test_who_stands_in_front_is_a_point_outside() -> None:
    mouse = (380.0, 250.0, 400.0, 300.0)
    found = build_prompts({"Tom": located(WHOLE), "Jerry": located(mouse)}, WIDTH, HEIGHT)
    assert found["Tom"].points == ((390.0, 275.0, NEGATIVE_POINT),)
    assert found["Jerry"].points == ()


def test_two_middles_in_both_boxes_say_nothing() -> None:
    shifted = (310.0, 110.0, 410.0, 310.0)
    found = build_prompts({"Tom": located(WHOLE), "Jerry": located(shifted)}, WIDTH, HEIGHT)
    assert found["Tom"].points == found["Jerry"].points == ()
