"""Captions of every clip."""

from collections.abc import Sequence

from mimix_core.captions.stage import CaptionInputs
from mimix_core.refs import TableRef
from tasks.base import Run, stage_task

captions_task = stage_task("captions")


def captions(
    run: Run, clips: Sequence[TableRef], transcripts: Sequence[TableRef]
) -> list[TableRef]:
    """One table per episode, in the library's order."""
    inputs = [
        CaptionInputs(
            unit=e.name,
            show_title=e.show.title,
            style=e.show.style,
            roster=e.show.roster(),
            aliases=e.show.aliases(),
            clips=clip_table,
            transcripts=transcript_table,
            script=e.script,
            plot=e.plot,
        )
        for e, clip_table, transcript_table in zip(
            run.workspace.episodes, clips, transcripts, strict=True
        )
    ]
    return run.each(captions_task, inputs, run.workspace.config.captions)
