"""The tables, against figures added up by hand; what is missing shrinks n and is told."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core import tables
from mimix_core.benchmark.systems import System
from mimix_core.benchmark.tables.all_tables import all_sheets
from mimix_core.benchmark.tables.breakdowns import (
    differences,
    further_measures,
    per_character,
    per_group,
    per_styles,
)
from mimix_core.benchmark.tables.load_results import Evidence, Gap, gather
from mimix_core.benchmark.tables.pairwise_tables import duel_rates, duel_strengths, judge_card
from mimix_core.benchmark.tables.paper_results import paper
from mimix_core.benchmark.tables.paper_tables import table_1, table_2, table_3
from mimix_core.benchmark.tables.table_export import as_csv, as_latex, as_markdown, summary
from mimix_core.benchmark.tables.table_model import Cell, Line, Sheet, cell, difference
from mimix_core.errors import BadInput
from tests.benchmark.tables import made
from tests.benchmark.tables.made import PROMPTS, QUALITY, SMOOTH, judgement

VALUES = {
    "a": {QUALITY: {"p1": 0.5, "p2": 0.7, "p3": 0.2, "p4": 0.4}},
    "b": {QUALITY: {"p1": 0.4, "p2": None, "p3": 0.5}, SMOOTH: {"p1": 0.9}},
}
RATINGS = [
    judgement("a", "p1", "identity", 8),
    judgement("a", "p1", "identity", 9, sample=1),
    judgement("a", "p1", "identity", None, sample=2),
    judgement("a", "p2", "identity", None),
    judgement("a", "p3", "identity", 4),
    judgement("b", "p1", "identity", 6),
]


@pytest.fixture
def systems(tmp_path: Path) -> list[System]:
    """``b`` has no video of p4."""
    return [made.system(tmp_path, "a"), made.system(tmp_path, "b", made.IDS[:3])]


@pytest.fixture
def evidence(systems: list[System], tmp_path: Path) -> Evidence:
    scores = {s: [made.scores(tmp_path / f"{s}.parquet", VALUES[s])] for s in ("a", "b")}
    ratings = made.judgements(tmp_path / "j.parquet", RATINGS)
    fought = made.duels(
        tmp_path / "d.parquet", {"p1": ["left", "left"], "p2": ["left", "right"], "p3": ["tie"] * 2}
    )
    return gather(PROMPTS, systems, scores, [ratings], [fought], None)


def find(sheet: Sheet, *labels: str) -> dict[str, Cell]:
    """The cells of the one line of these labels, by their columns' titles."""
    (line,) = (line for line in sheet.lines if line.labels == labels)
    return dict(zip([column.title for column in sheet.columns], line.cells, strict=True))


def test_table_1_has_the_means_by_hand(evidence: Evidence) -> None:
    sheet = table_1(evidence)
    single = find(sheet, "a", "Single")
    assert single["Quality"].value == pytest.approx(0.6)
    assert (single["Quality"].n, single["Quality"].of) == (2, 2)
    # Two samples of p1 answered, p2 has no answer: one prompt, and no interval of one.
    assert single["Identity-P"] == Cell(8.5, n=1, of=2)
    assert find(sheet, "a", "Multiple")["Quality"].value == pytest.approx(0.3)
    assert find(sheet, "b", "Multiple")["Quality"] == Cell(0.5, n=1, of=2)
    assert find(sheet, "b", "Multiple")["Identity-P"] == Cell(None, n=0, of=2)
    assert find(sheet, "b", "Single")["Aesthetic"] == Cell(None, n=0, of=2)


def test_the_papers_lines_stand_as_printed(evidence: Evidence) -> None:
    sheet = table_1(evidence)
    assert [line.labels for line in sheet.lines if line.quoted] == [
        ("VideoBooth (paper)", "Single"),
        ("DreamVideo (paper)", "Single"),
        ("Wan2.1-I2V (paper)", "Single"),
        ("SkyReels-A2 (paper)", "Single"),
        ("MiMix (paper)", "Single"),
        ("SkyReels-A2 (paper)", "Multiple"),
        ("MiMix (paper)", "Multiple"),
    ]
    ours = [c.text(p.decimals) for c, p in zip(sheet.lines[-3].cells, sheet.columns, strict=True)]
    assert " ".join(ours) == "0.1833 0.9842 0.9855 0.6855 0.5813 6.48 5.50 7.26 5.22"
    assert find(sheet, "DreamVideo (paper)", "Single")["Dynamic"].text(4) == "–"
    assert any("gemini-1.5-flash" in note and "judge-1" in note for note in sheet.notes)
    assert [row.values[-1] for row in paper().table_2.rows] == [4.28, 4.47, 4.47, 5.30]
    assert [row.values[5:] for row in paper().table_3.rows] == [
        (7.67, 6.03, 7.15, 4.83),
        (8.33, 6.72, 7.33, 4.78),
        (8.30, 7.10, 7.08, 3.90),
    ]


