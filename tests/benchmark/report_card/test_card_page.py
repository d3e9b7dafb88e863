"""The folder of a report card: a page that agrees with its tables, videos, clips and stills."""

from __future__ import annotations

import csv
import html
import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from urllib.parse import unquote

import pyarrow.parquet as pq
import pytest

from mimix_core.benchmark.report_card.card_inputs import (
    CardInputs,
    Resemblance,
    load_card_inputs,
    read_resemblances,
)
from mimix_core.benchmark.report_card.card_page import write_report_card
from mimix_core.domain.prompts import CharacterOrigin
from mimix_core.engine.artifacts import TableRef, digest_file
from mimix_core.errors import BadInput
from mimix_core.tables import CHARACTER_SCORES, COMPOSITES, DATASET
from tests.benchmark.report_card import factories
from tests.benchmark.report_card.factories import ORIGINS, PROMPTS, SCORES, card_inputs
from tests.factories import table_ref


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> CardInputs:
    return card_inputs(tmp_path_factory.mktemp("inputs"), PROMPTS, SCORES)


@pytest.fixture(scope="module")
def card(inputs: CardInputs, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a card."""
    return write_report_card(inputs, tmp_path_factory.mktemp("card") / "card").page.parent


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): digest_file(path) for path in files}


def page_text(card: Path) -> str:
    return (card / "index.html").read_text()


def shown_rows(page: str) -> list[str]:
    """The text of each row of the table of pairs."""
    table = page[page.index('<table class="pairs"') :]
    rows = re.findall(r"<tr.*?</tr>", table[: table.index("</table>")], re.S)
    return [" ".join(html.unescape(re.sub(r"<[^>]*>", " ", row)).split()) for row in rows[1:]]


def test_the_table_shows_counts_shares_and_intervals(card: Path) -> None:
    rows = shown_rows(page_text(card))
    assert rows == [
        "All pairs cartoon 5 videos 60 % 3 of 5 23–88 % 20 % 1 of 5 4–62 % 20 % 1 of 5 4–62 % "
        "0 % 0 of 5 0–43 %",
        "realistic 1 video 100 % 1 of 1 21–100 % 100 % 1 of 1 21–100 % 100 % 1 of 1 21–100 % "
        "100 % 1 of 1 21–100 %",
        "Characters of two shows",
        "Jerry Mary cartoon 1 video 0 % 0 of 1 0–79 % 0 % 0 of 1 0–79 % 0 % 0 of 1 0–79 % "
        "0 % 0 of 1 0–79 % Jerry took Tom’s looks 1× (only in part) Mary absent 1× 0",
        "realistic no videos 0",
        "Tom Mary cartoon 3 videos 67 % 2 of 3 21–94 % 33 % 1 of 3 6–79 % 0 % 0 of 3 0–56 % "
        "0 % 0 of 3 0–56 % Tom took Mary’s looks 1× Tom lost the cartoon style 1× "
        "Mary lost the realistic style 1× Mary absent 1× Mary doubled 1× 1",
        "realistic no videos 0",
        "Characters of one show",
        "Tom Jerry cartoon 1 video 100 % 1 of 1 21–100 % 0 % 0 of 1 0–79 % 100 % 1 of 1 21–100 % "
        "0 % 0 of 1 0–79 % Jerry took Tom’s looks 1× (only in part) 0",
        "realistic 1 video of 2 100 % 1 of 1 21–100 % 100 % 1 of 1 21–100 % 100 % 1 of 1 "
        "21–100 % 100 % 1 of 1 21–100 % none 0",
    ]


def test_pairs_without_videos_are_named(tmp_path: Path) -> None:
    inputs = card_inputs(tmp_path, PROMPTS[:2], SCORES[:4])
    page = page_text(write_report_card(inputs, tmp_path / "card").page.parent)
    assert "No videos with either background (1 pair): Jerry + Mary" in shown_rows(page)[-3]


def test_csv_parquet_and_latex_have_the_same_values(card: Path) -> None:
    for key in ("pairs", "looks", "videos", "training"):
        with (card / f"{key}.csv").open(newline="") as file:
            written = list(csv.DictReader(file))
        rows = pq.read_table(card / f"{key}.parquet").to_pylist()
        assert [list(row) for row in rows] == [list(row) for row in written]
        for row, line in zip(rows, written, strict=True):
            for name, value in row.items():
                if isinstance(value, float):
                    assert float(line[name]) == value
                elif value is None:
                    assert line[name] == ""
                elif not isinstance(value, bool):
                    assert line[name] == str(value)
    [pair] = [
        row
        for row in pq.read_table(card / "pairs.parquet").to_pylist()
        if (row["First"], row["Second"], row["Background"]) == ("Tom", "Mary", "cartoon")
    ]
    assert (pair["Both there"], pair["Both there n"], pair["Composites in training"]) == (
        2 / 3,
        3,
        1,
    )
    assert r"Tom & Mary & cartoon & 0.67 & 0.33 & 0.00" in (card / "pairs.tex").read_text()
    assert r"\toprule" in (card / "looks.tex").read_text()


def test_the_tables_of_videos_and_training_lead_from_a_video_to_its_samples(card: Path) -> None:
    videos = pq.read_table(card / "videos.parquet").to_pylist()
    worst = [v for v in videos if (v["second"], v["background"]) == ("Mary", "cartoon")]
    assert [(v["first"], v["rank"], v["video_id"]) for v in worst] == [
        ("Jerry", 1, "p3"),
        ("Tom", 1, "p2"),
        ("Tom", 2, "p3"),
        ("Tom", 3, "p1"),
    ]
    assert (worst[1]["first_identity"], worst[1]["first_looks_like"]) == ("swapped", "Mary")
    training = pq.read_table(card / "training.parquet").to_pylist()
    assert [(t["kind"], t["sample_id"]) for t in training if t["video_id"] == "p1"] == [
        ("nearest-frame", "running"),
        ("composite", "pasted"),
        ("clip", "waving"),
        ("clip", "reading"),
    ]


def test_every_link_and_picture_of_the_page_is_there(card: Path) -> None:
    page = page_text(card)
    addresses = set(re.findall(r'(?:src|href)="([^"]+)"', page))
    local = {unquote(one.split("#")[0]) for one in addresses if one[0] != "#"} - {"data:,"}
    assert {one.split("/")[0] for one in local if "/" in one} == {"videos", "training", "stills"}
    assert [one for one in local if not (card / one).is_file()] == []
    anchors = {one[1:] for one in addresses if one.startswith("#")}
    assert [one for one in anchors if f'id="{one}"' not in page] == []
    # Nothing was copied that the page does not show.
    written = {name for name in digests(card) if "/" in name}
    assert written == {one for one in local if "/" in one}


def test_a_nearest_frame_is_linked_at_its_time(card: Path) -> None:
    assert 'href="training/running.mp4#t=0.250"' in page_text(card)


def test_a_clip_that_is_gone_and_a_pair_without_composites_say_so(card: Path) -> None:
    page = page_text(card)
    assert "not in the dataset any more" in page
    assert "No composite in training shows Jerry with Mary." in page


def test_the_same_inputs_give_the_same_bytes(
    card: Path, inputs: CardInputs, tmp_path: Path
) -> None:
    out = tmp_path / "again"
    write_report_card(replace(inputs, prompts=PROMPTS[:2]), out)
    write_report_card(inputs, out)
    assert digests(out) == digests(card)


def test_names_and_captions_are_text_on_the_page(tmp_path: Path) -> None:
    name, script = '<b>Tom & "Co"</b>', "<script>alert(1)</script>"
    origins = (
        CharacterOrigin.model_validate({"name": name, "show": "toons", "style": "cartoon"}),
        ORIGINS[2],
    )
    prompts = [factories.prompt("p1", [name, "Mary"])]
    rows = [factories.score("p1", name), factories.score("p1", "Mary")]
    dataset = [factories.sample("s", [name], f"[Character: {name}], {script}.")]
    inputs = replace(
        card_inputs(tmp_path / "in", prompts, rows, dataset, origins), system="<i>ours</i>"
    )
    card = write_report_card(inputs, tmp_path / "card").page.parent
    page = page_text(card)
    assert not any(text in page for text in (name, script, "<i>ours"))
    assert html.escape(script) in page
    assert len(list(csv.reader((card / "pairs.csv").open(newline="")))) == 3


def test_charts_of_many_pairs_come_in_parts_that_fit_on_paper(tmp_path: Path) -> None:
    names = [f"N{number}" for number in range(7)]
    origins = [
        CharacterOrigin.model_validate({"name": name, "show": "s", "style": "cartoon"})
        for name in names
    ]
    pairs = list(combinations(names, 2))
    prompts = [factories.prompt(f"p{number}", pair) for number, pair in enumerate(pairs)]
    rows = [factories.score(one.id, name) for one in prompts for name in one.characters]
    inputs = card_inputs(tmp_path / "in", prompts, rows, (), origins)
    page = page_text(write_report_card(inputs, tmp_path / "card").page.parent)
    assert "<h3>All, pairs 1 to 15</h3>" in page
    assert "<h3>All, pairs 16 to 21</h3>" in page
    assert page.count('<svg class="shares"') == 8


def test_a_video_that_cannot_be_decoded_has_no_picture(tmp_path: Path) -> None:
    inputs = card_inputs(tmp_path / "in", PROMPTS[:1], SCORES[:2])
    inputs.videos["p1"].write_bytes(b"no video")
    page = page_text(write_report_card(inputs, tmp_path / "card").page.parent)
    assert page.count("no picture") == 1


def test_a_missing_training_clip_is_an_error_and_leaves_an_earlier_card(tmp_path: Path) -> None:
    inputs = card_inputs(tmp_path / "in", PROMPTS[:1], SCORES[:2])
    (inputs.store / "clips" / "running.mp4").rename(tmp_path / "running.mp4")
    with pytest.raises(BadInput, match=r"running\.mp4.*not there any more"):
        write_report_card(inputs, tmp_path / "card")
    (tmp_path / "running.mp4").rename(inputs.store / "clips" / "running.mp4")
    write_report_card(inputs, tmp_path / "card")
    before = digests(tmp_path / "card")
    (inputs.store / "clips" / "running.mp4").unlink()
    with pytest.raises(BadInput, match=r"running\.mp4"):
        write_report_card(inputs, tmp_path / "card")
    assert digests(tmp_path / "card") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card", "in"]


def test_other_folders_are_left_alone(inputs: CardInputs, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="does not contain a report card"):
        write_report_card(inputs, tmp_path)
    with pytest.raises(BadInput, match="contains the videos of ours"):
        write_report_card(inputs, inputs.videos["p1"].parent)


def refs(folder: Path) -> dict[str, TableRef]:
    return {
        "dataset": table_ref(folder / "dataset", DATASET, factories.DATASET),
        "composites": table_ref(folder / "composites", COMPOSITES, []),
    }


def test_tables_without_scores_of_a_pair_are_refused(inputs: CardInputs, tmp_path: Path) -> None:
    found, store = refs(tmp_path), tmp_path
    none = table_ref(tmp_path / "scores", CHARACTER_SCORES, SCORES[-3:]).path
    with pytest.raises(BadInput, match="no video of ours with two characters has scores"):
        load_card_inputs(
            "ours", inputs.videos, PROMPTS, ORIGINS, none, **found, store=store, resemblances={}
        )
    with pytest.raises(BadInput, match="no prompt has two characters"):
        load_card_inputs(
            "ours",
            inputs.videos,
            PROMPTS[-1:],
            ORIGINS,
            none,
            **found,
            store=store,
            resemblances={},
        )
    scores = table_ref(tmp_path / "all", CHARACTER_SCORES, SCORES).path
    loaded = load_card_inputs(
        "ours", inputs.videos, PROMPTS, ORIGINS, scores, **found, store=store, resemblances={}
    )
    assert len(loaded.scores) == len(SCORES)
    assert len(loaded.dataset) == len(factories.DATASET)


def test_look_alikes_are_shown_beside_their_pair(inputs: CardInputs, tmp_path: Path) -> None:
    file = tmp_path / "alike.csv"
    header = "first,second,similarity,own_first,own_second,alarm\n"
    file.write_text(f"{header}Mary,Tom,0.91,0.8,,1\nTom,Jerry,0.4,0.8,,0\n")
    found = read_resemblances(file)
    assert found[frozenset(("Tom", "Mary"))] == Resemblance(0.91, True)
    card = write_report_card(replace(inputs, resemblances=found), tmp_path / "card").page.parent
    rows = shown_rows(page_text(card))
    assert any(row.startswith("Tom Mary look-alikes, 0.91 alike cartoon") for row in rows)
    assert any(row.startswith("Tom Jerry 0.40 alike cartoon") for row in rows)
    assert any(row.startswith("Jerry Mary cartoon") for row in rows)
    alike = pq.read_table(card / "pairs.parquet")["Exemplars alike"].to_pylist()
    assert sorted(alike, key=str) == [0.4, 0.4, 0.91, 0.91, None, None]
    without = write_report_card(inputs, tmp_path / "card").page.parent
    assert "Exemplars alike" not in pq.read_schema(without / "pairs.parquet").names


@pytest.mark.parametrize(
    "text", ["", "a,b\n1,2\n", "first,second,similarity,alarm\nTom,Mary,x,1\n"]
)
def test_a_file_without_look_alikes_is_refused(text: str, tmp_path: Path) -> None:
    file = tmp_path / "alike.csv"
    with pytest.raises(BadInput, match="no such file"):
        read_resemblances(file)
    file.write_text(text)
    with pytest.raises(BadInput, match="is not a table of look-alikes"):
        read_resemblances(file)
