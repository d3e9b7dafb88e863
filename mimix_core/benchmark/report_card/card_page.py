"""Write the report card as a folder: a page, its tables, the worst videos, likely sources."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mimix_core.benchmark.report_card.card_files import FOLDERS, STILL_WIDTH, CardFiles
from mimix_core.benchmark.report_card.card_inputs import CardInputs
from mimix_core.benchmark.report_card.card_tables import (
    INTERVAL_NOTE,
    TRACE_SCHEMA,
    TRIPLE_NOTE,
    VIDEO_SCHEMA,
    build_look_table,
    build_pair_table,
    rows_to_csv,
    rows_to_parquet,
    trace_rows,
    video_rows,
)
from mimix_core.benchmark.report_card.card_views import (
    ShareView,
    describe_looks,
    describe_pair,
    describe_share,
)
from mimix_core.benchmark.report_card.pair_charts import draw_pair_chart
from mimix_core.benchmark.report_card.pair_scores import (
    CRITERIA,
    LookCounts,
    Pair,
    count_looks,
    count_unscored,
    group_pairs,
    share_cell,
)
from mimix_core.benchmark.report_card.training_trace import TrainingIndex
from mimix_core.benchmark.tables.table_export import to_csv, to_latex, to_parquet
from mimix_core.domain.library import Style
from mimix_core.engine import progress
from mimix_core.errors import BadInput
from mimix_core.html.page_renderer import SHARED_STYLE, render_page

PACKAGE = "mimix_core.benchmark.report_card"

PAGE_NAME = "index.html"

PAGE_SIGNATURE = "Made by MiMix (mimix bench card)"
"""Footer of each page; identifies folders that may be overwritten."""

PAIRS_PER_CHART = 15
"""Four charts of so many pairs fit on a sheet of A4."""

TABLE_SUFFIXES = (".csv", ".parquet", ".tex")


@dataclass(frozen=True)
class CardChart:
    """A chart and its title."""

    title: str
    svg: Markup


@dataclass(frozen=True)
class ReportCard:
    """What was written: the page, and how many videos of several characters have scores."""

    page: Path
    videos: int
    cells: int
    empty_cells: int


def write_report_card(inputs: CardInputs, out: Path) -> ReportCard:
    """Write the card into the folder ``out``. The same inputs produce the same bytes.

    An earlier card is replaced once the new one is complete. Raises BadInput if ``out`` contains
    anything but a card, or a video of the card.
    """
    if any(path.resolve().is_relative_to(out.resolve()) for path in inputs.videos.values()):
        raise BadInput(
            f"contains the videos of {inputs.system}, which writing would remove",
            where=str(out),
            fix="Specify another folder.",
        )
    _check_folder(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name[:80]}-") as name:
        staging = Path(name)
        pairs = _write_files(inputs, staging)
        _remove_previous_card(out)
        out.mkdir(exist_ok=True)
        for path in sorted(staging.iterdir()):
            path.replace(out / path.name)
    cells = [cell for pair in pairs for cell in pair.cells]
    return ReportCard(
        out / PAGE_NAME,
        len({video.prompt.id for cell in cells for video in cell.videos}),
        len(cells),
        sum(not cell.videos for cell in cells),
    )


def _write_files(inputs: CardInputs, out: Path) -> Sequence[Pair]:
    """Write the page, its tables and its files into an empty folder. Returns the pairs."""
    index = TrainingIndex(inputs.dataset)
    pairs = group_pairs(inputs.prompts, inputs.origins, inputs.scores)
    looks = count_looks(inputs.prompts, inputs.origins, inputs.scores)
    files = CardFiles(out)
    described = [describe_pair(pair, inputs, index, files) for pair in pairs]
    traces = [
        row for _, own in described for video, found in own for row in trace_rows(video, found)
    ]
    for table in (build_pair_table(pairs, index, inputs.resemblances), build_look_table(looks)):
        (out / f"{table.key}.csv").write_text(to_csv(table), encoding="utf-8")
        (out / f"{table.key}.tex").write_text(to_latex(table), encoding="utf-8")
        (out / f"{table.key}.parquet").write_bytes(to_parquet(table))
    for key, rows, schema in (
        ("videos", video_rows(pairs), VIDEO_SCHEMA),
        ("training", traces, TRACE_SCHEMA),
    ):
        (out / f"{key}.csv").write_text(rows_to_csv(rows, schema), encoding="utf-8")
        (out / f"{key}.parquet").write_bytes(rows_to_parquet(rows, schema))
    values = {
        **_summarize(inputs, pairs, looks, index),
        "pairs": [view for view, _ in described],
        "still_width": STILL_WIDTH,
        "still_heights": files.write_stills(
            lambda done, total: progress.report_progress(done, total, "stills")
        ),
    }
    (out / PAGE_NAME).write_text(_render(values), encoding="utf-8")
    return pairs


def _render(values: dict[str, Any]) -> str:
    return render_page(
        PACKAGE,
        "report-card.html",
        {**values, "signature": PAGE_SIGNATURE},
        styles=(SHARED_STYLE, (PACKAGE, "report-card.css")),
        script="report-card.js",
    )


def _summarize(
    inputs: CardInputs, pairs: Sequence[Pair], looks: Sequence[LookCounts], index: TrainingIndex
) -> dict[str, Any]:
    """Return the template's variables that are about all pairs."""
    cells = [cell for pair in pairs for cell in pair.cells]
    scored = {video.prompt.id for cell in cells for video in cell.videos}
    names = [one.origin.name for one in looks]
    return {
        "system": inputs.system,
        "videos": len(scored),
        "asked": sum(len(set(prompt.characters)) > 1 for prompt in inputs.prompts),
        "backends": sorted({row["backend"] for row in inputs.scores}),
        "cells": len(cells),
        "empty_cells": sum(not cell.videos for cell in cells),
        "totals": [
            (style.value, sum(len(cell.videos) for cell in cells if cell.background is style), own)
            for style in Style
            if (own := _total_shares(pairs, style))
        ],
        "charts": _draw_charts(pairs),
        "look_names": names,
        "look_rows": describe_looks(looks),
        "backgrounds": [style.value for style in Style],
        "unscored": count_unscored(inputs.prompts, inputs.scores),
        "training": [(one.origin.name, index.clips_of(one.origin.name)) for one in looks],
        "training_composites": index.composites_of(()),
        "notes": (INTERVAL_NOTE, TRIPLE_NOTE),
    }


