"""Task ``scenes``: detect the shots of every episode."""

from mimix_core.engine.artifacts import TableRef
from mimix_core.stages.scenes import SceneInputs
from tasks.base import Run, stage_task

scenes_task = stage_task("scenes")


def detect_scenes(run: Run) -> list[TableRef]:
    """Detect shots; one table per episode, in the library's order."""
    inputs = [
        SceneInputs(unit=e.name, show=e.show.id, style=e.show.style, video=e.video)
        for e in run.workspace.episodes
    ]
    return run.run_units(scenes_task, inputs, run.workspace.config.scenes)
