"""The training loop on a tiny Wan in this process: its steps, and interrupted runs."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mimix_core.engine.artifacts import digest_file
from mimix_core.errors import StageFailed
from mimix_core.settings import LoraSettings
from mimix_core.training import sample_schedule
from mimix_core.training.data_loader import noise_levels
from mimix_core.training.worker_messages import TrainingJob, TrainingSample, TrainingStopped
from mimix_core.wan import flow_matching, lora, safetensors_io
from tests.training import factories

pytestmark = pytest.mark.slow

SHORT = factories.SETTINGS.model_copy(
    update={"epochs": 2, "checkpoint_interval": 2, "ema_decay": 0.5}
)
"""5 steps."""
ADAPTER = "pytorch_lora_weights.safetensors"
EMA = "pytorch_lora_weights_ema.safetensors"

MakeJob = Callable[..., TrainingJob]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[TrainingSample, ...]:
    shapes = [factories.TALL if number % 3 == 0 else factories.WIDE for number in range(9)]
    return factories.write_samples(tmp_path_factory.mktemp("samples"), shapes)


@pytest.fixture(scope="module")
def make_job(
    tmp_path_factory: pytest.TempPathFactory,
    transformer_folder: Path,
    samples: tuple[TrainingSample, ...],
) -> MakeJob:
    """A job of its own folder; ``folder``: of another job's, to go on with it."""

    def make(folder: Path | None = None, base: LoraSettings = SHORT, **changed) -> TrainingJob:
        folder = folder or tmp_path_factory.mktemp("run")
        return TrainingJob(
            settings=base.model_copy(update=changed),
            transformer=transformer_folder,
            train=samples,
            val=(),
            out=folder / "out",
            adapter_metadata=factories.CARD,
            log_folder=folder / "journal",
            checkpoints=folder,
            rendezvous=folder / "rendezvous",
        )

    return make


@pytest.fixture(scope="module")
def straight(make_job: MakeJob) -> TrainingJob:
    """A run of 5 steps that nothing interrupted."""
    job = make_job()
    assert factories.train_here(job) == [1, 2, 3, 4, 5]
    return job


def digests(job: TrainingJob) -> dict[str, str]:
    return {path.name: digest_file(path) for path in job.out.iterdir()}


def steps_kept(job: TrainingJob) -> list[int]:
    assert job.checkpoints is not None
    return sorted(int(path.name[5:]) for path in job.checkpoints.glob("step-*"))


def assert_close(one: TrainingJob, other: TrainingJob) -> None:
    weights = [safetensors_io.read_tensors(job.out / ADAPTER) for job in (one, other)]
    assert set(weights[0]) == set(weights[1])
    for name, weight in weights[0].items():
        assert torch.allclose(weight, weights[1][name], atol=2e-3), name


class StopAfter:
    """Asks to stop when asked that many times; the loop asks before each micro batch."""

    def __init__(self, micro_batches: int) -> None:
        self.left = micro_batches

    def __call__(self) -> bool:
        self.left -= 1
        return self.left < 0


def test_steps_are_those_of_plain_pytorch(make_job: MakeJob) -> None:
    """Two steps by hand: no DeepSpeed, no buckets, no micro batches, one sample at a time."""
    job = make_job(
        epochs=1, global_batch_size=5, max_grad_norm=0.05, learning_rate=1e-3, micro_batch_size=2
    )
    settings = job.settings
    factories.train_here(job)
    transformer = lora.load_transformer(job.transformer, torch.float32)
    lora.attach_adapter(
        transformer, settings.rank, settings.alpha, settings.target_modules, settings.seed
    )
    adapters = [weight for _, weight in lora.adapter_parameters(transformer)]
    optimizer = torch.optim.AdamW(adapters, weight_decay=0.0)
    levels = noise_levels(settings)
    for step in range(2):
        items = sample_schedule.plan_global_batch(
            job.train, step, epochs=1, batch_size=5, seed=settings.seed
        )
        assert len(items) == (5, 4)[step]
        for item in items:
            clean, text = sample_schedule.load_sample(item.sample)
            sigma = levels.sigma_at(item.quantile)
            loss = flow_matching.velocity_losses(
                transformer,
                clean[None],
                flow_matching.pad_embeddings([text]),
                torch.tensor([sigma]),
                flow_matching.draw_training_noise(
                    0, item.epoch, item.sample.sample_id, clean.shape
                )[None],
                torch.float32,
            )
            (
                flow_matching.loss_weight(sigma, "gaussian", levels) * loss.sum() / len(items)
            ).backward()
        torch.nn.utils.clip_grad_norm_(adapters, 0.05)
        optimizer.param_groups[0]["lr"] = 1e-3 * (step + 1) / 2
        optimizer.step()
        optimizer.zero_grad()
    written = safetensors_io.read_tensors(job.out / ADAPTER)
    by_hand = dict(lora.adapter_parameters(transformer))
    assert len(written) == len(by_hand)
    for name, weight in by_hand.items():
        ours = written[f"transformer.{name.replace('.default', '')}"]
        assert torch.allclose(ours, weight, atol=3e-4), name


