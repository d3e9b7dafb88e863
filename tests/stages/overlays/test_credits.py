"""Credits: pages, rolls and names over the image are rejected, text in the story is not."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimix_core.settings import OverlaySettings
from mimix_core.stages.overlays import (
    credits,
)
from mimix_core.stages.overlays.text_detection import PixelBox
from tests.media_factory import Shot, write_video
from tests.stages.overlays.overlays_runner import (
    LONG,
    SIZE,
    rows_of,
    rows_of_text,
    run,
    samples,
    scene,
    write,
)

NAMES = ["Ada Lovelace", "Grace Hopper", "Alan Turing", "Kurt Gödel", "Emmy Noether", "John Backus"]


def page_and_roll(image: np.ndarray, number: int) -> None:
    """Shot 2 of 5 shows a page that fills the frame, shots 4 and 5 roll names."""
    page, roll = range(LONG, 2 * LONG), range(3 * LONG, 5 * LONG)
    if number in page:
        image[:] = PAGE
    if number in roll:
        image[:] = 20
        rows = ((line, 340 + 40 * line - 4 * (number - roll[0])) for line in range(40))
        shown = [
            (320, y, f"{NAMES[k % 6]}   {NAMES[(k * 5 + 1) % 6]}") for k, y in rows if -20 < y < 400
        ]
        write(image, *shown)


PAGE = np.full((SIZE[1], SIZE[0], 3), 235, np.uint8)
write(PAGE, *((320, 60 + 45 * k, f"{NAMES[k % 6]} was seen in town") for k in range(7)))


@pytest.mark.e2e
def test_credits_are_rejected_and_a_page_in_the_story_is_not_credits(tmp_path: Path) -> None:
    video = write_video(tmp_path / "v.mp4", [Shot(LONG)] * 5, size=SIZE, draw=page_and_roll)
    rows = rows_of(video, tmp_path)
    # A frame full of letters is no credits, and is stated as what it is.
    assert [row["reason"] for row in rows] == [
        None,
        "text_remains",
        None,
        "scene_credits",
        "scene_credits",
    ]
    assert "rows of text in 3 of 4 frames" in rows[3]["detail"]
    # The roll passes through the bottom band and is no overlay.
    assert {row["crop_height"] for row in rows} == {SIZE[1]}
    shown = [row for row in rows if row["frame_file"]]
    assert len(shown) == 2 and shown[1]["reason"] == "scene_credits"
    assert all((tmp_path / row["frame_file"]).is_file() for row in shown)


FILM = Path(__file__).parents[3] / "demo" / "footage" / "sources" / "bbb.mp4"


@pytest.mark.e2e
def test_only_the_credits_of_a_complete_film_are_rejected(tmp_path: Path) -> None:
    """In pieces of 6 s; the end roll runs from 488.7 to 581 s (by eye), titles at 21 and 27 s."""
    time_base = Fraction(1, 12288)
    length = 6 * 12288
    starts = [index * length for index in range(99)]
    rows = run(FILM, [(start, start + length) for start in starts], time_base, tmp_path)
    credited = {index for index, row in enumerate(rows) if row["reason"] == "scene_credits"}
    assert set(range(83, 96)) <= credited <= set(range(81, 97))
    others = [row for index, row in enumerate(rows) if index not in credited]
    assert {row["reason"] for row in others} <= {None, "text_remains"}
    assert sum(row["reason"] is not None for row in others) <= 3
    assert {(row["crop_width"], row["crop_height"]) for row in others} == {(1280, 720)}


def judge(
    texts: Sequence[Sequence[PixelBox]],
    seconds: Sequence[int],
    scenes: Sequence[int],
    **settings: Any,
) -> set[int]:
    spans, at = [], 0
    for length in seconds:
        spans.append(scene(at, at + length, Fraction(1)))
        at += length
    none: list[list[PixelBox]] = [[] for _ in texts]
    return set(
        credits.detect_credits(
            spans, samples(texts, scenes=scenes), none, 100, OverlaySettings(**settings)
        )
    )


@pytest.mark.parametrize(
    ("full", "seconds", "expected"),
    [
        ({2}, [6] * 6, set()),  # a newspaper in the middle
        ({2, 3}, [6] * 6, {2, 3}),  # a roll of 12 s in the middle
        ({0}, [6] * 6, {0}),  # a card at the beginning
        ({4, 5}, [2] * 6, {4, 5}),  # short cards at the end
        (set(range(6)), [1] * 6, set()),  # all of a short episode
    ],
)
def test_full_frames_are_credits_where_they_last_or_end_an_episode(
    full: set[int], seconds: list[int], expected: set[int]
) -> None:
    texts = [rows_of_text(5) if index // 2 in full else [] for index in range(12)]
    assert judge(texts, seconds, [index // 2 for index in range(12)]) == expected


def test_credits_thresholds_are_settings() -> None:
    texts = [rows_of_text(5) if index in (2, 4) else [] for index in range(12)]
    scenes = [index // 4 for index in range(12)]
    assert judge(texts, [12] * 3, scenes) == set()
    assert judge(texts, [12] * 3, scenes, credits_share=0.25) == {0, 1}
    assert judge(texts, [12] * 3, scenes, credits_share=0.25, credits_rows=6) == set()
    long = {"credits_share": 0.25, "credits_seconds": Decimal(30)}
    assert judge([[]] * 4 + texts[4:], [12] * 3, scenes, **long) == set()


def names_over_picture(words: Sequence[int]) -> list[list[PixelBox]]:
    return [[(20, 60, 20 + wide, 70)] if wide else [] for wide in words]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([40, 60, 90, 0] + [0] * 16, {0, 1}),  # three names in the opening
        ([40, 41, 42, 42] + [0] * 16, set()),  # one sign, passed by
        ([0] * 8 + [40, 60, 90, 0] + [0] * 8, set()),  # captions in the middle
        ([0] * 16 + [70, 40, 60, 90], {8, 9}),  # the closing
    ],
)
def test_names_over_the_image_are_credits_near_the_ends(
    words: list[int], expected: set[int]
) -> None:
    texts = names_over_picture(words)
    assert judge(texts, [6] * 10, [index // 2 for index in range(20)]) == expected


def test_subtitles_are_not_credits() -> None:
    texts = [rows_of_text(4) for _ in range(8)]
    spans = [scene(6 * k, 6 * k + 6, Fraction(1)) for k in range(4)]
    seen = samples(texts, scenes=[index // 2 for index in range(8)])
    assert credits.detect_credits(spans, seen, texts, 100, OverlaySettings()) == {}
