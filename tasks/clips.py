"""Task ``clips``: cut every episode into clips."""

from collections.abc import Sequence

from mimix_core.engine.artifacts import TableRef
from mimix_core.stages.clips.stage import ClipInputs
from tasks.base import Run, stage_task
from tasks.decisions import load_moved_crops

clips_task = stage_task("clips")


def cut_clips(run: Run, scenes: Sequence[TableRef], overlays: Sequence[TableRef]) -> list[TableRef]:
    """Cut clips; one table per episode, in the library's order."""
    language = run.workspace.config.transcripts.language
    moved = load_moved_crops(run.workspace)
    inputs = [
        ClipInputs(
            unit=e.name,
            video=e.video,
            scenes=scene_table,
            overlays=overlay_table,
            language=e.show.language or language,
            moved_crops=moved.get(e.id, {}),
            whole=e.imported is not None,
        )
        for e, scene_table, overlay_table in zip(
            run.workspace.episodes, scenes, overlays, strict=True
        )
    ]
    return run.run_units(clips_task, inputs, run.workspace.config.clips)
