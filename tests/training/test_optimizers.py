"""Optimizers by library: they train, resume with the same bytes, and are checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import util
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from mimix_core.diagnostics.preflight import check_before_run
from mimix_core.engine.artifacts import digest_file
from mimix_core.engine.cache_key import canonical_json
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings, load_config
from mimix_core.training import checkpoint, optimizers, stage
from mimix_core.training.launcher import run_job
from mimix_core.training.worker_messages import TrainingJob, TrainingStopped
from mimix_core.wan import safetensors_io
from tests.diagnostics.test_preflight import settings as project_settings
from tests.training import factories
from tests.training.test_trainer import StopAfter, assert_close, digests

PACKAGES = {"adamw8bit": "bitsandbytes", "prodigy": "prodigyopt"}
RATES = {"adamw": 1e-2, "adamw8bit": 1e-2, "prodigy": 1.0}
# 8-bit moments begin at 4,096 values of a matrix: rank 64 of layers 64 wide.
RANK = 64


def choice(optimizer: str) -> dict[str, object]:
    if optimizer in PACKAGES:
        pytest.importorskip(PACKAGES[optimizer], reason="installed with an extra of MiMix")
    return {"optimizer": optimizer, "learning_rate": RATES[optimizer], "zero_stage": 0}


@pytest.fixture
def make_job(tmp_path: Path, transformer_folder: Path) -> Callable[..., TrainingJob]:
    def make(name: str, **changed: object) -> TrainingJob:
        folder = tmp_path / name
        used = factories.SETTINGS.model_copy(
            update={"epochs": 3, "rank": RANK, "alpha": RANK, "checkpoint_interval": 2, **changed}
        )
        return TrainingJob(
            settings=used,
            transformer=transformer_folder,
            train=factories.write_samples(folder, [factories.WIDE] * 8),
            val=(),
            out=folder / "out",
            adapter_metadata=factories.CARD.model_copy(update={"rank": RANK, "alpha": RANK}),
            log_folder=folder / "journal",
            checkpoints=folder,
            rendezvous=tmp_path / "rendezvous",
        )

    return make


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", PACKAGES)
def test_an_interrupted_run_has_the_bytes_of_an_undisturbed_one(
    make_job: Callable[..., TrainingJob], optimizer: str
) -> None:
    changed = choice(optimizer)
    straight, stopped = make_job("straight", **changed), make_job("stopped", **changed)
    factories.train_here(straight)
    with pytest.raises(TrainingStopped):
        factories.train_here(stopped, StopAfter(14))
    assert stopped.checkpoints is not None
    latest = checkpoint.latest_checkpoint(stopped.checkpoints, pytest.fail)
    assert latest is not None
    assert latest.step == 3
    kept = latest.load_tensors()
    if optimizer == "adamw8bit":
        assert {v.dtype for k, v in kept.items() if k.startswith("state/state1/")} >= {torch.uint8}
    else:
        assert kept["group/d_numerator"] > 0, "what its estimate grows from"
        assert kept["group/k"] == 3
    factories.train_here(stopped)
    assert digests(stopped) == digests(straight)
    losses = [
        record["train_loss"]
        for record in map(json.loads, (straight.out / "log.jsonl").read_text().splitlines())
    ]
    assert len(losses) == 6


@pytest.mark.slow
def test_eight_bit_moments_train_nearly_as_those_of_32_bits(
    make_job: Callable[..., TrainingJob],
) -> None:
    small = {"learning_rate": 1e-3, "epochs": 2}
    exact = make_job("exact", **choice("adamw") | small)
    quantized = make_job("quantized", **choice("adamw8bit") | small)
    for job in (exact, quantized):
        factories.train_here(job)
    weights = [
        safetensors_io.read_tensors(job.out / "pytorch_lora_weights.safetensors")
        for job in (exact, quantized)
    ]
    # Both move every weight by about 4e-3; a quantized moment differs by up to a few percent.
    off = [(a - weights[1][name]).abs().mean() for name, a in weights[0].items()]
    assert max(off) < 1e-3
    assert digest_file(exact.out / "pytorch_lora_weights.safetensors") != digest_file(
        quantized.out / "pytorch_lora_weights.safetensors"
    )


@pytest.mark.e2e
@pytest.mark.parametrize("optimizer", PACKAGES)
def test_two_processes_train_as_one_does(
    make_job: Callable[..., TrainingJob], tmp_path: Path, optimizer: str
) -> None:
    one, two = (make_job(name, **choice(optimizer)) for name in ("one", "two"))
    factories.train_here(one)
    shared = two.settings.model_copy(update={"num_processes": 2})
    two.out.mkdir()
    run_job(two.model_copy(update={"settings": shared}), tmp_path / "log", lambda *_: None)
    assert_close(one, two)


def test_the_default_is_not_in_the_key_and_others_are() -> None:
    assert "optimizer" not in canonical_json(LoraSettings())
    assert canonical_json(LoraSettings(optimizer="adamw8bit", zero_stage=0))["optimizer"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"optimizer": "adamw8bit"}, "set zero_stage to 0, not 1"),
        ({"optimizer": "prodigy", "zero_stage": 2, "learning_rate": 1}, "zero_stage to 0, not 2"),
        ({"optimizer": "prodigy", "zero_stage": 0}, "set it to 1, not 0.0001"),
        ({"optimizer": "sgd"}, "'adamw', 'adamw8bit' or 'prodigy'"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(more: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LoraSettings.model_validate(more)


def test_a_package_that_is_not_installed_is_named_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, transformer_folder: Path
) -> None:
    found = util.find_spec
    monkeypatch.setattr(
        optimizers, "find_spec", lambda name: None if name in PACKAGES.values() else found(name)
    )
    config = load_config(
        project_settings(tmp_path, "lora: {optimizer: adamw8bit, zero_stage: 0}\n")
    )
    with pytest.raises(BadInput, match=r"needs the package bitsandbytes.*mimix\[adamw8bit\]"):
        check_before_run(config, "train")
    inputs = factories.stage_inputs(tmp_path / "inputs", transformer_folder)
    with pytest.raises(BadInput, match="needs the package prodigyopt"):
        stage.run(
            inputs,
            LoraSettings(optimizer="prodigy", zero_stage=0, learning_rate=1),
            tmp_path / "out",
        )
