"""The comparison's folder: a page that says what the tables say, beside copies of the videos."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli import app
from mimix_core.benchmark.comparison.comparison_charts import Trace, bars, radar
from mimix_core.benchmark.comparison.comparison_page import write
from mimix_core.benchmark.promptsets.prompt_generator import as_yaml
from mimix_core.benchmark.systems import System
from mimix_core.benchmark.tables.all_tables import all_sheets
from mimix_core.benchmark.tables.load_results import Evidence, gather
from mimix_core.benchmark.tables.metric_columns import MEASURES
from mimix_core.benchmark.tables.table_model import Cell
from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import BadInput
from tests.benchmark.tables import made
from tests.benchmark.tables.made import PROMPTS, QUALITY, judgement


@pytest.fixture
def systems(tmp_path: Path) -> list[System]:
    return [made.system(tmp_path / "in", "a"), made.system(tmp_path / "in", "b", made.IDS[:3])]


@pytest.fixture
def evidence(systems: list[System], tmp_path: Path) -> Evidence:
    values = {"a": {"p1": 0.5, "p2": 0.7, "p3": 0.2}, "b": {"p1": 0.4, "p3": 0.5}}
    scores = {s: [made.scores(tmp_path / f"{s}.parquet", {QUALITY: values[s]})] for s in values}
    rows = [
        judgement(s, p, a, 5 + n)
        for n, s in enumerate("ab")
        for p in made.IDS
        for a in ("identity", "motion", "style", "interaction")
    ]
    return gather(
        PROMPTS, systems, scores, [made.judgements(tmp_path / "j.parquet", rows)], [], None
    )


def body_rows(page: str, key: str) -> list[list[str]]:
    """The cells' first texts of the table that stands below the heading ``key``."""
    table = page[page.index(f'id="{key}"') :]
    table = table[table.index("<tbody>") : table.index("</tbody>")]
    rows = []
    for row in re.findall(r"<tr.*?</tr>", table, re.S):
        cells = re.findall(r"<td>(.*?)</td>", row, re.S)
        rows.append([html.unescape(re.sub(r"<small.*|<[^>]*>", "", cell)) for cell in cells])
    return rows


def test_the_page_says_what_the_sheets_say(
    evidence: Evidence, systems: list[System], tmp_path: Path
) -> None:
    sheets = all_sheets(evidence, {}, {})
    page = write(evidence, systems, sheets, tmp_path / "out").read_text()
    for sheet in sheets:
        shown = body_rows(page, sheet.key)
        assert shown == [
            [
                one.text(column.decimals, signed=sheet.signed)
                for one, column in zip(line.cells, sheet.columns, strict=True)
            ]
            for line in sheet.lines
        ]
        assert (tmp_path / "out" / f"{sheet.key}.csv").is_file()
        assert (tmp_path / "out" / f"{sheet.key}.tex").is_file()
    assert page.count('<svg class="radar"') == 2
    assert page.count("<article") == 4
    assert page.count("no video</div>") == 1


def test_videos_are_copied_and_named_by_their_prompt(
    evidence: Evidence, systems: list[System], tmp_path: Path
) -> None:
    page = write(evidence, systems, all_sheets(evidence, {}, {}), tmp_path / "out").read_text()
    files = re.findall(r'<video src="([^"]*)"', page)
    assert files == [f"videos/{s}/{p}.mp4" for p in made.IDS for s in "ab" if (s, p) != ("b", "p4")]
    for file in files:
        _, name, video = file.split("/")
        assert (tmp_path / "out" / file).read_text() == f"{name} {video.removesuffix('.mp4')}"


