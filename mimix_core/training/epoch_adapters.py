"""Keep adapters of earlier epochs of a run, besides its final one.

While the run is in progress they are in its folder for checkpoints, so that an interrupted run
still has those of the epochs before. At the end they are copied into the result::

    epochs/epoch-0002/pytorch_lora_weights.safetensors        a folder that diffusers can load
    epochs/epoch-0002/pytorch_lora_weights_ema.safetensors    with lora.ema_decay
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from mimix_core.engine.atomic_io import fsync_path
from mimix_core.errors import BadInput, StageFailed
from mimix_core.training.checkpoint import EPOCH_FOLDER
from mimix_core.training.ema import EmaWeights
from mimix_core.training.worker_messages import TrainingJob
from mimix_core.wan import lora_export


def epoch_adapter_path(epoch: int, *, ema: bool = False) -> str:
    """Return the path of an epoch's adapter, relative to the folder of the result."""
    name = lora_export.EMA_ADAPTER_FILE if ema else lora_export.ADAPTER_FILE
    return f"{EPOCH_FOLDER}/epoch-{epoch:04d}/{name}"


def write_adapters(
    job: TrainingJob,
    folder: Path,
    adapters: Mapping[str, torch.Tensor],
    ema_weights: EmaWeights | None,
    epoch: int | None = None,
) -> None:
    """Write the adapter and, if there is one, its moving average into ``folder``.

    ``epoch``: the number of the epoch after which they are saved; None for the final ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    versions = [(lora_export.ADAPTER_FILE, "trained", adapters)]
    if ema_weights is not None:
        versions.append((lora_export.EMA_ADAPTER_FILE, "ema", ema_weights.weights))
    for name, kind, weights in versions:
        lora_export.write_adapter(
            folder / name,
            lora_export.build_adapter(weights, job.settings.alpha),
            job.adapter_metadata.model_copy(update={"weights": kind, "epoch": epoch}),
        )
        fsync_path(folder / name)


def keep_epoch_adapters(
    job: TrainingJob,
    epoch: int,
    adapters: Mapping[str, torch.Tensor],
    ema_weights: EmaWeights | None,
) -> None:
    """Write an epoch's adapters where an interrupted run finds them again.

    Raises StageFailed when they cannot be written; checkpoints are not affected.
    """
    folder = (_folder(job) / epoch_adapter_path(epoch)).parent
    try:
        write_adapters(job, folder, adapters, ema_weights, epoch)
    except OSError as error:
        raise StageFailed(
            f"the adapter after epoch {epoch} cannot be written to {folder}: {error}. Free disk "
            "space and start again: training resumes from its latest checkpoint"
        ) from error


def check_epoch_adapters(job: TrainingJob, epochs: Iterable[int]) -> None:
    """Raise StageFailed unless an interrupted run still has the adapters of these epochs."""
    for epoch in epochs:
        for ema in (False, True) if job.settings.ema_decay is not None else (False,):
            path = _folder(job) / epoch_adapter_path(epoch, ema=ema)
            try:
                lora_export.read_adapter(path)
            except BadInput as error:
                raise StageFailed(
                    f"the adapter after epoch {epoch} of the interrupted run cannot be used: "
                    f"{error.what} ({path}). Remove the checkpoints beside it to start again"
                ) from error


def collect_epoch_adapters(job: TrainingJob, epochs: Iterable[int]) -> None:
    """Copy the adapters of these epochs into the result."""
    for epoch in epochs:
        name = Path(epoch_adapter_path(epoch)).parent
        if _folder(job) != job.out:
            shutil.copytree(_folder(job) / name, job.out / name)


def _folder(job: TrainingJob) -> Path:
    return job.out if job.checkpoints is None else job.checkpoints