def test_the_best_are_of_the_systems_alone(evidence: Evidence) -> None:
    sheet = table_1(evidence)
    best = {(sheet.lines[line].labels, sheet.columns[c].title) for line, c in sheet.best()}
    assert best == {
        (("a", "Single"), "Quality"),
        (("a", "Single"), "Identity-P"),
        (("b", "Multiple"), "Quality"),
    }


def test_every_gap_is_there_with_its_reason(evidence: Evidence) -> None:
    assert set(evidence.gaps) == {
        Gap("b", QUALITY, "p2", "metric failed"),
        Gap("b", QUALITY, "p4", "no video"),
        *(Gap("b", SMOOTH, p, "not asked") for p in ("p2", "p3")),
        Gap("b", SMOOTH, "p4", "no video"),
        *(Gap("a", SMOOTH, p, "not asked") for p in made.IDS),
        Gap("a", "judge/identity", "p2", "metric failed"),
        Gap("a", "judge/identity", "p4", "not asked"),
        *(Gap("b", "judge/identity", p, "not asked") for p in ("p2", "p3")),
        Gap("b", "judge/identity", "p4", "no video"),
    }
    for system in evidence.systems:
        for metric in evidence.metrics():
            values = evidence.values.get((system, metric), {})
            gaps = [
                gap.prompt_id
                for gap in evidence.gaps
                if (gap.system, gap.metric) == (system, metric)
            ]
            assert sorted([*values, *gaps]) == sorted(made.IDS)


def test_parts_count_what_they_should(evidence: Evidence) -> None:
    groups = per_group(evidence)
    assert {line.labels[1] for line in groups.lines} == {
        "single (2)",
        "inter-style (1)",
        "intra-style (1)",
        "inter-series (1)",
        "intra-series (1)",
    }
    assert find(groups, "a", "inter-series (1)")["Quality"].value == 0.4
    styles = per_styles(evidence)
    assert find(styles, "a", "cartoon + realistic (1)")["Quality"].value == 0.4
    assert find(styles, "b", "cartoon + cartoon (1)")["Quality"].value == 0.5
    people = per_character(evidence)
    assert find(people, "a", "Tom (3)")["Quality"].value == pytest.approx((0.5 + 0.2 + 0.4) / 3)
    assert find(people, "b", "Mary (2)")["Quality"] == Cell(None, n=0, of=2)


def test_differences_are_taken_prompt_by_prompt(evidence: Evidence) -> None:
    sheet = differences(evidence)
    assert find(sheet, "b − a", "Single")["Quality"].value == pytest.approx(-0.1)
    assert find(sheet, "b − a", "Multiple")["Quality"].text(4, signed=True) == "+0.3000"
    assert find(sheet, "b − a", "Single")["Identity-P"].value == pytest.approx(-2.5)
    assert sheet.best() == frozenset()


def test_duels_count_a_tie_as_half_and_both_orders_once(evidence: Evidence) -> None:
    cells = find(duel_rates(evidence), "a", "b", "motion")
    assert cells["Win rate"].value == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert (cells["Win rate"].n, cells["Win rate"].of) == (3, 3)
    assert cells["Same in both orders"].value == pytest.approx(2 / 3)


def test_the_judge_is_judged_by_its_controls(systems: list[System], tmp_path: Path) -> None:
    given = {"p1": (8, 3), "p2": (6, 6), "p3": (7, None), "p4": (5, 4)}
    rows = [
        row
        for prompt_id, (original, frozen) in given.items()
        for row in (
            judgement("a", prompt_id, "motion", original),
            judgement("a", prompt_id, "motion", frozen, control="frozen-frame"),
        )
    ]
    found = gather(PROMPTS, systems, {}, [made.judgements(tmp_path / "j.parquet", rows)], [], None)
    # Two of three were rated below, one was not; the fourth has no answer. A control is no value.
    cells = find(judge_card(found), "frozen-frame", "motion")
    assert cells["Rated below"].value == pytest.approx(2 / 3)
    assert (cells["Rated below"].n, cells["Rated below"].of) == (3, 4)
    assert found.values["a", "judge/motion"] == {"p1": 8, "p2": 6, "p3": 7, "p4": 5}


