"""Charts of pairs: where marks and intervals are drawn, computed by hand."""

from __future__ import annotations

import re

import pytest

from mimix_core.benchmark.judge.statistics import wilson_interval
from mimix_core.benchmark.report_card.pair_charts import draw_meter, draw_pair_chart
from mimix_core.benchmark.report_card.pair_scores import group_pairs, share_cell
from mimix_core.benchmark.tables.table_model import TableCell
from mimix_core.domain.prompts import CharacterOrigin
from tests.benchmark.report_card.factories import ORIGINS, PROMPTS, SCORES, prompt, score

PAIRS = group_pairs(PROMPTS, ORIGINS, SCORES)


def x_of(share: float) -> float:
    """The axis goes from 190 to 488."""
    return 190 + 298 * share


def test_marks_and_intervals_are_at_their_shares() -> None:
    svg = draw_pair_chart([pair for pair in PAIRS if pair.second.name == "Mary"], "there", "chart")
    marks = [float(x) for x in re.findall(r'<circle cx="([\d.]+)"', svg)]
    assert marks == [pytest.approx(x_of(0), abs=0.01), pytest.approx(x_of(2 / 3), abs=0.01)]
    expected = wilson_interval(2, 3)
    low, high = re.findall(r'd="M([\d.]+) [\d.]+H([\d.]+)', svg)[1]
    assert float(low) == pytest.approx(x_of(expected.low), abs=0.01)
    assert float(high) == pytest.approx(x_of(expected.high), abs=0.01)


def test_backgrounds_have_different_shapes() -> None:
    svg = draw_pair_chart([pair for pair in PAIRS if pair.first.name == "Tom"], "all", "chart")
    # Tom + Mary and Tom + Jerry before a cartoon, Tom + Jerry before a realistic background.
    assert (svg.count("<circle"), svg.count("<rect")) == (2, 1)


def test_pairs_without_videos_are_left_out() -> None:
    assert draw_pair_chart(group_pairs([], ORIGINS, []), "all", "chart") == ""


def test_a_long_name_is_cut_in_the_label_and_whole_in_the_tooltip() -> None:
    name = "<Captain> Bartholomew of the Seven Seas"
    long = CharacterOrigin.model_validate({"name": name, "show": "s", "style": "cartoon"})
    rows = [score("p", name), score("p", "Tom")]
    pairs = group_pairs([prompt("p", [name, "Tom"])], [long, ORIGINS[0]], rows)
    svg = draw_pair_chart(pairs, "all", "chart")
    assert "<Captain>" not in svg
    assert "&lt;Captain&gt; Bartholomew of the Seven Seas + Tom</title>" in svg
    assert "&lt;Captain&gt; Bartholomew…</text>" in svg.replace(" …", "…")


def test_a_meter_is_as_long_as_its_share() -> None:
    svg = draw_meter(share_cell([True, True, False, False], 4))
    assert 'class="fill" width="50"' in svg
    assert draw_meter(TableCell(None, n=0, expected=2)) == ""
