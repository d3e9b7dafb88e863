"""Subtitles and credits at the bottom of every episode."""

from mimix_core.overlays import OverlayInputs
from mimix_core.refs import TableRef
from tasks.base import Run, stage_task

overlays_task = stage_task("overlays")


def overlays(run: Run) -> list[TableRef]:
    """One table per episode, in the library's order."""
    inputs = [
        OverlayInputs(unit=e.name, show=e.show.id, video=e.video) for e in run.workspace.episodes
    ]
    return run.each(overlays_task, inputs, run.workspace.config.overlays)
