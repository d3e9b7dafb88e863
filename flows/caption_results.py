"""Look up clips and captions of earlier runs for ``mimix captions``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flows import prefect_environment
from flows.console import load_settings
from mimix_core import tables
from mimix_core.engine.artifacts import TableRef
from mimix_core.errors import BadInput
from mimix_core.project.workspace import open_workspace
from mimix_core.tables import CaptionRow

if TYPE_CHECKING:
    from flows.curate import CuratedTables
    from tasks.cached_run import ReadOnlyRun


def open_caption_run(settings: Path, workspace: Path | None) -> ReadOnlyRun:
    """Open a run that reads results and computes nothing."""
    prefect_environment.configure_prefect()
    config = load_settings(settings, workspace)
    from tasks.cached_run import ReadOnlyRun

    return ReadOnlyRun(open_workspace(config))


def curated_tables(run: ReadOnlyRun) -> CuratedTables:
    """Return the tables of curation. Raises MissingResult when a stage has no result yet."""
    from flows.curate import curate_stages

    return curate_stages(run)


def caption_tables(run: ReadOnlyRun) -> list[TableRef]:
    """Return the tables of captions, one per episode."""
    return list(curated_tables(run).captions)


def caption_rows(run: ReadOnlyRun) -> dict[str, CaptionRow]:
    """Return the captions by clip."""
    return {
        row["clip_id"]: row
        for ref in caption_tables(run)
        for row in tables.read(ref.path, tables.CAPTIONS)
    }


def clip_videos(run: ReadOnlyRun) -> dict[str, Path]:
    """Return the paths of the usable clips' videos."""
    return {
        row["clip_id"]: (ref.folder / row["file"]).resolve()
        for ref in curated_tables(run).clips
        for row in tables.usable(tables.read(ref.path, tables.CLIPS))
    }


def require_overrides_file(run: ReadOnlyRun, settings: Path) -> Path:
    """Return the path of the file with captions written by hand. Raises BadInput without one."""
    overrides = run.workspace.config.captions.overrides
    if overrides is None:
        raise BadInput(
            "no file is set for captions written by hand",
            where=f"{settings}, key captions.overrides",
            fix="Set it, e.g. to captions.jsonl",
        )
    return overrides


def rows_before_import(run: ReadOnlyRun) -> dict[str, CaptionRow]:
    """Return the current captions; before a run with the last import, those without any import."""
    from dataclasses import replace

    from tasks.cached_run import MissingResult, ReadOnlyRun

    try:
        return caption_rows(run)
    except MissingResult:
        config = run.workspace.config
        captions = config.captions.model_copy(update={"overrides": None})
        without = config.model_copy(update={"captions": captions})
        return caption_rows(ReadOnlyRun(replace(run.workspace, config=without)))
