"""A small made-up run: valid tables of every stage, with real videos, masks and images."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import Counts, TableRef, digest_file
from mimix_core.stages.report.stage import CharacterSummary, ReportInputs, ShowSummary, UnitSummary
from mimix_core.tables import Row, Table
from tests.stages.report.fake_videos import PaintClip, draw_discs

BASE = 24000
"""PTS ticks per second of the made-up episodes."""

SHOWS = (
    ShowSummary(
        id="meadow",
        title="The Meadow",
        style=Style.CARTOON,
        characters=(
            CharacterSummary(name="Rinky", description="A small flying squirrel with a grin."),
            CharacterSummary(name="Bunny", description="A huge, kind grey rabbit."),
        ),
    ),
    ShowSummary(
        id="portraits",
        title="Portraits",
        style=Style.REALISTIC,
        characters=(CharacterSummary(name="Anna", description="A woman with long dark hair."),),
    ),
)
STYLE = {show.id: show.style.value for show in SHOWS}
EPISODES = (("meadow", "meadow-one"), ("meadow", "meadow-two"), ("portraits", "smile"))


@dataclass
class FakeRun:
    """Builds a run below ``root``; ``inputs()`` returns the inputs of the report stage."""

    root: Path
    paint: PaintClip = draw_discs
    clips_per_episode: int = 2
    units: list[tuple[str, str, Table, list[Row], TableRef]] = field(default_factory=list)

    def commit(self, stage: str, unit: str, table: Table, rows: Sequence[Row]) -> TableRef:
        """Write a table like ``run_stage``."""
        folder = self.folder(stage, unit)
        key = hashlib.sha256(f"{stage} {unit}".encode()).hexdigest()
        path = folder / "table.parquet"
        rows = [{**_blank(table), **row} for row in rows]
        tables.write(path, table, rows, stage_key=key)
        statuses = Counter(row["status"] for row in rows)
        counts = Counts(
            rows_in=len(rows),
            ok=statuses["ok"],
            rejected=statuses["rejected"],
            failed=statuses["failed"],
        )
        ref = TableRef(
            stage=stage, unit=unit, key=key, sha256=digest_file(path), path=path, counts=counts
        )
        self.units.append((stage, unit, table, list(rows), ref))
        return ref

    def folder(self, stage: str, unit: str) -> Path:
        path = self.root / stage / unit
        path.mkdir(parents=True, exist_ok=True)
        return path

    def rows(self, stage: str) -> list[Row]:
        return [row for name, _, _, rows, _ in self.units if name == stage for row in rows]

    def refs(self, stage: str) -> tuple[TableRef, ...]:
        return tuple(ref for name, _, _, _, ref in self.units if name == stage)

    def inputs(self) -> ReportInputs:
        records = tuple(
            UnitSummary(
                stage=stage,
                unit=unit,
                counts=ref.counts,
                reasons=dict(
                    sorted(Counter(row["reason"] for row in rows if row["reason"]).items())
                ),
                notes={"rows_written": len(rows)},
            )
            for stage, unit, _, rows, ref in self.units
        )
        many = ("scenes", "overlays", "clips", "transcripts", "captions", "cutouts")
        one = ("composites", "recaptions", "dataset", "backbone", "lora", "samples", "scores")
        return ReportInputs(
            title="A made-up run",
            shows=SHOWS,
            records=records,
            **{name: self.refs(name) for name in (*many, "latents", "embeddings")},
            **{name: self.refs(name)[0] for name in one},
        )


def _blank(table: Table) -> Row:
    """An empty value for each column: columns unused by the page need no test data."""
    values: Row = {}
    for column in table.schema:
        if pa.types.is_list(column.type):
            values[column.name] = []
        elif pa.types.is_string(column.type):
            values[column.name] = ""
        elif pa.types.is_binary(column.type):
            values[column.name] = b""
        else:
            values[column.name] = 0
    return values
