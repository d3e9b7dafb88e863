"""The loop itself, on a tiny Wan in this process: what a step is, and what can interrupt a run."""

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
from mimix_core.training.data_loader import levels_of
from mimix_core.training.worker_messages import Job, Sample, Stopped
from mimix_core.wan import flow_matching, lora, safetensors_io
from tests.training import made

pytestmark = pytest.mark.slow

SHORT = made.SETTINGS.model_copy(update={"epochs": 2, "checkpoint_every": 2, "ema_decay": 0.5})
"""5 steps."""
ADAPTER = "pytorch_lora_weights.safetensors"
EMA = "pytorch_lora_weights_ema.safetensors"

MakeJob = Callable[..., Job]


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> tuple[Sample, ...]:
    shapes = [made.TALL if number % 3 == 0 else made.WIDE for number in range(9)]
    return made.write_samples(tmp_path_factory.mktemp("samples"), shapes)


@pytest.fixture(scope="module")
def make_job(
    tmp_path_factory: pytest.TempPathFactory, transformer_folder: Path, samples: tuple[Sample, ...]
) -> MakeJob:
    """A job of its own folder; ``folder``: of another job's, to go on with it."""

    def make(folder: Path | None = None, base: LoraSettings = SHORT, **changed) -> Job:
        folder = folder or tmp_path_factory.mktemp("run")
        return Job(
            settings=base.model_copy(update=changed),
            transformer=transformer_folder,
            train=samples,
            val=(),
            out=folder / "out",
            card=made.CARD,
            journal=folder / "journal",
            checkpoints=folder,
            rendezvous=folder / "rendezvous",
        )

    return make


@pytest.fixture(scope="module")
def straight(make_job: MakeJob) -> Job:
    """A run of 5 steps that nothing interrupted."""
    job = make_job()
    assert made.train_here(job) == [1, 2, 3, 4, 5]
    return job


def digests(job: Job) -> dict[str, str]:
    return {path.name: digest_file(path) for path in job.out.iterdir()}


def steps_kept(job: Job) -> list[int]:
    assert job.checkpoints is not None
    return sorted(int(path.name[5:]) for path in job.checkpoints.glob("step-*"))


def assert_close(one: Job, other: Job) -> None:
    weights = [safetensors_io.read(job.out / ADAPTER) for job in (one, other)]
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
    job = make_job(epochs=1, batch=5, clip_norm=0.05, learning_rate=1e-3, micro_batch=2)
    settings = job.settings
    made.train_here(job)
    transformer = lora.load_transformer(job.transformer, torch.float32)
    lora.attach(transformer, settings.rank, settings.alpha, settings.targets, settings.seed)
    adapters = [weight for _, weight in lora.trainable(transformer)]
    optimizer = torch.optim.AdamW(adapters, weight_decay=0.0)
    levels = levels_of(settings)
    for step in range(2):
        slots = sample_schedule.global_batch(job.train, step, epochs=1, batch=5, seed=settings.seed)
        assert len(slots) == (5, 4)[step]
        for slot in slots:
            clean, text = sample_schedule.load(slot.sample)
            sigma = levels.at(slot.quantile)
            loss = flow_matching.losses(
                transformer,
                clean[None],
                flow_matching.pad_text([text]),
                torch.tensor([sigma]),
                flow_matching.training_noise(0, slot.epoch, slot.sample.sample_id, clean.shape)[
                    None
                ],
                torch.float32,
            )
            (flow_matching.weight(sigma, "bell", levels) * loss.sum() / len(slots)).backward()
        torch.nn.utils.clip_grad_norm_(adapters, 0.05)
        optimizer.param_groups[0]["lr"] = 1e-3 * (step + 1) / 2
        optimizer.step()
        optimizer.zero_grad()
    written = safetensors_io.read(job.out / ADAPTER)
    by_hand = dict(lora.trainable(transformer))
    assert len(written) == len(by_hand)
    for name, weight in by_hand.items():
        ours = written[f"transformer.{name.replace('.default', '')}"]
        assert torch.allclose(ours, weight, atol=3e-4), name


@pytest.mark.parametrize("stage", [0, 2, pytest.param(3, marks=pytest.mark.e2e)])
def test_all_zero_stages_train_alike(make_job: MakeJob, straight: Job, stage: int) -> None:
    job = make_job(zero_stage=stage)
    made.train_here(job)
    assert_close(job, straight)


@pytest.mark.parametrize("stage", [1, pytest.param(3, marks=pytest.mark.e2e)])
def test_a_bf16_base_trains_fp32_adapters_and_keeps_its_fp32_parts(
    make_job: MakeJob, straight: Job, stage: int
) -> None:
    job = make_job(zero_stage=stage, precision="bf16", epochs=1)
    made.train_here(job)  # the engine looks at all types once DeepSpeed is through with them
    assert {weight.dtype for weight in safetensors_io.read(job.out / ADAPTER).values()} == {
        torch.float32
    }


