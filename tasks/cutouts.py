"""Characters cut out of every clip."""

from collections.abc import Sequence

from mimix_core.cutouts.stage import CutoutInputs
from mimix_core.refs import TableRef
from tasks.base import Run, stage_task

cutouts_task = stage_task("cutouts")


def cutouts(run: Run, clips: Sequence[TableRef], captions: Sequence[TableRef]) -> list[TableRef]:
    """One table per episode, in the library's order."""
    settings = run.workspace.config.cutouts
    weights = run.workspace.file(settings.weights, "cutouts.weights")
    inputs = [
        CutoutInputs(
            unit=e.name,
            roster=e.show.roster(),
            aliases=e.show.aliases(),
            clips=clip_table,
            captions=caption_table,
            boxes=e.boxes,
            weights=weights,
        )
        for e, clip_table, caption_table in zip(
            run.workspace.episodes, clips, captions, strict=True
        )
    ]
    return run.each(cutouts_task, inputs, settings)