def test_arms_are_named_and_checked(evidence: Evidence) -> None:
    sheet = table_2(evidence, {"both": "a", "no-tags": "b"})
    assert find(sheet, "w/ both (ours)", "run")["Quality"].value == pytest.approx(0.3)
    assert find(sheet, "No tag (baseline)", "run")["Quality"].value == 0.5
    shares = table_3(evidence, {"0%": "b", "10%": "a"})
    assert [line.labels for line in shares.lines] == [
        ("0%", "run"),
        ("5%", "paper"),
        ("10%", "paper"),
        ("10%", "run"),
        ("20%", "paper"),
    ]
    with pytest.raises(BadInput, match="'c' is no --system"):
        table_3(evidence, {"10%": "c"})
    with pytest.raises(BadInput, match="'bold' is no format of captions"):
        table_2(evidence, {"bold": "a"})
    with pytest.raises(BadInput, match="'ten' is no share"):
        table_3(evidence, {"ten": "a"})


def test_a_stand_in_never_stands_in_a_column_of_the_paper(
    systems: list[System], tmp_path: Path
) -> None:
    table = made.scores(tmp_path / "s.parquet", {"imaging_quality/brisque": {"p1": 0.5}})
    found = gather(PROMPTS, systems, {"a": [table]}, [], [], None)
    assert find(table_1(found), "a", "Single")["Quality"].value is None
    further = find(further_measures(found), "a", "Single")
    assert further["imaging_quality/brisque"].value == 0.5


def test_the_scores_of_a_run_are_read_without_its_real_clips(
    systems: list[System], tmp_path: Path
) -> None:
    rows = [
        tables.ok(score_id=f"{v}/{QUALITY}", video_id=v, kind=kind, metric=QUALITY, value=value)
        for v, kind, value in (("p1", "sample", 0.5), ("p2", "clip", 0.9))
    ]
    tables.write(tmp_path / "s.parquet", tables.SCORES, rows, stage_key="key")
    found = gather(PROMPTS, systems, {"a": [tmp_path / "s.parquet"]}, [], [], None)
    assert found.values["a", QUALITY] == {"p1": 0.5}
    with pytest.raises(BadInput, match="holds table duels"):
        fought = made.duels(tmp_path / "d.parquet", {"p1": ["left", "left"]})
        gather(PROMPTS, systems, {"a": [fought]}, [], [], None)


def test_what_belongs_to_others_is_left_out_and_counted(
    systems: list[System], tmp_path: Path
) -> None:
    table = made.scores(tmp_path / "s.parquet", {QUALITY: {"p1": 0.5, "p9": 0.1, "p8": 0.1}})
    ratings = made.judgements(
        tmp_path / "j.parquet", [*RATINGS, judgement("other", "p1", "identity", 1)]
    )
    found = gather(PROMPTS, systems, {"a": [table]}, [ratings], [], None)
    assert found.left_out == {"s.parquet": 2, "j.parquet": 1}
    assert found.values["a", QUALITY] == {"p1": 0.5}


def test_figures_that_cannot_be_compared_are_refused(systems: list[System], tmp_path: Path) -> None:
    table = made.scores(tmp_path / "s.parquet", {QUALITY: {"p1": 0.5}})
    strange = made.scores(tmp_path / "t.parquet", {QUALITY: {"p9": 0.5}})

    def judged(*rows: object) -> list[Path]:
        return [made.judgements(tmp_path / "j.parquet", list(rows))]

    first = judgement("a", "p1", "identity", 8)
    for scores, rows, complaint in (
        ({"c": [table]}, [], "scores of 'c', which is no --system"),
        ({"a": [table, table]}, [], "of p1 stands twice for a"),
        ({"a": [strange]}, [], "no video of this table"),
        ({}, [first, judgement("a", "p2", "identity", 8, model="judge-2")], "of two judges"),
        ({}, [first, judgement("a", "p2", "identity", 8, rubric_version="2")], "of two judges"),
        ({}, [first, judgement("a", "p1", "identity", 8, mode="paper")], "both modes"),
        ({}, [judgement("c", "p1", "identity", 8)], "no judgements of these systems"),
    ):
        with pytest.raises(BadInput, match=complaint):
            gather(PROMPTS, systems, scores, judged(*rows) if rows else [], [], None)
    both = judged(first, judgement("a", "p1", "identity", 2, mode="paper"))
    found = gather(PROMPTS, systems, {}, both, [], "paper")
    assert found.values["a", "judge/identity"] == {"p1": 2.0}
    assert found.judge is not None
    assert found.judge.mode == "paper"


