"""Shares of pairs, and who took whose looks, computed by hand from a few rows."""

from __future__ import annotations

import pytest

from mimix_core.benchmark.judge.statistics import wilson_interval
from mimix_core.benchmark.report_card.card_tables import build_look_table
from mimix_core.benchmark.report_card.pair_scores import (
    CRITERIA,
    Pair,
    PairCell,
    PairVideo,
    count_looks,
    count_unscored,
    group_pairs,
)
from mimix_core.domain.library import Style
from tests.benchmark.report_card.factories import ORIGINS, PROMPTS, SCORES, prompt, score


def pair_of(*names: str) -> Pair:
    pairs = group_pairs(PROMPTS, ORIGINS, SCORES)
    [found] = [pair for pair in pairs if {pair.first.name, pair.second.name} == set(names)]
    return found


def cell_of(*names: str, background: Style = Style.CARTOON) -> PairCell:
    [found] = [cell for cell in pair_of(*names).cells if cell.background is background]
    return found


def shares(cell: PairCell) -> dict[str, tuple[float | None, int | None]]:
    return {key: (cell.share(key).value, cell.share(key).n) for key in CRITERIA}


def test_every_pair_has_a_cell_for_each_background() -> None:
    pairs = group_pairs(PROMPTS, ORIGINS, SCORES)
    assert len(pairs) == 3
    assert all([cell.background for cell in pair.cells] == list(Style) for pair in pairs)


def test_shares_of_a_pair_count_its_videos() -> None:
    # p1: Mary in another style. p2: Tom swapped. p3: Mary absent.
    third = pytest.approx(1 / 3)
    assert shares(cell_of("Tom", "Mary")) == {
        "there": (pytest.approx(2 / 3), 3),
        "identity": (third, 3),
        "style": (0.0, 3),
        "all": (0.0, 3),
    }


def test_intervals_are_wilsons() -> None:
    share, expected = cell_of("Tom", "Mary").share("there"), wilson_interval(2, 3)
    assert (share.low, share.high) == (expected.low, expected.high)


def test_a_video_of_three_characters_counts_in_each_of_its_pairs() -> None:
    assert [v.prompt.id for v in cell_of("Jerry", "Mary").videos] == ["p3"]
    assert [v.prompt.id for v in cell_of("Jerry", "Tom").videos] == ["p3"]
    assert "p3" in [v.prompt.id for v in cell_of("Tom", "Mary").videos]


def test_unscored_videos_are_expected_but_in_no_share() -> None:
    cell = cell_of("Tom", "Jerry", background=Style.REALISTIC)
    assert [v.prompt.id for v in cell.videos] == ["p4"]
    assert (cell.expected, cell.share("all").n, cell.share("all").expected) == (2, 1, 2)
    assert count_unscored(PROMPTS, SCORES) == {"no video": 2}
    assert count_unscored(PROMPTS, SCORES[:-3]) == {"not in the table of scores": 2}


def test_a_cell_without_videos_has_no_value() -> None:
    cell = cell_of("Tom", "Mary", background=Style.REALISTIC)
    assert cell.share("all").value is None
    assert (cell.videos, cell.expected) == ((), 0)


def test_the_worst_videos_of_a_cell_come_first() -> None:
    # p2: swapped, in another style, and Mary twice: 3 + 1 + 1. p3: absent: 3. p1: a style: 1.
    assert [v.prompt.id for v in cell_of("Tom", "Mary").videos] == ["p2", "p3", "p1"]


def test_of_equally_faulty_videos_the_more_distant_one_comes_first() -> None:
    prompts = [prompt("near", ["Tom", "Mary"]), prompt("far", ["Tom", "Mary"])]
    rows = [
        score(name, who, distance=0.95 if name == "far" else 0.5)
        for name in ("near", "far")
        for who in ("Tom", "Mary")
    ]
    [pair, *_] = group_pairs(prompts, ORIGINS, rows)
    assert [v.prompt.id for v in pair.cells[0].videos] == ["far", "near"]


def test_pairs_of_two_shows_come_first_and_the_worst_of_them() -> None:
    names = [(pair.first.name, pair.second.name) for pair in group_pairs(PROMPTS, ORIGINS, SCORES)]
    assert names == [("Jerry", "Mary"), ("Tom", "Mary"), ("Tom", "Jerry")]


def test_looks_that_one_of_a_pair_took_from_the_other() -> None:
    cell = cell_of("Tom", "Mary")
    assert (cell.took(0).value, cell.took(1).value) == (pytest.approx(1 / 3), 0.0)
    assert cell.doubled().value == pytest.approx(1 / 3)
    assert cell.copied().value == pytest.approx(1 / 3)
    # Jerry is only partly like Tom: that counts too.
    assert cell_of("Tom", "Jerry").took(1).value == 1.0


def test_a_style_that_was_not_measured_is_in_no_share_and_fails_nothing() -> None:
    rows = (score("p1", "Tom", in_own_style=None), score("p1", "Mary"))
    video = PairVideo(PROMPTS[0], rows)
    assert (video.meets("style"), video.meets("all")) == (None, True)
    absent = PairVideo(PROMPTS[0], (score("p1", "Tom", "absent"), rows[1]))
    assert (absent.meets("style"), absent.meets("all")) == (False, False)


def test_looks_are_counted_in_videos_of_several_characters() -> None:
    tom, jerry, mary = count_looks(PROMPTS, ORIGINS, SCORES)
    assert (tom.videos, tom.right, tom.absent, dict(tom.swapped)) == (4, 3, 0, {"Mary": 1})
    assert (jerry.videos, jerry.right, dict(jerry.mixed)) == (2, 1, {"Tom": 1})
    assert (mary.videos, mary.absent) == (3, 1)
    assert mary.styles_lost == {"cartoon": (1, 2), "realistic": (0, 0)}


def test_the_table_of_looks_has_the_character_itself_on_its_diagonal() -> None:
    table = build_look_table(count_looks(PROMPTS, ORIGINS, SCORES))
    values = {row.labels[0]: [cell.value for cell in row.cells] for row in table.rows}
    assert values["Tom"] == [0.75, 0.0, 0.25, 0.0, pytest.approx(1 / 3), 0.0]
    assert values["Jerry"][:4] == [0.5, 0.5, 0.0, 0.0]
    assert values["Mary"][-2:] == [0.5, None]