def test_an_engine_refuses_norms_that_are_not_fp32(make_job: MakeJob) -> None:
    from mimix_core.training import deepspeed_engine, distributed

    job = make_job(precision="bf16")
    transformer = lora.load_transformer(job.transformer, torch.bfloat16)
    transformer.blocks[0].norm2.bfloat16()
    lora.attach(transformer, 4, 4, ("to_q",), 0)
    with (
        made.alone(),
        pytest.raises(AssertionError, match=r"keeps these in fp32.*blocks.0.norm2"),
    ):
        deepspeed_engine.start(transformer, job.settings, distributed.join(job))


def test_a_stopped_run_goes_on_as_if_it_had_not_been(make_job: MakeJob, straight: Job) -> None:
    job = make_job()
    # 4 micro batches a step: it stops amid the fourth, and drops what it has of it.
    with pytest.raises(Stopped, match="in step 4, 2 of 4 micro batches done"):
        made.train_here(job, StopAfter(14))
    assert steps_kept(job) == [2, 3]
    assert made.train_here(job) == [4, 5]
    assert digests(job) == digests(straight)
    assert {ADAPTER, EMA, "log.jsonl"} <= digests(job).keys()
    assert digests(job)[EMA] != digests(job)[ADAPTER]


@pytest.mark.parametrize(
    ("before", "after"),
    [(1, 0), *(pytest.param(*pair, marks=pytest.mark.e2e) for pair in ((0, 2), (2, 3), (3, 1)))],
)
def test_a_run_goes_on_with_another_zero_stage_and_micro_batch(
    make_job: MakeJob, straight: Job, before: int, after: int
) -> None:
    job = make_job(zero_stage=before)
    with pytest.raises(Stopped):
        made.train_here(job, StopAfter(12))
    other = job.settings.model_copy(update={"zero_stage": after, "micro_batch": 2})
    assert made.train_here(job.model_copy(update={"settings": other})) == [4, 5]
    assert_close(job, straight)


def test_a_broken_checkpoint_is_passed_over(
    make_job: MakeJob, straight: Job, capfd: pytest.CaptureFixture[str]
) -> None:
    job = make_job(keep_checkpoints=3)
    with pytest.raises(Stopped):
        made.train_here(job, StopAfter(12))
    assert steps_kept(job) == [2, 3]
    assert job.checkpoints is not None
    state = job.checkpoints / "step-000003" / "state.safetensors"
    with state.open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"\xff")
    assert made.train_here(job) == [3, 4, 5]
    assert "is broken (state.safetensors is not as it was written)" in capfd.readouterr().err
    assert digests(job) == digests(straight)


def test_a_loss_that_is_no_number_names_the_sample_and_leaves_a_checkpoint(
    make_job: MakeJob, samples: tuple[Sample, ...], tmp_path: Path
) -> None:
    job = make_job()
    with pytest.raises(Stopped):
        made.train_here(job, StopAfter(12))
    bad = sample_schedule.global_batch(samples, 4, epochs=2, batch=4, seed=0)[0].sample
    safetensors_io.write(tmp_path / "latents", {"clip": torch.full(bad.shape, float("nan"))})
    ref = bad.latents.model_copy(update={"file": tmp_path / "latents"})
    train = [s.model_copy(update={"latents": ref}) if s == bad else s for s in samples]
    told = rf"step \d: the loss is no number in 1 of \d samples, first {bad.sample_id}"
    with pytest.raises(StageFailed, match=told):
        made.train_here(job.model_copy(update={"train": tuple(train)}))
    assert steps_kept(job)[-1] >= 3


def test_a_full_disk_ends_the_run_and_leaves_the_checkpoint_before(
    make_job: MakeJob, straight: Job
) -> None:
    job = make_job(checkpoint_every=1)
    with pytest.raises(Stopped):
        made.train_here(job, StopAfter(12))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    # Files of more than 100 kB cannot be written: the log can, a checkpoint cannot.
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(StageFailed, match=r"after step 4 .* cannot be written to .* step 3 is"):
            made.train_here(job)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert steps_kept(job) == [2, 3]
    assert job.checkpoints is not None
    assert not list(job.checkpoints.glob(".step-*"))
    assert made.train_here(job) == [4, 5]
    assert digests(job) == digests(straight)


def test_the_held_out_loss_falls_at_every_noise_level(
    make_job: MakeJob, samples: tuple[Sample, ...]
) -> None:
    job = make_job(base=made.SETTINGS, micro_batch=2, learning_rate=2e-2)
    job = job.model_copy(update={"train": samples[:7], "val": samples[7:]})
    made.train_here(job)
    records = [json.loads(line) for line in (job.out / "log.jsonl").read_text().splitlines()]
    curve: dict[int, list[float]] = {}
    for record in records:
        if "val_loss" in record:
            curve.setdefault(record["step"], []).append(record["val_loss"])
    assert len(curve[0]) == made.SETTINGS.validation_quantiles
    for before, after in zip(curve[0], curve[max(curve)], strict=True):
        assert after < 0.9 * before