def _draw_charts(pairs: Sequence[Pair]) -> list[CardChart]:
    """Draw a chart of each criterion, for so many pairs at a time that they fit on paper."""
    shown = [pair for pair in pairs if any(cell.videos for cell in pair.cells)]
    charts = []
    for start in range(0, len(shown), PAIRS_PER_CHART):
        part = shown[start : start + PAIRS_PER_CHART]
        which = f", pairs {start + 1} to {start + len(part)}" if len(part) < len(shown) else ""
        charts += [
            CardChart(f"{title}{which}", svg)
            for key, title in CRITERIA.items()
            if (svg := draw_pair_chart(part, key, f"{title}, by pair and background{which}"))
        ]
    return charts


def _total_shares(pairs: Sequence[Pair], style: Style) -> list[ShareView]:
    cells = [cell for pair in pairs for cell in pair.cells if cell.background is style]
    videos = [video for cell in cells for video in cell.videos]
    expected = sum(cell.expected for cell in cells)
    if not videos:
        return []
    return [
        describe_share(title, share_cell([video.meets(key) for video in videos], expected))
        for key, title in CRITERIA.items()
    ]


def _check_folder(out: Path) -> None:
    """Raise BadInput if a folder has something in it, and no card."""
    if not out.exists():
        return
    page = out / PAGE_NAME
    earlier = page.is_file() and PAGE_SIGNATURE.encode() in page.read_bytes()
    if not out.is_dir() or (any(out.iterdir()) and not earlier):
        raise BadInput(
            "exists and does not contain a report card",
            where=str(out),
            fix="Specify a new folder.",
        )


def _remove_previous_card(out: Path) -> None:
    """Remove an earlier card, so that its files do not mix with the new ones."""
    for path in sorted(out.iterdir()) if out.exists() else ():
        if path.name in FOLDERS and path.is_dir():
            shutil.rmtree(path)
        elif path.suffix in TABLE_SUFFIXES or path.name == PAGE_NAME:
            path.unlink()
