"""The tables against values computed by hand; missing values reduce n and have a reason."""

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
from mimix_core.benchmark.tables.all_tables import build_all_tables
from mimix_core.benchmark.tables.breakdowns import (
    build_character_table,
    build_difference_table,
    build_extra_metrics_table,
    build_group_table,
    build_style_table,
)
from mimix_core.benchmark.tables.load_results import BenchmarkResults, MissingValue, load_results
from mimix_core.benchmark.tables.pairwise_tables import (
    build_control_table,
    build_strength_table,
    build_win_rate_table,
)
from mimix_core.benchmark.tables.paper_results import load_paper_results
from mimix_core.benchmark.tables.paper_tables import build_table_1, build_table_2, build_table_3
from mimix_core.benchmark.tables.table_export import (
    to_csv,
    to_latex,
    to_markdown,
    to_markdown_summary,
)
from mimix_core.benchmark.tables.table_model import (
    ResultTable,
    TableCell,
    TableRow,
    mean_cell,
    paired_difference_cell,
)
from mimix_core.errors import BadInput
from tests.benchmark.tables import factories
from tests.benchmark.tables.factories import PROMPTS, QUALITY, SMOOTH, judgement

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
    """Two systems; ``b`` has no video of p4."""
    return [factories.system(tmp_path, "a"), factories.system(tmp_path, "b", factories.IDS[:3])]


@pytest.fixture
def results(systems: list[System], tmp_path: Path) -> BenchmarkResults:
    scores = {s: [factories.scores(tmp_path / f"{s}.parquet", VALUES[s])] for s in ("a", "b")}
    ratings = factories.judgements(tmp_path / "j.parquet", RATINGS)
    comparisons = factories.duels(
        tmp_path / "d.parquet", {"p1": ["left", "left"], "p2": ["left", "right"], "p3": ["tie"] * 2}
    )
    return load_results(PROMPTS, systems, scores, [ratings], [comparisons], None)


def find(table: ResultTable, *labels: str) -> dict[str, TableCell]:
    """The cells of the row with these labels, by column title."""
    (row,) = (row for row in table.rows if row.labels == labels)
    return dict(zip([column.title for column in table.columns], row.cells, strict=True))


def test_table_1_has_the_means_computed_by_hand(results: BenchmarkResults) -> None:
    table = build_table_1(results)
    single = find(table, "a", "Single")
    # b has no value of p2, which is then excluded for a, too.
    assert single["Quality"] == TableCell(0.5, n=1, expected=2)
    # Two samples of p1 are answered, p2 is not: one prompt, so there is no interval.
    assert single["Identity-P"] == TableCell(8.5, n=1, expected=2)
    assert find(table, "a", "Multiple")["Quality"] == TableCell(0.2, n=1, expected=2)
    assert find(table, "b", "Multiple")["Quality"] == TableCell(0.5, n=1, expected=2)
    # b has no rating of these at all: it takes nothing from a.
    assert find(table, "a", "Multiple")["Identity-P"] == TableCell(4, n=1, expected=2)
    assert find(table, "b", "Multiple")["Identity-P"] == TableCell(None, n=0, expected=2)
    assert find(table, "b", "Single")["Aesthetic"] == TableCell(None, n=0, expected=2)


def test_the_papers_rows_are_as_printed(results: BenchmarkResults) -> None:
    table = build_table_1(results)
    assert [row.labels for row in table.rows if row.quoted] == [
        ("VideoBooth (paper)", "Single"),
        ("DreamVideo (paper)", "Single"),
        ("Wan2.1-I2V (paper)", "Single"),
        ("SkyReels-A2 (paper)", "Single"),
        ("MiMix (paper)", "Single"),
        ("SkyReels-A2 (paper)", "Multiple"),
        ("MiMix (paper)", "Multiple"),
    ]
    ours = [
        c.format_value(p.decimals) for c, p in zip(table.rows[-3].cells, table.columns, strict=True)
    ]
    assert " ".join(ours) == "0.1833 0.9842 0.9855 0.6855 0.5813 6.48 5.50 7.26 5.22"
    assert find(table, "DreamVideo (paper)", "Single")["Dynamic"].format_value(4) == "–"
    assert any("gemini-1.5-flash" in note and "judge-1" in note for note in table.notes)
    assert [row.values[-1] for row in load_paper_results().table_2.rows] == [4.28, 4.47, 4.47, 5.30]
    assert [row.values[5:] for row in load_paper_results().table_3.rows] == [
        (7.67, 6.03, 7.15, 4.83),
        (8.33, 6.72, 7.33, 4.78),
        (8.30, 7.10, 7.08, 3.90),
    ]


