"""Who stands for whom in a video, from distances that the tests make up."""

from __future__ import annotations

from mimix_core.benchmark.characters.character_verdicts import (
    FigureLook,
    Identity,
    judge_characters,
)

LIMITS = {"Tom": 2.0, "Jerry": 2.0, "Sheldon": 2.0}
MARGINS = {"Tom": 1.0, "Jerry": 1.0, "Sheldon": 1.0}


def look(tom: float, jerry: float, sheldon: float) -> FigureLook:
    return FigureLook({"Tom": tom, "Jerry": jerry, "Sheldon": sheldon}, LIMITS, MARGINS)


TOM, JERRY, SHELDON = look(1, 9, 9), look(9, 1, 9), look(9, 9, 1)


def test_characters_that_are_there_are_right_whatever_the_order_of_the_figures() -> None:
    verdicts = judge_characters(["Tom", "Sheldon"], [SHELDON, TOM])
    assert {name: one.figure for name, one in verdicts.items()} == {"Tom": 1, "Sheldon": 0}
    assert {one.identity for one in verdicts.values()} == {Identity.RIGHT}


def test_a_figure_of_another_character_in_place_of_the_missing_one_is_swapped() -> None:
    verdicts = judge_characters(["Tom", "Sheldon"], [JERRY, SHELDON])
    assert verdicts["Tom"].identity is Identity.SWAPPED
    assert verdicts["Tom"].looks_like == "Jerry"
    assert verdicts["Sheldon"].identity is Identity.RIGHT


def test_the_looks_of_the_other_asked_character_on_both_figures_are_swapped_and_counted() -> None:
    verdicts = judge_characters(["Tom", "Sheldon"], [SHELDON, look(9, 9, 1.5)])
    assert verdicts["Tom"].identity is Identity.SWAPPED
    assert verdicts["Tom"].looks_like == "Sheldon"
    assert verdicts["Sheldon"].figure == 0
    assert verdicts["Sheldon"].count == 2


def test_two_missing_characters_get_the_figures_that_they_are_nearer_to() -> None:
    figures = [look(7, 1, 4), look(4, 1, 7)]
    verdicts = judge_characters(["Tom", "Sheldon"], figures)
    assert (verdicts["Tom"].figure, verdicts["Sheldon"].figure) == (1, 0)


def test_a_figure_between_two_characters_is_mixed() -> None:
    verdicts = judge_characters(["Tom"], [look(1.2, 1.6, 9)])
    assert verdicts["Tom"].identity is Identity.MIXED
    assert verdicts["Tom"].looks_like == "Jerry"


def test_a_figure_beyond_every_limit_is_mixed() -> None:
    verdicts = judge_characters(["Tom"], [look(3, 9, 9)])
    assert verdicts["Tom"].identity is Identity.MIXED


def test_nobody_is_left_for_an_absent_character() -> None:
    verdicts = judge_characters(["Tom", "Sheldon"], [TOM])
    assert verdicts["Sheldon"].identity is Identity.ABSENT
    assert verdicts["Sheldon"].figure is None
    assert verdicts["Tom"].count == 1