@pytest.mark.parametrize("stage", [0, 2, pytest.param(3, marks=pytest.mark.e2e)])
def test_all_zero_stages_train_alike(make_job: MakeJob, straight: TrainingJob, stage: int) -> None:
    job = make_job(zero_stage=stage)
    factories.train_here(job)
    assert_close(job, straight)


@pytest.mark.parametrize("stage", [1, pytest.param(3, marks=pytest.mark.e2e)])
def test_a_bf16_base_trains_fp32_adapters_and_keeps_its_fp32_modules(
    make_job: MakeJob, straight: TrainingJob, stage: int
) -> None:
    job = make_job(zero_stage=stage, precision="bf16", epochs=1)
    factories.train_here(job)  # the engine looks at all types once DeepSpeed is through with them
    assert {weight.dtype for weight in safetensors_io.read_tensors(job.out / ADAPTER).values()} == {
        torch.float32
    }


def test_an_engine_rejects_norms_that_are_not_fp32(make_job: MakeJob) -> None:
    from mimix_core.training import deepspeed_engine, distributed

    job = make_job(precision="bf16")
    transformer = lora.load_transformer(job.transformer, torch.bfloat16)
    transformer.blocks[0].norm2.bfloat16()
    lora.attach_adapter(transformer, 4, 4, ("to_q",), 0)
    with (
        factories.alone(),
        pytest.raises(AssertionError, match=r"requires fp32 for these parameters.*blocks.0.norm2"),
    ):
        deepspeed_engine.init_engine(transformer, job.settings, distributed.init_distributed(job))


def test_a_stopped_run_resumes_as_if_uninterrupted(
    make_job: MakeJob, straight: TrainingJob
) -> None:
    job = make_job()
    # 4 micro batches a step: it stops amid the fourth, and drops what it has of it.
    with pytest.raises(TrainingStopped, match="in step 4, 2 of 4 micro batches done"):
        factories.train_here(job, StopAfter(14))
    assert steps_kept(job) == [2, 3]
    assert factories.train_here(job) == [4, 5]
    assert digests(job) == digests(straight)
    assert {ADAPTER, EMA, "log.jsonl"} <= digests(job).keys()
    assert digests(job)[EMA] != digests(job)[ADAPTER]


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, 0), *(pytest.param(*pair, marks=pytest.mark.e2e) for pair in ((0, 2), (2, 3), (3, 1)))],
)
def test_a_run_resumes_with_another_zero_stage_and_micro_batch_size(
    make_job: MakeJob, straight: TrainingJob, before: int, after: int
) -> None:
    job = make_job(zero_stage=before)
    with pytest.raises(TrainingStopped):
        factories.train_here(job, StopAfter(12))
    other = job.settings.model_copy(update={"zero_stage": after, "micro_batch_size": 2})
    assert factories.train_here(job.model_copy(update={"settings": other})) == [4, 5]
    assert_close(job, straight)


def test_a_damaged_checkpoint_is_skipped(
    make_job: MakeJob, straight: TrainingJob, capfd: pytest.CaptureFixture[str]
) -> None:
    job = make_job(keep_checkpoints=3)
    with pytest.raises(TrainingStopped):
        factories.train_here(job, StopAfter(12))
    assert steps_kept(job) == [2, 3]
    assert job.checkpoints is not None
    state = job.checkpoints / "step-000003" / "state.safetensors"
    with state.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\xff")
    assert factories.train_here(job) == [3, 4, 5]
    assert "is damaged (state.safetensors does not match its digest)" in capfd.readouterr().err
    assert digests(job) == digests(straight)


