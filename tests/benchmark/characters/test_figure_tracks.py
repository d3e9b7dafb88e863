"""Figures are found in maps that the tests draw."""

from __future__ import annotations

import numpy as np

from mimix_core.benchmark.characters.figure_tracks import FigureSize, find_figures

SIZE = FigureSize(height=0.5, width=0.3, fill=0.9)
NAMES = ("Tom", "Jerry")


def draw(boxes: dict[str, list[tuple[int, int]]], frames: int = 4) -> np.ndarray:
    """Draw figures of 10 x 6 cells at their left upper corners; they move a cell a frame."""
    maps = np.full((frames, 20, 40, 2), 0.02)
    for name, corners in boxes.items():
        for frame in range(frames):
            for x, y in corners:
                maps[frame, y : y + 10, x + frame : x + frame + 6, NAMES.index(name)] = 0.9
    return maps


def test_each_figure_is_followed_as_it_moves() -> None:
    found = find_figures(
        draw({"Tom": [(2, 5)], "Jerry": [(25, 8)]}), NAMES, dict.fromkeys(NAMES, SIZE), 4
    )
    assert sorted(track.character for track in found) == ["Jerry", "Tom"]
    tom = next(track for track in found if track.character == "Tom")
    assert tom.windows == ((2, 5, 8, 15), (3, 5, 9, 15), (4, 5, 10, 15), (5, 5, 11, 15))


def test_a_second_figure_of_the_same_character_is_found() -> None:
    found = find_figures(draw({"Tom": [(2, 5), (25, 5)]}), NAMES, dict.fromkeys(NAMES, SIZE), 4)
    assert [track.character for track in found] == ["Tom", "Tom"]


def test_a_figure_that_leaves_is_not_visible_in_later_frames() -> None:
    maps = draw({"Tom": [(2, 5)]})
    maps[2:] = 0.02
    found = find_figures(maps, NAMES, dict.fromkeys(NAMES, SIZE), 4)
    assert [window is None for window in found[0].windows] == [False, False, True, True]


def test_an_empty_scene_has_no_figures() -> None:
    assert find_figures(draw({}), NAMES, dict.fromkeys(NAMES, SIZE), 4) == []
