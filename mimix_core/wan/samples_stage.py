"""Stage ``samples``: collect the generated videos of all units in one table."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

from mimix_core import tables
from mimix_core.engine.artifacts import FrozenModel, TableRef, digest_file
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import StageFailed
from mimix_core.settings import SampleSettings
from mimix_core.tables import SAMPLES, Row, Status

VIDEO_FOLDER = "samples"
"""Folder of the videos, relative to the table: ``samples/<prompt_id>.mp4``."""


class SampleInputs(FrozenModel):
    """The tables of the units that generated the videos (stage ``videos``)."""

    unit: Annotated[str, ExcludeFromKey()]
    videos: tuple[TableRef, ...]


def run(inputs: SampleInputs, settings: SampleSettings, out: Path) -> StageReport:
    """Copy all videos and their rows. Raises StageFailed when a video's digest has changed."""
    (out / VIDEO_FOLDER).mkdir()
    rows: list[Row] = []
    for table in inputs.videos:
        for row in tables.read(table.path, SAMPLES):
            if row["status"] == Status.OK:
                shutil.copyfile(table.folder / row["file"], out / row["file"])
                if digest_file(out / row["file"]) != row["sha256"]:
                    raise StageFailed(
                        f"{table.folder / row['file']}: the digest differs from its table's"
                    )
            rows.append({**row})
    return StageReport(rows=rows, rows_in=sum(table.counts.rows_in for table in inputs.videos))


STAGE = Stage(
    name="samples",
    title="Generated videos",
    description="Collect the generated videos of all units in one table.",
    row_noun="videos",
    phase=Phase.GENERATION,
    upstream=("videos",),
    version=2,
    inputs=SampleInputs,
    settings=SampleSettings,
    table=SAMPLES,
    run=run,
)
