"""Clips that another episode already has."""

from collections.abc import Sequence

from mimix_core.engine.artifacts import TableRef
from mimix_core.stages.duplicates.stage import DuplicateInputs, episode_tables
from tasks.base import Run, stage_task

duplicates_task = stage_task("duplicates")


def reject_duplicates(run: Run, clips: Sequence[TableRef]) -> list[TableRef]:
    """The clips of every episode, in the library's order; what came before is rejected."""
    found = run.run_single(
        duplicates_task,
        DuplicateInputs(unit="all", clips=tuple(clips)),
        run.workspace.config.duplicates,
    )
    return episode_tables(found, clips)
