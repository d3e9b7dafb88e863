"""Task ``dataset``: assemble the training manifest."""

from collections.abc import Sequence

from mimix_core.engine.artifacts import TableRef
from mimix_core.stages.dataset.stage import (
    DatasetInputs,
    describe_empty_validation,
    describe_shortfall,
)
from tasks.base import Run, stage_task
from tasks.decisions import load_rejected_clips

dataset_task = stage_task("dataset")


def assemble_dataset(
    run: Run,
    clips: Sequence[TableRef],
    captions: Sequence[TableRef],
    composites: TableRef,
    recaptions: TableRef,
) -> TableRef:
    """Assemble the dataset; one table over all episodes."""
    config = run.workspace.config
    inputs = DatasetInputs(
        unit="all",
        clips=tuple(clips),
        captions=tuple(captions),
        composites=composites,
        recaptions=recaptions,
        vetoes=load_rejected_clips(run.workspace),
        groups=run.workspace.split_groups({episode.id for episode in run.workspace.episodes}),
        frame_rate=config.clips.frame_rate,
    )
    ref = run.run_single(dataset_task, inputs, config.dataset)
    if not run.computes:
        return ref
    ratio = config.composites.ratio if config.dataset.ratio is None else config.dataset.ratio
    notes = run.workspace.store.record(ref).notes
    for problem in (
        describe_shortfall(notes, ratio),
        describe_empty_validation(notes, config.dataset.val_share),
    ):
        if problem:
            run.console.warn(f"dataset: {problem}")
    return ref
