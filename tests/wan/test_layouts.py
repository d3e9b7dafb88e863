"""Which cutouts a layout has, and where they are in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mimix_core.wan import layouts
from mimix_core.wan.layouts import LayoutCutout, PlacedCutout

CLIP = (80, 60)
LIMITS = (0.1, 0.9)


def cutout(name: str = "a", character: str = "Tom", **row: Any) -> LayoutCutout:
    """A figure of 20 x 30 pixels whose feet are at 54 of 60, in all 3 frames."""
    values = {
        "cutout_id": name,
        "character": character,
        "boxes": [[10, 24, 30, 54]] * 3,
        "border": [],
        "presence": 1.0,
        "score": [0.9] * 3,
    }
    return LayoutCutout(values | row, Path("masks"), Path("video"), CLIP)  # type: ignore[arg-type]


def place(*cutouts: LayoutCutout, seed: int = 0) -> list[PlacedCutout]:
    found = layouts.best_cutouts(cutouts)
    rng = np.random.default_rng(seed)
    return layouts.place_side_by_side(sorted(found), found, (160, 120), LIMITS, rng)


def test_the_best_cutouts_come_first() -> None:
    cut_off = cutout("cut-off", border=["bottom"])
    fleeting = cutout("fleeting", presence=0.6)
    unsure = cutout("unsure", score=[0.2] * 3)
    best = cutout("best")
    gone = cutout("gone", boxes=[[0, 0, 0, 0]] * 3)
    found = layouts.best_cutouts([cut_off, gone, fleeting, unsure, best])
    names = [one.row["cutout_id"] for one in found["Tom"]]
    assert names == ["best", "unsure", "fleeting", "cut-off"]


def test_figures_stand_side_by_side_at_the_height_of_their_clips() -> None:
    left, right = place(cutout("a", "Tom"), cutout("b", "Jerry"))
    for slot, placed in enumerate((left, right)):
        # The frame is twice the clip's: half of its height, feet at 0.9 of it.
        assert placed.scale == pytest.approx(2)
        assert placed.scale * 54 + placed.y == pytest.approx(108)
        assert placed.scale * 20 + placed.x == pytest.approx(40 + 80 * slot)
    firsts = {
        place(cutout("a", "Tom"), cutout("b", "Jerry"), seed=n)[0].cutout.row["character"]
        for n in range(8)
    }
    assert firsts == {"Tom", "Jerry"}


def test_a_figure_that_moves_stays_in_the_frame() -> None:
    walking = cutout(boxes=[[0, 24, 20, 54], [30, 24, 50, 54], [40, 24, 60, 54]])
    placed = place(walking, cutout("b", "Jerry"))
    [walker] = [one for one in placed if one.cutout is walking]
    edges = (walker.scale * 0 + walker.x, walker.scale * 60 + walker.x)
    assert edges in ((0, 120), (40, 160))


def test_a_figure_is_as_high_as_its_character_usually_is_within_limits() -> None:
    tall = cutout("tall", boxes=[[10, 0, 30, 60]] * 3, presence=0.5)
    low = cutout("low", boxes=[[10, 44, 30, 54]] * 3, presence=0.5)
    [placed] = place(tall, low, cutout())
    height = placed.scale * placed.cutout.height_share * CLIP[1]
    assert height == pytest.approx(0.5 * 120)
    [placed] = place(cutout(boxes=[[10, 50, 12, 54]] * 3))
    assert placed.scale * 4 == pytest.approx(0.1 * 120)
    [placed] = place(cutout(boxes=[[10, 0, 30, 60]] * 3, border=["bottom"]))
    assert placed.scale * 60 == pytest.approx(0.9 * 120)
    assert placed.scale * 60 + placed.y == pytest.approx(120)


def test_a_layout_shows_the_figures_where_they_were_placed_over_gray() -> None:
    frames = np.full((3, 60, 80, 3), (200, 10, 10), np.uint8)
    alpha = np.zeros((3, 60, 80), np.uint8)
    alpha[:, 24:54, 10:30] = 255
    frames[1:, ..., 1] = 99
    [placed] = place(cutout())
    video = layouts.draw_layout([(placed, frames, alpha)], (160, 120), 5)
    assert video.shape == (5, 120, 160, 3)
    assert video[0, 80, 80].tolist() == [200, 10, 10]
    assert video[4, 80, 80].tolist() == [200, 99, 10]  # the shorter clip's last frame stays
    colored = (video[0] != layouts.NEUTRAL).any(axis=2)
    ys, xs = np.nonzero(colored)
    # Interpolation softens an edge by a pixel.
    assert (ys.min(), ys.max(), xs.min(), xs.max()) == (47, 108, 59, 100)
