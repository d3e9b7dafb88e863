"""Task ``duplicates``: reject clips that repeat footage of an earlier episode."""

from collections.abc import Sequence

from mimix_core.engine.artifacts import TableRef
from mimix_core.stages.duplicates.stage import DuplicateInputs, deduplicated_clip_tables
from tasks.base import Run, stage_task
from tasks.decisions import load_duplicates_to_keep

duplicates_task = stage_task("duplicates")


def reject_duplicates(run: Run, clips: Sequence[TableRef]) -> list[TableRef]:
    """Return one table of clips per episode, in the library's order, duplicates rejected."""
    table = run.run_single(
        duplicates_task,
        DuplicateInputs(
            unit="all", clips=tuple(clips), wanted=load_duplicates_to_keep(run.workspace)
        ),
        run.workspace.config.duplicates,
    )
    return deduplicated_clip_tables(table, clips)
