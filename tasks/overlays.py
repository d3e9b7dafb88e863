"""Task ``overlays``: find the part of every scene that is free of subtitles and credits."""

from collections.abc import Sequence

from mimix_core.engine.artifacts import TableRef
from mimix_core.stages.overlays import OverlayInputs
from tasks.base import Run, stage_task

overlays_task = stage_task("overlays")


def detect_overlays(run: Run, scenes: Sequence[TableRef]) -> list[TableRef]:
    """Detect overlays; one table per episode, in the library's order."""
    config = run.workspace.config
    inputs = [
        OverlayInputs(
            unit=e.name,
            show=e.show.id,
            video=e.video,
            scenes=scene_table,
            clip_frames=config.clips.frames,
            clip_rate=config.clips.frame_rate,
        )
        for e, scene_table in zip(run.workspace.episodes, scenes, strict=True)
    ]
    return run.run_units(overlays_task, inputs, config.overlays)
