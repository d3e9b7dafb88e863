"""Trainings with offloaded and narrower frozen weights, through DeepSpeed, validation and EMA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mimix_core.diagnostics.preflight import check_before_run
from mimix_core.errors import BadInput
from mimix_core.settings import load_config
from mimix_core.training.worker_messages import TrainingJob, TrainingStopped
from mimix_core.wan import lora_export
from tests.diagnostics.test_preflight import settings as project_settings
from tests.training import factories
from tests.training.test_trainer import StopAfter, digests

SETTINGS = factories.SETTINGS.model_copy(
    update={"epochs": 1, "checkpoint_interval": 1, "validation_interval": 1, "ema_decay": 0.5}
)


@pytest.fixture
def make_job(tmp_path: Path, transformer_folder: Path) -> Callable[..., TrainingJob]:
    def make(name: str, **changed: object) -> TrainingJob:
        folder = tmp_path / name
        samples = factories.write_samples(folder, [factories.WIDE] * 6 + [factories.TALL] * 4)
        return TrainingJob(
            settings=SETTINGS.model_copy(update=changed),
            transformer=transformer_folder,
            train=samples[:8],
            val=samples[8:],
            out=folder / "out",
            adapter_metadata=factories.CARD,
            log_folder=folder / "journal",
            checkpoints=folder,
            rendezvous=tmp_path / "rendezvous",
        )

    return make


def pairs(job: TrainingJob) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    adapter, _ = lora_export.read_adapter(job.out / lora_export.ADAPTER_FILE)
    return dict(adapter.pairs)


@pytest.mark.slow
def test_offload_changes_no_bit_of_a_training(make_job: Callable[..., TrainingJob]) -> None:
    here, away = make_job("here"), make_job("away", offload_blocks=2, activation_budget_gb=0.0)
    for job in (here, away):
        factories.train_here(job)
    assert pairs(here).keys() == pairs(away).keys()
    for name, (down, up) in pairs(here).items():
        assert torch.equal(pairs(away)[name][0], down)
        assert torch.equal(pairs(away)[name][1], up)


@pytest.mark.slow
def test_an_interrupted_run_in_int8_has_the_bytes_of_an_undisturbed_one(
    make_job: Callable[..., TrainingJob],
) -> None:
    changed = {"frozen_weights": "int8", "offload_blocks": 1}
    straight, stopped = (make_job(name, **changed) for name in ("straight", "stopped"))
    factories.train_here(straight)
    with pytest.raises(TrainingStopped):
        factories.train_here(stopped, StopAfter(9))
    factories.train_here(stopped)
    assert digests(stopped) == digests(straight)
    full = make_job("full")
    factories.train_here(full)
    changes = [(pairs(straight)[name][1] - up).abs().max() for name, (_, up) in pairs(full).items()]
    assert max(changes) > 0


@pytest.mark.parametrize(
    ("lora", "said"),
    [
        ("{frozen_weights: nf4}", r"nf4 needs the package bitsandbytes"),
        ("{frozen_weights: int8, zero_stage: 3}", "zero_stage to 0, 1 or 2"),
    ],
)
def test_what_cannot_run_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lora: str, said: str
) -> None:
    monkeypatch.setattr("mimix_core.wan.frozen_weights.find_spec", lambda _: None)
    with pytest.raises(BadInput, match=said):
        check_before_run(load_config(project_settings(tmp_path, f"lora: {lora}\n")), "train")