def test_quoted_rows_are_never_the_best(results: BenchmarkResults) -> None:
    table = build_table_1(results)
    best = {(table.rows[row].labels, table.columns[c].title) for row, c in table.best_cells()}
    assert best == {
        (("a", "Single"), "Quality"),
        (("a", "Single"), "Identity-P"),
        (("b", "Multiple"), "Quality"),
    }


def test_every_missing_value_has_a_reason(results: BenchmarkResults) -> None:
    assert set(results.missing_values) == {
        MissingValue("b", QUALITY, "p2", "metric failed"),
        MissingValue("b", QUALITY, "p4", "no video"),
        *(MissingValue("b", SMOOTH, p, "not asked") for p in ("p2", "p3")),
        MissingValue("b", SMOOTH, "p4", "no video"),
        *(MissingValue("a", SMOOTH, p, "not asked") for p in factories.IDS),
        MissingValue("a", "judge/identity", "p2", "metric failed"),
        MissingValue("a", "judge/identity", "p4", "not asked"),
        *(MissingValue("b", "judge/identity", p, "not asked") for p in ("p2", "p3")),
        MissingValue("b", "judge/identity", "p4", "no video"),
    }
    for system in results.systems:
        for metric in results.metrics():
            values = results.values.get((system, metric), {})
            missing = [
                one.prompt_id
                for one in results.missing_values
                if (one.system, one.metric) == (system, metric)
            ]
            assert sorted([*values, *missing]) == sorted(factories.IDS)


def test_breakdowns_count_the_right_prompts(results: BenchmarkResults) -> None:
    groups = build_group_table(results)
    assert {row.labels[1] for row in groups.rows} == {
        "single (2)",
        "inter-style (1)",
        "intra-style (1)",
        "inter-series (1)",
        "intra-series (1)",
    }
    assert find(groups, "a", "inter-series (1)")["Quality"].value == 0.4
    styles = build_style_table(results)
    assert find(styles, "a", "cartoon + realistic (1)")["Quality"].value == 0.4
    assert find(styles, "b", "cartoon + cartoon (1)")["Quality"].value == 0.5
    characters = build_character_table(results)
    tom = find(characters, "a", "Tom (3)")["Quality"]
    assert (tom.value, tom.n, tom.expected) == (pytest.approx((0.5 + 0.2) / 2), 2, 3)
    assert find(characters, "b", "Mary (2)")["Quality"] == TableCell(None, n=0, expected=2)


def test_differences_are_paired_by_prompt(results: BenchmarkResults) -> None:
    table = build_difference_table(results)
    assert find(table, "b − a", "Single")["Quality"].value == pytest.approx(-0.1)
    assert find(table, "b − a", "Multiple")["Quality"].format_value(4, signed=True) == "+0.3000"
    assert find(table, "b − a", "Single")["Identity-P"].value == pytest.approx(-2.5)
    assert table.best_cells() == frozenset()


def test_a_tie_is_half_a_win_and_both_orders_count_once(results: BenchmarkResults) -> None:
    cells = find(build_win_rate_table(results), "a", "b", "motion")
    assert cells["Win rate"].value == pytest.approx((1 + 0.5 + 0.5) / 3)
    assert (cells["Win rate"].n, cells["Win rate"].expected) == (3, 3)
    assert cells["Same in both orders"].value == pytest.approx(2 / 3)


def test_negative_controls_measure_the_judge(systems: list[System], tmp_path: Path) -> None:
    given = {"p1": (8, 3), "p2": (6, 6), "p3": (7, None), "p4": (5, 4)}
    rows = [
        row
        for prompt_id, (original, frozen) in given.items()
        for row in (
            judgement("a", prompt_id, "motion", original),
            judgement("a", prompt_id, "motion", frozen, control="frozen-frame"),
        )
    ]
    loaded = load_results(
        PROMPTS, systems, {}, [factories.judgements(tmp_path / "j.parquet", rows)], [], None
    )
    # Two of three were rated below; the fourth has no answer. Controls are not values.
    cells = find(build_control_table(loaded), "frozen-frame", "motion")
    assert cells["Rated below"].value == pytest.approx(2 / 3)
    assert (cells["Rated below"].n, cells["Rated below"].expected) == (3, 4)
    assert loaded.values["a", "judge/motion"] == {"p1": 8, "p2": 6, "p3": 7, "p4": 5}


def test_ablation_rows_are_assigned_and_checked(results: BenchmarkResults) -> None:
    table = build_table_2(results, {"both": "a", "no-tags": "b"})
    assert find(table, "w/ both (ours)", "run")["Quality"].value == pytest.approx(0.2)
    assert find(table, "No tag (baseline)", "run")["Quality"].value == 0.5
    shares = build_table_3(results, {"0%": "b", "10%": "a"})
    assert [row.labels for row in shares.rows] == [
        ("0%", "run"),
        ("5%", "paper"),
        ("10%", "paper"),
        ("10%", "run"),
        ("20%", "paper"),
    ]
    with pytest.raises(BadInput, match="unknown system 'c'"):
        build_table_3(results, {"10%": "c"})
    with pytest.raises(BadInput, match="unknown caption format 'bold'"):
        build_table_2(results, {"bold": "a"})
    with pytest.raises(BadInput, match="'ten' is not a percentage"):
        build_table_3(results, {"ten": "a"})