def test_the_same_evidence_gives_the_same_bytes_and_no_leftovers(
    evidence: Evidence, systems: list[System], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    sheets = all_sheets(evidence, {}, {})
    write(evidence, systems, sheets, out)
    before = file_ref(out).sha256
    (out / "duels.csv").write_text("of an earlier comparison")
    (out / "videos" / "c").mkdir()
    write(evidence, systems, sheets, out)
    assert file_ref(out).sha256 == before


def test_a_folder_of_something_else_is_left_alone(
    evidence: Evidence, systems: list[System], tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("all of it")
    with pytest.raises(BadInput, match="holds no comparison"):
        write(evidence, systems, (), tmp_path / "out")
    assert (tmp_path / "out" / "thesis.tex").read_text() == "all of it"


def test_anothers_page_and_its_videos_are_left_alone(
    evidence: Evidence, systems: list[System], tmp_path: Path
) -> None:
    (tmp_path / "out" / "videos").mkdir(parents=True)
    (tmp_path / "out" / "index.html").write_text("<p>my own page</p>")
    (tmp_path / "out" / "videos" / "mine.mp4").write_text("mine")
    with pytest.raises(BadInput, match="holds no comparison"):
        write(evidence, systems, (), tmp_path / "out")
    assert (tmp_path / "out" / "videos" / "mine.mp4").read_text() == "mine"


def test_a_comparison_is_not_written_over_the_videos_that_it_compares(
    evidence: Evidence, systems: list[System], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write(evidence, systems, (), out)
    copies = [System(one.name, out / "videos" / one.name) for one in systems]
    with pytest.raises(BadInput, match="the videos of a lie in it"):
        write(evidence, copies, (), out)
    assert (out / "videos" / "a" / "p1.mp4").read_text() == "a p1"


def test_a_video_that_no_prompt_names_is_named(systems: list[System], tmp_path: Path) -> None:
    (systems[1].folder / "P4.mp4").write_text("named wrongly")
    found = gather(PROMPTS, systems, {}, [], [], None)
    page = write(found, systems, all_sheets(found, {}, {}), tmp_path / "out").read_text()
    assert "Videos of b that no prompt names, left out: P4.mp4." in page
    assert "Videos of a that" not in page


def test_a_video_that_is_not_there_is_counted_where_nothing_was_measured(
    systems: list[System], tmp_path: Path
) -> None:
    found = gather(PROMPTS, systems, {}, [], [], None)
    page = write(found, systems, all_sheets(found, {}, {}), tmp_path / "out").read_text()
    assert "b has no video of 1 of the prompts: p4." in page
    assert "<dt>videos missing</dt><dd>1</dd>" in page
    assert "No v" not in page[page.index('id="missing"') :]


def test_the_page_says_only_what_was_done(
    evidence: Evidence, systems: list[System], tmp_path: Path
) -> None:
    bare = gather(PROMPTS, systems, {}, [], [], None)
    values = [made.scores(tmp_path / "c.parquet", {QUALITY: {"p1": 0.5}})]
    scored = gather(PROMPTS, systems, {"a": values}, [], [], None)
    for found, said in (
        (bare, "Nothing was measured yet"),
        (scored, "Its videos were measured; below"),
        (evidence, "Its videos were measured and judged by a model; below"),
    ):
        page = write(found, systems, all_sheets(found, {}, {}), tmp_path / "out").read_text()
        assert said in page


def test_the_page_asks_nobody_and_runs_its_own_script_alone(
    evidence: Evidence, systems: list[System], tmp_path: Path
) -> None:
    page = write(evidence, systems, all_sheets(evidence, {}, {}), tmp_path / "out").read_text()
    assert not re.findall(r'(?:src|href)="(?:https?:)?//', page)
    assert "default-src 'none'" in page
    assert page.count("<script") == 1


def test_bars_have_the_length_of_their_values() -> None:
    quality, identity = MEASURES["quality"], MEASURES["identity"]
    half = bars(quality, [("", [Trace("a", 0, (Cell(0.5, 0.25, 0.75),))])], "x")
    assert '<rect class="sys-0" x="8" y="0" width="147"' in half  # half of 294
    assert 'd="M81.5 4.5V12.5M228.5 4.5V12.5M81.5 8.5H228.5"' in half
    lowest = bars(identity, [("", [Trace("a", 0, (Cell(1.0),))])], "x")
    assert 'width="0"' in lowest
    assert "whisker" not in lowest
    assert "sys-0" not in bars(quality, [("", [Trace("a", 0, (Cell(None, n=0, of=3),))])], "x")


def test_a_radar_has_the_spokes_that_all_have() -> None:
    columns = [MEASURES[key] for key in ("quality", "motion", "identity", "style")]
    whole = Trace("a <b>", 0, (Cell(1.0), Cell(1.0), Cell(10.0), Cell(10.0)))
    assert whole.name not in radar(columns, [whole], "x")  # escaped
    assert radar(columns, [whole], "x").count("<line") == 4
    less = Trace("b", 1, (Cell(0.5), Cell(0.5), Cell(5.5), Cell(None, n=0, of=2)))
    both = radar(columns, [whole, less], "x")
    assert both.count("<line") == 3
    # The first spoke points up from (270, 200): the whole 150 for the one, half for the other.
    assert 'points="270,50 ' in both
    assert 'points="270,125 ' in both
    two = Trace("c", 2, (Cell(0.5), Cell(0.5), Cell(None), Cell(None)))
    assert radar(columns, [two], "x") == ""


def test_the_commands_make_prompts_and_a_report(tmp_path: Path) -> None:
    system = made.system(tmp_path, "a")
    prompts = tmp_path / "four.yaml"
    prompts.write_text(as_yaml(PROMPTS))
    table = made.scores(tmp_path / "a.parquet", {QUALITY: {"p1": 0.5}})
    told = CliRunner().invoke(
        app,
        [
            *("bench", "report", "--system", f"a={system.folder}", "--scores", f"a={table}"),
            *("--prompts", str(prompts), "--out", str(tmp_path / "out")),
        ],
    )
    assert told.exit_code == 0, told.output
    assert "1 systems, 4 prompts, 3 values missing" in told.output
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
