"""Build the report card's tables: pairs and looks as result tables, videos and traces as rows."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core.benchmark.report_card.card_inputs import Resemblances
from mimix_core.benchmark.report_card.pair_scores import (
    CRITERIA,
    LookCounts,
    Pair,
    PairCell,
    PairVideo,
    share_cell,
)
from mimix_core.benchmark.report_card.training_trace import TracedSample, TrainingIndex
from mimix_core.benchmark.tables.metric_columns import MetricColumn
from mimix_core.benchmark.tables.table_model import ResultTable, TableCell, TableRow
from mimix_core.domain.library import Style
from mimix_core.engine.text_escaping import escape_spreadsheet

INTERVAL_NOTE = (
    "Shares of videos with Wilson's 95 % intervals. They cover other videos of this kind, not the "
    "errors of the scores (docs/character-scores.md)."
)
_ALIKE = "Exemplars alike"
TRIPLE_NOTE = "A video of three characters counts in each of its three pairs."


def build_pair_table(
    pairs: Sequence[Pair], index: TrainingIndex, resemblances: Resemblances
) -> ResultTable:
    """Build the table of all pairs x backgrounds: criteria, who took whose looks, training.

    How alike the exemplars of two characters are is a column only if it is known.
    """
    rows = []
    for pair in pairs:
        names = (pair.first.name, pair.second.name)
        found = resemblances.get(frozenset(names))
        alike = (TableCell(None if found is None else found.similarity),) if resemblances else ()
        rows += [
            TableRow((*names, cell.background.value), (*_pair_cells(cell, index), *alike))
            for cell in pair.cells
        ]
    columns = (
        *(_share_column(key, title) for key, title in CRITERIA.items()),
        _share_column("first-like-second", "First looks like second", higher_is_better=False),
        _share_column("second-like-first", "Second looks like first", higher_is_better=False),
        _share_column("doubled", "One of them doubled", higher_is_better=False),
        _share_column("copied", "Nearly a training frame", higher_is_better=False),
        MetricColumn("composites", "Composites in training", "", "Characters", 0, 0, 0),
        *(
            [MetricColumn("alike", _ALIKE, "", "Characters", 2, 0, 1, False)]
            if resemblances
            else []
        ),
    )
    return ResultTable(
        "pairs",
        "Mixing report card",
        "Videos of each pair of characters by the style of the scene.",
        ("First", "Second", "Background"),
        columns,
        tuple(rows),
        (INTERVAL_NOTE, TRIPLE_NOTE),
        highlight_best=False,
    )


def _pair_cells(cell: PairCell, index: TrainingIndex) -> tuple[TableCell, ...]:
    composites = index.composites_of((cell.first.name, cell.second.name), cell.background)
    return (
        *(cell.share(criterion) for criterion in CRITERIA),
        cell.took(0),
        cell.took(1),
        cell.doubled(),
        cell.copied(),
        TableCell(float(composites)),
    )


def build_look_table(counts: Sequence[LookCounts]) -> ResultTable:
    """Build the table of who looks like whom: asked-for characters x those whose looks they have.

    The diagonal is the share of videos in which a character is itself.
    """
    names = [one.origin.name for one in counts]
    columns = [
        *(_share_column(f"like-{name}", f"Looks like {name}") for name in names),
        _share_column("absent", "Absent", higher_is_better=False),
        *(
            _share_column(f"lost-{style.value}", f"Style lost, {style.value} background")
            for style in Style
        ),
    ]
    rows = []
    for one in counts:
        looks = {name: one.swapped.get(name, 0) + one.mixed.get(name, 0) for name in names}
        looks[one.origin.name] = one.right
        shares = [_count_cell(count, one.videos) for count in (*looks.values(), one.absent)]
        lost = [_count_cell(*one.styles_lost[style.value]) for style in Style]
        rows.append(TableRow((one.origin.name,), (*shares, *lost)))
    return ResultTable(
        "looks",
        "Who took whose looks",
        "Each asked-for character in videos of several: whose looks it has (swapped or mixed), and "
        "where it lost the style of its show.",
        ("Asked for",),
        tuple(columns),
        tuple(rows),
        (INTERVAL_NOTE,),
        highlight_best=False,
    )


def _count_cell(count: int, total: int) -> TableCell:
    return share_cell([True] * count + [False] * (total - count), total)


def _share_column(key: str, title: str, *, higher_is_better: bool = True) -> MetricColumn:
    return MetricColumn(key, title, "", "Characters", 2, 0, 1, higher_is_better)


_CHARACTER_FIELDS = {
    "identity": pa.string(),
    "looks_like": pa.string(),
    "in_own_style": pa.bool_(),
    "count": pa.int64(),
    "distance": pa.float64(),
    "limit": pa.float64(),
    "nearest_clip": pa.string(),
    "nearest_frame": pa.int64(),
    "copy_similarity": pa.float64(),
    "copied": pa.bool_(),
}
"""Columns of the scores of characters that a row of videos has for each of the two."""

VIDEO_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("first", "second", "background")),
        ("rank", pa.int64()),  # 1: the worst of its pair and background
        *((name, pa.string()) for name in ("video_id", "prompt")),
        *((criterion, pa.bool_()) for criterion in CRITERIA),
        *(
            (f"{side}_{name}", kind)
            for side in ("first", "second")
            for name, kind in _CHARACTER_FIELDS.items()
        ),
    ]
)

TRACE_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("video_id", "first", "second", "kind", "sample_id")),
        ("characters", pa.string()),  # that it was found for, separated by semicolons
        ("frame", pa.int64()),
        ("similarity", pa.float64()),
        ("copied", pa.bool_()),
        ("split", pa.string()),  # empty: not in the dataset
        ("caption", pa.string()),
    ]
)


def video_rows(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """Return one row for each video of each pair, the worst of a cell first."""
    return [
        {
            "first": cell.first.name,
            "second": cell.second.name,
            "background": cell.background.value,
            "rank": rank,
            "video_id": video.prompt.id,
            "prompt": video.prompt.render(),
            **{criterion: video.meets(criterion) for criterion in CRITERIA},
            **_character_columns(video),
        }
        for pair in pairs
        for cell in pair.cells
        for rank, video in enumerate(cell.videos, start=1)
    ]


def _character_columns(video: PairVideo) -> dict[str, Any]:
    rows: list[Mapping[str, Any]] = [dict(row) for row in video.scores]
    return {
        f"{side}_{name}": row[name]
        for side, row in zip(("first", "second"), rows, strict=True)
        for name in _CHARACTER_FIELDS
    }


def trace_rows(video: PairVideo, samples: Sequence[TracedSample]) -> list[dict[str, Any]]:
    """Return one row for each training sample behind a video."""
    first, second = (row["character"] for row in video.scores)
    return [
        {
            "video_id": video.prompt.id,
            "first": first,
            "second": second,
            "kind": one.kind,
            "sample_id": one.sample_id,
            "characters": ";".join(one.characters),
            "frame": one.frame,
            "similarity": one.similarity,
            "copied": one.copied,
            "split": one.sample["split"] if one.sample else "",
            "caption": one.sample["caption"] if one.sample else "",
        }
        for one in samples
    ]


def rows_to_parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> bytes:
    """Export flat rows as Parquet."""
    sink = pa.BufferOutputStream()
    table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    pq.write_table(table, sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def rows_to_csv(rows: Sequence[Mapping[str, Any]], schema: pa.Schema) -> str:
    """Export flat rows as CSV; missing values are empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, schema.names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(
        {
            name: escape_spreadsheet(value) if isinstance(value, str) else value
            for name, value in row.items()
        }
        for row in rows
    )
    return out.getvalue()