def test_a_stand_in_metric_is_never_in_a_column_of_the_paper(
    systems: list[System], tmp_path: Path
) -> None:
    table = factories.scores(tmp_path / "s.parquet", {"imaging_quality/brisque": {"p1": 0.5}})
    loaded = load_results(PROMPTS, systems, {"a": [table]}, [], [], None)
    assert find(build_table_1(loaded), "a", "Single")["Quality"].value is None
    extra = find(build_extra_metrics_table(loaded), "a", "Single")
    assert extra["imaging_quality/brisque"].value == 0.5


def test_the_scores_of_a_run_are_read_without_its_real_clips(
    systems: list[System], tmp_path: Path
) -> None:
    rows = [
        tables.ok(score_id=f"{v}/{QUALITY}", video_id=v, kind=kind, metric=QUALITY, value=value)
        for v, kind, value in (("p1", "sample", 0.5), ("p2", "clip", 0.9))
    ]
    tables.write(tmp_path / "s.parquet", tables.SCORES, rows, stage_key="key")
    loaded = load_results(PROMPTS, systems, {"a": [tmp_path / "s.parquet"]}, [], [], None)
    assert loaded.values["a", QUALITY] == {"p1": 0.5}
    with pytest.raises(BadInput, match=r"none\.parquet: no such file\. Check the path\."):
        load_results(PROMPTS, systems, {"a": [tmp_path / "none.parquet"]}, [], [], None)
    with pytest.raises(BadInput, match="contains table duels"):
        comparisons = factories.duels(tmp_path / "d.parquet", {"p1": ["left", "left"]})
        load_results(PROMPTS, systems, {"a": [comparisons]}, [], [], None)


def test_rows_of_other_systems_and_prompts_are_ignored_and_counted(
    systems: list[System], tmp_path: Path
) -> None:
    table = factories.scores(tmp_path / "s.parquet", {QUALITY: {"p1": 0.5, "p9": 0.1, "p8": 0.1}})
    ratings = factories.judgements(
        tmp_path / "j.parquet", [*RATINGS, judgement("other", "p1", "identity", 1)]
    )
    loaded = load_results(PROMPTS, systems, {"a": [table]}, [ratings], [], None)
    assert loaded.ignored_rows == {"s.parquet": 2, "j.parquet": 1}
    assert loaded.values["a", QUALITY] == {"p1": 0.5}


def test_results_that_cannot_be_compared_are_an_error(
    systems: list[System], tmp_path: Path
) -> None:
    table = factories.scores(tmp_path / "s.parquet", {QUALITY: {"p1": 0.5}})
    unmatched = factories.scores(tmp_path / "t.parquet", {QUALITY: {"p9": 0.5}})

    def judged(*rows: object) -> list[Path]:
        return [factories.judgements(tmp_path / "j.parquet", list(rows))]

    first = judgement("a", "p1", "identity", 8)
    for scores, rows, complaint in (
        ({"c": [table]}, [], "scores of 'c', which is not among the systems"),
        ({"a": [table, table]}, [], "of p1 for a"),
        ({"a": [unmatched]}, [], "no video of this table"),
        ({}, [first, judgement("a", "p2", "identity", 8, model="judge-2")], "of two judges"),
        ({}, [first, judgement("a", "p2", "identity", 8, rubric_version="2")], "of two judges"),
        ({}, [first, judgement("a", "p1", "identity", 8, mode="paper")], "paper and strict"),
        ({}, [judgement("c", "p1", "identity", 8)], "no judgements of these systems"),
    ):
        with pytest.raises(BadInput, match=complaint):
            load_results(PROMPTS, systems, scores, judged(*rows) if rows else [], [], None)
    both = judged(first, judgement("a", "p1", "identity", 2, mode="paper"))
    loaded = load_results(PROMPTS, systems, {}, both, [], "paper")
    assert loaded.values["a", "judge/identity"] == {"p1": 2.0}
    assert loaded.judge is not None
    assert loaded.judge.mode == "paper"