def test_csv_latex_and_markdown_say_the_same(evidence: Evidence) -> None:
    for sheet in all_sheets(evidence, {"both": "a"}, {"10%": "a"}):
        rows = list(csv.DictReader(io.StringIO(as_csv(sheet))))
        tex = [row for row in as_latex(sheet).splitlines() if row.endswith(r"\\") and "&" in row]
        bodies = [row for row in tex[1:] if not row.startswith(" &")]
        marked = [row for row in as_markdown(sheet).splitlines() if row.startswith("| ")][2:]
        assert len(rows) == len(bodies) == len(marked) == len(sheet.lines)
        for row, body, mark, line in zip(rows, bodies, marked, sheet.lines, strict=True):
            assert row["comparable"] == ("no" if line.quoted else "yes")
            for place, (column, one) in enumerate(zip(sheet.columns, line.cells, strict=True)):
                told = one.text(column.decimals, signed=sheet.signed)
                digits = row[column.title]
                assert digits == ("" if told == "–" else repr(one.value))
                in_tex = body.removesuffix(r" \\").split(" & ")[len(line.labels) + place]
                in_tex = in_tex.removeprefix(r"\textbf{").removesuffix("}")
                assert in_tex.replace("$-$", "−").replace("--", "–") == told
                in_mark = mark.split(" | ")[len(line.labels) + place]
                assert re.split(r" \(", in_mark)[0].strip("* |") == told


def test_the_lowest_is_the_best_where_lower_is_better(
    systems: list[System], tmp_path: Path
) -> None:
    brisque = "imaging_quality/brisque"
    scores = {
        name: [made.scores(tmp_path / f"{name}.low", {brisque: {"p1": value}, SMOOTH: {"p1": 1}})]
        for name, value in (("a", 40.0), ("b", 20.0))
    }
    sheet = further_measures(gather(PROMPTS, systems, scores, [], [], None))
    assert [(sheet.lines[line].labels[0], column) for line, column in sheet.best()] == [("b", 0)]
    assert sheet.notes == (f"Lower is better: {brisque}.",)


def test_systems_that_no_duel_connects_stand_without_a_strength(
    systems: list[System], tmp_path: Path
) -> None:
    fought = made.duels(tmp_path / "none.parquet", {"p1": ["left", None], "p2": [None, None]})
    found = gather(PROMPTS, systems, {}, [], [fought], None)
    sheet = duel_strengths(found)
    assert [line.labels for line in sheet.lines] == [("a", "motion"), ("b", "motion")]
    assert all(line.cells == (Cell(None),) for line in sheet.lines)
    assert "do not connect all systems" in sheet.notes[0]
    assert sheet.notes[0].endswith(": motion.")


def test_latex_escapes_what_it_must() -> None:
    sheet = Sheet("k", "50% & more", "a_b #1 {x} ^ ~ \\", ("Name",), (), (Line(("[a]$",), ()),))
    told = as_latex(sheet)
    assert r"50\% \& more. a\_b \#1 \{x\} \textasciicircum{} \textasciitilde{}" in told
    assert r"{[}a{]}\$" in told
    angled = Sheet("k", "", "", ("Name",), (), (Line(("<a|b>",), ()),))
    assert r"\textless{}a\textbar{}b\textgreater{}" in as_latex(angled)
    assert told.count("{") - told.count(r"\{") == told.count("}") - told.count(r"\}")


def test_the_artifact_tells_the_papers_tables_and_where_the_page_is(evidence: Evidence) -> None:
    told = summary(all_sheets(evidence, {}, {}), "report/index.html")
    assert told.count("### Table") == 3
    assert "\\[character\\]" in told
    assert told.rstrip().endswith("report/index.html")


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-10, 10, allow_nan=False), max_size=8),
    st.sets(st.sampled_from("abcdefgh")),
)
def test_a_cell_is_the_mean_of_what_is_there(values: dict[str, float], asked: set[str]) -> None:
    own = [values[key] for key in asked if key in values]
    found = cell(values, asked)
    assert (found.n, found.of) == (len(own), len(asked))
    if not own:
        assert found.value is None
        return
    assert found.value == pytest.approx(sum(own) / len(own), abs=1e-9)
    if len(own) > 1:
        assert found.low is not None
        assert found.high is not None
        assert min(own) - 1e-9 <= found.low <= found.value + 1e-9
        assert found.value - 1e-9 <= found.high <= max(own) + 1e-9
    same = difference(values, values, asked)
    assert same.value == 0
    assert (same.n, same.of) == (found.n, found.of)
