"""The folder of a comparison: a page that agrees with the tables, and copies of the videos."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.benchmark.comparison.comparison_charts import (
    ChartSeries,
    draw_bar_chart,
    draw_radar_chart,
)
from mimix_core.benchmark.comparison.comparison_page import write_comparison
from mimix_core.benchmark.promptsets.prompt_generator import prompts_to_yaml
from mimix_core.benchmark.systems import System
from mimix_core.benchmark.tables.all_tables import build_all_tables
from mimix_core.benchmark.tables.load_results import BenchmarkResults, load_results
from mimix_core.benchmark.tables.metric_columns import PAPER_COLUMNS
from mimix_core.benchmark.tables.table_model import TableCell
from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import BadInput
from tests.benchmark.tables import factories
from tests.benchmark.tables.factories import PROMPTS, QUALITY, judgement


@pytest.fixture
def systems(tmp_path: Path) -> list[System]:
    return [
        factories.system(tmp_path / "in", "a"),
        factories.system(tmp_path / "in", "b", factories.IDS[:3]),
    ]


@pytest.fixture
def results(systems: list[System], tmp_path: Path) -> BenchmarkResults:
    values = {"a": {"p1": 0.5, "p2": 0.7, "p3": 0.2}, "b": {"p1": 0.4, "p3": 0.5}}
    scores = {
        s: [factories.scores(tmp_path / f"{s}.parquet", {QUALITY: values[s]})] for s in values
    }
    rows = [
        judgement(s, p, a, 5 + n)
        for n, s in enumerate("ab")
        for p in factories.IDS
        for a in ("identity", "motion", "style", "interaction")
    ]
    return load_results(
        PROMPTS, systems, scores, [factories.judgements(tmp_path / "j.parquet", rows)], [], None
    )


def body_rows(page: str, key: str) -> list[list[str]]:
    """The first text of each cell of the table below the heading ``key``."""
    table = page[page.index(f'id="{key}"') :]
    table = table[table.index("<tbody>") : table.index("</tbody>")]
    rows = []
    for row in re.findall(r"<tr.*?</tr>", table, re.S):
        cells = re.findall(r"<td>(.*?)</td>", row, re.S)
        rows.append([html.unescape(re.sub(r"<small.*|<[^>]*>", "", cell)) for cell in cells])
    return rows


def test_the_page_agrees_with_the_tables(
    results: BenchmarkResults, systems: list[System], tmp_path: Path
) -> None:
    result_tables = build_all_tables(results, {}, {})
    page = write_comparison(results, systems, result_tables, tmp_path / "out").read_text()
    for table in result_tables:
        shown = body_rows(page, table.key)
        assert shown == [
            [
                one.format_value(column.decimals, signed=table.signed)
                for one, column in zip(line.cells, table.columns, strict=True)
            ]
            for line in table.rows
        ]
        assert (tmp_path / "out" / f"{table.key}.csv").is_file()
        assert (tmp_path / "out" / f"{table.key}.tex").is_file()
    assert page.count('<svg class="radar"') == 2
    assert page.count("<article") == 4
    assert page.count("no video</div>") == 1


def test_videos_are_copied_and_named_by_their_prompt(
    results: BenchmarkResults, systems: list[System], tmp_path: Path
) -> None:
    page = write_comparison(
        results, systems, build_all_tables(results, {}, {}), tmp_path / "out"
    ).read_text()
    files = re.findall(r'<video src="([^"]*)"', page)
    assert files == [
        f"videos/{s}/{p}.mp4" for p in factories.IDS for s in "ab" if (s, p) != ("b", "p4")
    ]
    for file in files:
        _, name, video = file.split("/")
        assert (tmp_path / "out" / file).read_text() == f"{name} {video.removesuffix('.mp4')}"


def test_the_same_results_give_the_same_bytes_without_leftovers(
    results: BenchmarkResults, systems: list[System], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result_tables = build_all_tables(results, {}, {})
    write_comparison(results, systems, result_tables, out)
    before = file_ref(out).sha256
    (out / "duels.csv").write_text("of an earlier comparison")
    (out / "videos" / "c").mkdir()
    write_comparison(results, systems, result_tables, out)
    assert file_ref(out).sha256 == before


def test_a_folder_with_other_files_is_not_changed(
    results: BenchmarkResults, systems: list[System], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("all of it")
    with pytest.raises(BadInput, match="does not contain a comparison"):
        write_comparison(results, systems, (), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "all of it"


def test_a_folder_with_another_page_is_not_changed(
    results: BenchmarkResults, systems: list[System], tmp_path: Path
) -> None:
    (tmp_path / "out" / "videos").mkdir(parents=True)
    (tmp_path / "out" / "index.html").write_text("<p>my own page</p>")
    (tmp_path / "out" / "videos" / "mine.mp4").write_text("mine")
    with pytest.raises(BadInput, match="does not contain a comparison"):
        write_comparison(results, systems, (), tmp_path / "out")
    assert (tmp_path / "out" / "videos" / "mine.mp4").read_text() == "mine"


def test_a_comparison_is_not_written_over_the_videos_that_it_compares(
    results: BenchmarkResults, systems: list[System], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_comparison(results, systems, (), out)
    copies = [System(one.name, out / "videos" / one.name) for one in systems]
    with pytest.raises(BadInput, match="contains the videos of a"):
        write_comparison(results, copies, (), out)
    assert (out / "videos" / "a" / "p1.mp4").read_text() == "a p1"


def test_a_video_without_a_prompt_is_listed(systems: list[System], tmp_path: Path) -> None:
    (systems[1].folder / "P4.mp4").write_text("named wrongly")
    loaded = load_results(PROMPTS, systems, {}, [], [], None)
    page = write_comparison(
        loaded, systems, build_all_tables(loaded, {}, {}), tmp_path / "out"
    ).read_text()
    assert "Ignored videos of b that match no prompt: P4.mp4." in page
    assert "Ignored videos of a that" not in page


def test_a_missing_video_is_counted_without_any_measurement(
    systems: list[System], tmp_path: Path
) -> None:
    loaded = load_results(PROMPTS, systems, {}, [], [], None)
    page = write_comparison(
        loaded, systems, build_all_tables(loaded, {}, {}), tmp_path / "out"
    ).read_text()
    assert "b has no video of 1 of the prompts: p4." in page
    assert "<dt>videos missing</dt><dd>1</dd>" in page
    assert "No missing v" not in page[page.index('id="missing"') :]


def test_the_page_states_what_was_measured(
    results: BenchmarkResults, systems: list[System], tmp_path: Path
) -> None:
    bare = load_results(PROMPTS, systems, {}, [], [], None)
    values = [factories.scores(tmp_path / "c.parquet", {QUALITY: {"p1": 0.5}})]
    scored = load_results(PROMPTS, systems, {"a": values}, [], [], None)
    for loaded, text in (
        (bare, "Nothing was measured yet"),
        (scored, "Their videos were measured; below"),
        (results, "Their videos were measured and judged by a model; below"),
    ):
        page = write_comparison(
            loaded, systems, build_all_tables(loaded, {}, {}), tmp_path / "out"
        ).read_text()
        assert text in page


def test_the_page_loads_nothing_and_runs_only_its_own_script(
    results: BenchmarkResults, systems: list[System], tmp_path: Path
) -> None:
    page = write_comparison(
        results, systems, build_all_tables(results, {}, {}), tmp_path / "out"
    ).read_text()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert "default-src 'none'" in page
    assert page.count("<script") == 1


def test_bar_lengths_are_proportional_to_values() -> None:
    quality, identity = PAPER_COLUMNS["quality"], PAPER_COLUMNS["identity"]
    half = draw_bar_chart(
        quality, [("", [ChartSeries("a", 0, (TableCell(0.5, 0.25, 0.75),))])], "x"
    )
    assert '<rect class="sys-0" x="8" y="0" width="147"' in half  # half of 294
    assert 'd="M81.5 4.5V12.5M228.5 4.5V12.5M81.5 8.5H228.5"' in half
    lowest = draw_bar_chart(identity, [("", [ChartSeries("a", 0, (TableCell(1.0),))])], "x")
    assert 'width="0"' in lowest
    assert "whisker" not in lowest
    assert "sys-0" not in draw_bar_chart(
        quality, [("", [ChartSeries("a", 0, (TableCell(None, n=0, expected=3),))])], "x"
    )


def test_a_radar_chart_has_the_metrics_of_all_systems() -> None:
    columns = [PAPER_COLUMNS[key] for key in ("quality", "motion", "identity", "style")]
    whole = ChartSeries(
        "a <b>", 0, (TableCell(1.0), TableCell(1.0), TableCell(10.0), TableCell(10.0))
    )
    assert whole.name not in draw_radar_chart(columns, [whole], "x")  # escaped
    assert draw_radar_chart(columns, [whole], "x").count("<line") == 4
    less = ChartSeries(
        "b", 1, (TableCell(0.5), TableCell(0.5), TableCell(5.5), TableCell(None, n=0, expected=2))
    )
    both = draw_radar_chart(columns, [whole, less], "x")
    assert both.count("<line") == 3
    # The first spoke points up from (270, 200): the whole 150 for the one, half for the other.
    assert 'points="270,50 ' in both
    assert 'points="270,125 ' in both
    two = ChartSeries("c", 2, (TableCell(0.5), TableCell(0.5), TableCell(None), TableCell(None)))
    assert draw_radar_chart(columns, [two], "x") == ""


def test_the_commands_write_prompts_and_a_report(tmp_path: Path) -> None:
    system = factories.system(tmp_path, "a")
    prompts = tmp_path / "four.yaml"
    prompts.write_text(prompts_to_yaml(PROMPTS))
    table = factories.scores(tmp_path / "a.parquet", {QUALITY: {"p1": 0.5}})
    invoked = CliRunner().invoke(
        app,
        [
            *("bench", "report", "--system", f"a={system.folder}", "--scores", f"a={table}"),
            *("--prompts", str(prompts), "--out", str(tmp_path / "out")),
        ],
    )
    assert invoked.exit_code == 0, invoked.output
    assert "1 systems, 4 prompts, 3 values missing" in invoked.output
    assert (tmp_path / "out" / "index.html").is_file()
    refused = CliRunner().invoke(
        app, ["bench", "report", "--system", "a", "--out", str(tmp_path / "other")]
    )
    assert refused.exit_code == 2
    fresh = tmp_path / "new.yaml"
    assert CliRunner().invoke(app, ["bench", "prompts", "--out", str(fresh)]).exit_code == 0
    assert fresh.read_text().count("  - id: ") == 100
    again = CliRunner().invoke(app, ["bench", "prompts", "--out", str(fresh)])
    assert again.exit_code == 2