def test_csv_latex_and_markdown_agree(results: BenchmarkResults) -> None:
    for table in build_all_tables(results, {"both": "a"}, {"10%": "a"}):
        rows = list(csv.DictReader(io.StringIO(to_csv(table))))
        tex = [row for row in to_latex(table).splitlines() if row.endswith(r"\\") and "&" in row]
        bodies = [row for row in tex[1:] if not row.startswith(" &")]
        marked = [row for row in to_markdown(table).splitlines() if row.startswith("| ")][2:]
        assert len(rows) == len(bodies) == len(marked) == len(table.rows)
        for csv_row, body, mark, row in zip(rows, bodies, marked, table.rows, strict=True):
            assert csv_row["comparable"] == ("no" if row.quoted else "yes")
            for place, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True)):
                exported = cell.format_value(column.decimals, signed=table.signed)
                digits = csv_row[column.title]
                assert digits == ("" if exported == "–" else repr(cell.value))
                in_tex = body.removesuffix(r" \\").split(" & ")[len(row.labels) + place]
                in_tex = in_tex.removeprefix(r"\textbf{").removesuffix("}")
                assert in_tex.replace("$-$", "−").replace("--", "–") == exported
                in_mark = mark.split(" | ")[len(row.labels) + place]
                assert re.split(r" \(", in_mark)[0].strip("* |") == exported


def test_the_lowest_is_the_best_where_lower_is_better(
    systems: list[System], tmp_path: Path
) -> None:
    brisque = "imaging_quality/brisque"
    scores = {
        name: [
            factories.scores(tmp_path / f"{name}.low", {brisque: {"p1": value}, SMOOTH: {"p1": 1}})
        ]
        for name, value in (("a", 40.0), ("b", 20.0))
    }
    table = build_extra_metrics_table(load_results(PROMPTS, systems, scores, [], [], None))
    assert [(table.rows[row].labels[0], column) for row, column in table.best_cells()] == [("b", 0)]
    assert table.notes == (f"Lower is better: {brisque}.",)


def test_metrics_that_rate_noise_above_footage_are_named(
    systems: list[System], tmp_path: Path
) -> None:
    scores = {
        "a": [
            factories.scores(
                tmp_path / "a.parquet",
                {"dynamic_degree/dis-flow": {"p1": 1}, "imaging_quality/brisque": {"p1": 9}},
            )
        ]
    }
    table = build_extra_metrics_table(load_results(PROMPTS, systems, scores, [], [], None))
    assert any("pure noise" in note and "dynamic_degree" in note for note in table.notes)
    assert not any("pure noise" in note and "brisque" in note for note in table.notes)


def test_unconnected_systems_have_no_strength(systems: list[System], tmp_path: Path) -> None:
    comparisons = factories.duels(
        tmp_path / "none.parquet", {"p1": ["left", None], "p2": [None, None]}
    )
    loaded = load_results(PROMPTS, systems, {}, [], [comparisons], None)
    table = build_strength_table(loaded)
    assert [row.labels for row in table.rows] == [("a", "motion"), ("b", "motion")]
    assert all(row.cells == (TableCell(None),) for row in table.rows)
    assert "do not connect all systems" in table.notes[0]
    assert table.notes[0].endswith(": motion.")


def test_latex_is_escaped() -> None:
    table = ResultTable(
        "k", "50% & more", "a_b #1 {x} ^ ~ \\", ("Name",), (), (TableRow(("[a]$",), ()),)
    )
    exported = to_latex(table)
    assert r"50\% \& more. a\_b \#1 \{x\} \textasciicircum{} \textasciitilde{}" in exported
    assert r"{[}a{]}\$" in exported
    angled = ResultTable("k", "", "", ("Name",), (), (TableRow(("<a|b>",), ()),))
    assert r"\textless{}a\textbar{}b\textgreater{}" in to_latex(angled)
    assert exported.count("{") - exported.count(r"\{") == exported.count("}") - exported.count(
        r"\}"
    )


def test_the_summary_contains_the_papers_tables_and_the_page(results: BenchmarkResults) -> None:
    exported = to_markdown_summary(build_all_tables(results, {}, {}), "report/index.html")
    assert exported.count("### Table") == 3
    assert "\\[character\\]" in exported
    assert exported.rstrip().endswith("report/index.html")


@given(
    st.dictionaries(st.sampled_from("abcdefgh"), st.floats(-10, 10, allow_nan=False), max_size=8),
    st.sets(st.sampled_from("abcdefgh")),
)
def test_a_cell_is_the_mean_of_existing_values(values: dict[str, float], asked: set[str]) -> None:
    own = [values[key] for key in asked if key in values]
    loaded = mean_cell(values, asked)
    assert (loaded.n, loaded.expected) == (len(own), len(asked))
    if not own:
        assert loaded.value is None
        return
    assert loaded.value == pytest.approx(sum(own) / len(own), abs=1e-9)
    if len(own) > 1:
        assert loaded.low is not None
        assert loaded.high is not None
        assert loaded.low <= loaded.value + 1e-9
        assert loaded.value - 1e-9 <= loaded.high
    same = paired_difference_cell(values, values, asked)
    assert same.value == 0
    assert (same.n, same.expected) == (loaded.n, loaded.expected)
