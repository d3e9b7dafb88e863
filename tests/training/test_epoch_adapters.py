"""Adapters of earlier epochs are kept, however the run was interrupted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors import safe_open

from mimix_core.engine.artifacts import digest_file
from mimix_core.errors import StageFailed
from mimix_core.training import checkpoint
from mimix_core.training.epoch_adapters import epoch_adapter_path
from mimix_core.training.epoch_summary import summarize_epochs
from mimix_core.training.worker_messages import TrainingJob, TrainingSample, TrainingStopped
from mimix_core.wan import lora_export
from tests.training import factories
from tests.training.test_trainer import StopAfter

pytestmark = pytest.mark.slow

SETTINGS = factories.SETTINGS.model_copy(
    update={
        "epochs": 3,
        "checkpoint_interval": 2,
        "ema_decay": 0.5,
        "schedule": "cosine",
        "epoch_adapter_interval": 1,
        "validation_interval": 100,
        "validation_quantiles": 1,
    }
)
"""With 7 samples 6 steps; the first two epochs end in steps 2 and 4."""

MakeJob = Callable[..., TrainingJob]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSample, ...]:
    return factories.write_samples(tmp_path_factory.mktemp("samples"), [factories.WIDE] * 8)


@pytest.fixture(scope="module")
def make_job(
    tmp_path_factory: pytest.TempPathFactory,
    transformer_folder: Path,
    samples: tuple[TrainingSample, ...],
) -> MakeJob:
    def make(**changed) -> TrainingJob:
        folder = tmp_path_factory.mktemp("run")
        return TrainingJob(
            settings=SETTINGS.model_copy(update=changed),
            transformer=transformer_folder,
            train=samples[:7],
            val=samples[7:],
            out=folder / "out",
            adapter_metadata=factories.CARD,
            log_folder=folder / "journal",
            checkpoints=folder,
            rendezvous=folder / "rendezvous",
        )

    return make


@pytest.fixture(scope="module")
def straight(make_job: MakeJob) -> TrainingJob:
    job = make_job()
    factories.train_here(job)
    return job


def digests(job: TrainingJob) -> dict[str, str]:
    return {
        str(path.relative_to(job.out)): digest_file(path)
        for path in job.out.rglob("*")
        if path.is_file()
    }


def log(job: TrainingJob) -> list[dict]:
    return [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()]


def test_each_epoch_but_the_last_leaves_its_adapter_and_moving_average(
    straight: TrainingJob,
) -> None:
    kept = {epoch_adapter_path(epoch, ema=ema) for epoch in (1, 2) for ema in (False, True)}
    assert digests(straight).keys() == kept | {
        lora_export.ADAPTER_FILE,
        lora_export.EMA_ADAPTER_FILE,
        "log.jsonl",
    }
    assert len(set(digests(straight).values())) == len(digests(straight)), "all differ"
    for name in kept:
        _, metadata = lora_export.read_adapter(straight.out / name)
        assert metadata.epoch == (1 if "0001" in name else 2)
        assert metadata.weights == ("ema" if "ema" in name else "trained")
    final = straight.out / lora_export.ADAPTER_FILE
    assert lora_export.read_metadata(final)[0].epoch is None


def test_the_log_tells_the_losses_of_the_kept_epochs(straight: TrainingJob) -> None:
    losses = {r["step"]: r["train_loss"] for r in log(straight) if "train_loss" in r}
    held_out = {r["step"]: r["held_out_loss"] for r in log(straight) if "held_out_loss" in r}
    assert set(held_out) == {0, 2, 4, 6}, "also where the interval has none"
    first, second = summarize_epochs(straight.out)
    assert (first.epoch, first.step, second.epoch, second.step) == (1, 2, 2, 4)
    assert first.train_loss == pytest.approx((losses[1] + losses[2]) / 2)
    assert second.train_loss == pytest.approx((losses[3] + losses[4]) / 2)
    assert (first.held_out_loss, second.held_out_loss) == (held_out[2], held_out[4])


@pytest.mark.parametrize("micro_batches", [6, 9, 13])
def test_an_interrupted_run_has_the_same_adapters_rates_and_log(
    make_job: MakeJob, straight: TrainingJob, micro_batches: int
) -> None:
    """It asks before each micro batch (4 a step) and each pass of a validation (1)."""
    job = make_job()
    with pytest.raises(TrainingStopped):
        factories.train_here(job, StopAfter(micro_batches))
    factories.train_here(job)
    assert digests(job) == digests(straight)
    rates = [record["lr"] for record in log(job) if "lr" in record]
    assert len(rates) == 6
    assert rates == pytest.approx([0.005, 0.01, 0.01, 0.00853553, 0.005, 0.00146447], rel=1e-5)
    assert job.checkpoints is not None
    checkpoint.delete_checkpoints(job.checkpoints)
    assert not (job.checkpoints / "epochs").exists()


def test_a_run_without_kept_epochs_has_the_bytes_from_before(
    make_job: MakeJob, straight: TrainingJob
) -> None:
    job = make_job(epoch_adapter_interval=None)
    factories.train_here(job)
    for name in (lora_export.ADAPTER_FILE, lora_export.EMA_ADAPTER_FILE):
        assert digests(job)[name] == digests(straight)[name]
    with safe_open(job.out / lora_export.ADAPTER_FILE, framework="pt") as file:
        assert '"epoch"' not in file.metadata()[lora_export.METADATA_KEY]
    kept = [r for r in log(straight) if "adapter" not in r and r["step"] not in (2, 4)]
    assert [r for r in log(job) if r["step"] not in (2, 4)] == kept


def test_a_kept_adapter_that_is_gone_or_damaged_is_told_before_the_first_step(
    make_job: MakeJob,
) -> None:
    job = make_job()
    with pytest.raises(TrainingStopped):
        factories.train_here(job, StopAfter(13))
    assert job.checkpoints is not None
    path = job.checkpoints / epoch_adapter_path(1)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StageFailed, match=r"adapter after epoch 1 .* cannot be used"):
        factories.train_here(job)
    path.unlink()
    with pytest.raises(StageFailed, match=r"adapter after epoch 1 .* Remove the checkpoints"):
        factories.train_here(job)