def test_the_error_for_a_non_finite_loss_names_the_sample(
    make_job: MakeJob, samples: tuple[TrainingSample, ...], tmp_path: Path
) -> None:
    job = make_job()
    with pytest.raises(TrainingStopped):
        factories.train_here(job, StopAfter(12))
    bad = sample_schedule.plan_global_batch(samples, 4, epochs=2, batch_size=4, seed=0)[0].sample
    safetensors_io.write_tensors(
        tmp_path / "latents", {"clip": torch.full(bad.shape, float("nan"))}
    )
    ref = bad.latents.model_copy(update={"file": tmp_path / "latents"})
    train = [s.model_copy(update={"latents": ref}) if s == bad else s for s in samples]
    message = rf"step \d: non-finite loss \(NaN or Inf\) in 1 of \d samples, first: {bad.sample_id}"
    with pytest.raises(StageFailed, match=message):
        factories.train_here(job.model_copy(update={"train": tuple(train)}))
    assert steps_kept(job)[-1] >= 3


def test_a_full_disk_ends_the_run_and_preserves_earlier_checkpoints(
    make_job: MakeJob, straight: TrainingJob
) -> None:
    job = make_job(checkpoint_interval=1)
    with pytest.raises(TrainingStopped):
        factories.train_here(job, StopAfter(12))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Files of more than 100 kB cannot be written: the log can, a checkpoint cannot.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(
            StageFailed, match=r"after step 4 .* cannot be written to .* checkpoint is after step 3"
        ):
            factories.train_here(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert steps_kept(job) == [2, 3]
    assert job.checkpoints is not None
    assert not list(job.checkpoints.glob(".step-*"))
    assert factories.train_here(job) == [4, 5]
    assert digests(job) == digests(straight)


def test_a_run_stopped_in_its_validation_logs_what_an_uninterrupted_one_does(
    make_job: MakeJob, samples: tuple[TrainingSample, ...]
) -> None:
    """The loop asks before each micro batch (7 in 2 steps) and each pass of a validation (6)."""
    split = {"train": samples[:7], "val": samples[7:]}
    whole, stopped = (
        make_job(epochs=2, validation_interval=2).model_copy(update=split) for _ in range(2)
    )
    factories.train_here(whole)
    with pytest.raises(TrainingStopped, match="in a validation, 2 levels done"):
        factories.train_here(stopped, StopAfter(6 + 8 + 2))
    assert steps_kept(stopped) == [2]
    assert factories.train_here(stopped)[0] == 3
    assert digests(stopped) == digests(whole)
    with pytest.raises(TrainingStopped, match="in a validation, 1 levels done"):
        factories.train_here(stopped.model_copy(update={"checkpoints": None}), StopAfter(1))


def test_a_validation_that_is_killed_costs_no_step(
    make_job: MakeJob, samples: tuple[TrainingSample, ...]
) -> None:
    """Without a request to stop nothing can be saved any more: it has been saved before."""
    job = make_job(epochs=2, validation_interval=2, checkpoint_interval=100)
    job = job.model_copy(update={"train": samples[:7], "val": samples[7:]})
    asked = 0

    def killed() -> bool:
        nonlocal asked
        asked += 1
        if asked == 6 + 8 + 2:  # as above
            raise MemoryError
        return False

    with pytest.raises(MemoryError):
        factories.train_here(job, killed)
    assert steps_kept(job) == [2]


def test_levels_of_a_validation_share_a_forward_pass(
    make_job: MakeJob, samples: tuple[TrainingSample, ...]
) -> None:
    """3 levels in two passes instead of three, with the same losses."""
    losses = []
    for size, passes in ((1, 2), (2, 1)):
        job = make_job(micro_batch_size=size)
        job = job.model_copy(update={"train": samples[:7], "val": samples[7:]})
        with pytest.raises(TrainingStopped, match="in a validation, 2 levels done"):
            factories.train_here(job, StopAfter(passes))
        factories.train_here(job)
        records = [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()]
        losses.append([r["val_loss"] for r in records if "val_loss" in r and r["step"] == 0])
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_the_held_out_loss_falls_at_every_noise_level(
    make_job: MakeJob, samples: tuple[TrainingSample, ...]
) -> None:
    job = make_job(base=factories.SETTINGS, micro_batch_size=2, learning_rate=2e-2)
    job = job.model_copy(update={"train": samples[:7], "val": samples[7:]})
    factories.train_here(job)
    records = [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()]
    curve: dict[int, list[float]] = {}
    for record in records:
        if "val_loss" in record:
            curve.setdefault(record["step"], []).append(record["val_loss"])
    assert len(curve[0]) == factories.SETTINGS.validation_quantiles
    for before, after in zip(curve[0], curve[max(curve)], strict=True):
        assert after < 0.9 * before
