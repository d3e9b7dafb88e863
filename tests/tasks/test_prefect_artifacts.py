"""Artifacts in the Prefect UI are bounded and identify every row they show."""

from __future__ import annotations

import io
from itertools import islice
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from prefect.assets import Asset

from mimix_core import tables
from mimix_core.media.contact_sheet import COLUMNS, GAP, WIDTH, build_contact_sheet
from mimix_core.settings import Config, RunSettings
from tasks.lineage import asset_key
from tasks.prefect_artifacts import rejected_rows_table, report_link
from tests.deployments.project_factory import SIZE, write_episode
from tests.factories import clip, table_ref


def test_each_rejected_or_failed_row_is_listed_with_its_reason(tmp_path: Path) -> None:
    left_out = [
        clip("b") | tables.rejected(tables.Reason.CLIP_BLURRED, "sharpness 2"),
        clip("c") | tables.failed(tables.Reason.ENCODE_FAILED, "no space"),
    ]
    whole = table_ref(tmp_path / "whole", tables.CLIPS, [clip("a")])
    mixed = table_ref(tmp_path / "mixed", tables.CLIPS, [clip("d"), *left_out], unit="ep")
    listed = list(rejected_rows_table([whole, mixed]))
    assert [(row["unit"], row["row"], row["status"], row["reason"]) for row in listed] == [
        ("ep", "b", "rejected", "clip_blurred"),
        ("ep", "c", "failed", "encode_failed"),
    ]
    assert {row["detail"] for row in listed} == {"sharpness 2", "no space"}


def test_tables_beyond_the_limit_are_not_read(tmp_path: Path) -> None:
    first = table_ref(
        tmp_path / "first",
        tables.CLIPS,
        [clip("a") | tables.rejected(tables.Reason.CLIP_BLACK, "")],
    )
    gone = first.model_copy(update={"path": tmp_path / "gone" / "table.parquet"})
    assert len(list(islice(rejected_rows_table([first, gone]), 1))) == 1


def test_a_contact_sheet_shows_every_video_once(tmp_path: Path) -> None:
    videos = [tmp_path / f"{number}.mp4" for number in range(COLUMNS + 1)]
    for number, video in enumerate(videos):
        write_episode(video, 10 + number)
    sheet = Image.open(io.BytesIO(build_contact_sheet(videos)))
    height = WIDTH * SIZE[1] // SIZE[0]
    assert sheet.format == "JPEG"
    assert sheet.size == (COLUMNS * (WIDTH + GAP) - GAP, 2 * (height + GAP) - GAP)
    cells = [
        sheet.crop((x, y, x + WIDTH, y + height)).getcolors(100_000)
        for y in (0, height + GAP)
        for x in range(0, sheet.width, WIDTH + GAP)
    ]
    assert [len(colours) > 100 for colours in cells if colours] == [True] * len(videos) + [
        False
    ] * (2 * COLUMNS - len(videos))


@given(st.text(min_size=1), st.text(min_size=1))
def test_every_workspace_has_unique_valid_asset_keys(one: str, other: str) -> None:
    keys = [asset_key(Path("/") / name.replace("\0", ""), "curated/toons") for name in (one, other)]
    for key in keys:
        Asset(key=key)
    same = Path("/") / one.replace("\0", "") == Path("/") / other.replace("\0", "")
    assert (keys[0] == keys[1]) == same


def test_the_report_link_is_a_url_if_the_workspace_is_served(tmp_path: Path) -> None:
    config = Config(library=tmp_path / "library.yaml", workspace=tmp_path)
    assert report_link(config) == (tmp_path / "report" / "index.html").as_uri()
    served = config.model_copy(
        update={"run": RunSettings(workspace_url="https://films.example/mimix/")}
    )
    assert report_link(served) == "https://films.example/mimix/report/index.html"
