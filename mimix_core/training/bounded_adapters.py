"""Save the last adapter within the bound on forgetting, besides the checkpoints of its run."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from mimix_core.errors import BadInput, StageFailed
from mimix_core.training import epoch_adapters
from mimix_core.training.checkpoint import WITHIN_BOUND_FOLDER
from mimix_core.training.ema import EmaWeights
from mimix_core.training.forgetting import LossesByStep, last_step_within, measure_forgetting
from mimix_core.training.worker_messages import TrainingJob
from mimix_core.wan import lora_export


def save_within_bound(
    job: TrainingJob,
    step: int,
    adapters: Mapping[str, torch.Tensor],
    ema_weights: EmaWeights | None,
    losses: LossesByStep,
) -> None:
    """Write the adapters after ``step``, where an interrupted run finds them again.

    As many as checkpoints remain, since a run can resume from any of these. Raises StageFailed when
    they cannot be written; checkpoints are not affected.
    """
    folder = _folder(job, step)
    try:
        epoch_adapters.write_adapters(
            with_forgetting(job, step, losses, step), folder, adapters, ema_weights
        )
        for old in sorted(folder.parent.iterdir())[: -job.settings.keep_checkpoints - 1]:
            shutil.rmtree(old)
    except OSError as error:
        raise StageFailed(
            f"the adapter after step {step} cannot be written to {folder}: {error}. Free disk "
            "space and start again: training resumes from its latest checkpoint"
        ) from error


def check_saved_adapters(job: TrainingJob, losses: LossesByStep, start_step: int) -> None:
    """Raise StageFailed unless a run that resumes has the last adapters within the bound.

    ``losses``: of the first ``start_step`` steps; the adapters of that step itself are those that
    the run resumes from.
    """
    bound = job.settings.max_forgetting
    if bound is None or not losses:
        return
    step = last_step_within(losses, bound)
    path = _folder(job, step) / lora_export.ADAPTER_FILE
    if step in (0, start_step):
        return
    try:
        lora_export.read_adapter(path)
    except BadInput as error:
        raise StageFailed(
            f"the adapter after step {step}, the last one within lora.max_forgetting, cannot be "
            f"used: {error.what} ({path}). Remove the checkpoints beside it to start again"
        ) from error


def restore_within_bound(job: TrainingJob, step: int) -> None:
    """Copy the adapters of ``step``, which ``save_within_bound`` wrote, into the result."""
    for path in _folder(job, step).iterdir():
        shutil.copyfile(path, job.out / path.name)


def with_forgetting(
    job: TrainingJob, step: int, losses: LossesByStep, earlier_step: int | None = None
) -> TrainingJob:
    """Return the job with the forgetting after ``step`` in the adapter's metadata.

    ``earlier_step``: the step itself if it is not the last one; it is named in the metadata.
    """
    forgetting = {name: round(x, 6) for name, x in measure_forgetting(losses, step).items()}
    update = {"forgetting": forgetting, "step": earlier_step}
    return job.model_copy(
        update={"adapter_metadata": job.adapter_metadata.model_copy(update=update)}
    )


def _folder(job: TrainingJob, step: int) -> Path:
    # Without a folder for checkpoints beside the result, not in it.
    root = job.out.with_name(f".{job.out.name}") if job.checkpoints is None else job.checkpoints
    return root / WITHIN_BOUND_FOLDER / f"step-{step:06d}"
