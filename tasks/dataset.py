"""The training manifest."""

from collections.abc import Sequence

from mimix_core.dataset import DatasetInputs
from mimix_core.refs import TableRef
from tasks.base import Run, stage_task

dataset_task = stage_task("dataset")


def dataset(
    run: Run,
    clips: Sequence[TableRef],
    captions: Sequence[TableRef],
    composites: TableRef,
    recaptions: TableRef,
) -> TableRef:
    """One table over all episodes."""
    config = run.workspace.config
    inputs = DatasetInputs(
        unit="all",
        clips=tuple(clips),
        captions=tuple(captions),
        composites=composites,
        recaptions=recaptions,
    )
    return run.one(dataset_task, inputs, config.dataset)
