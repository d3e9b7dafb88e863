"""Trainings of a DoRA: magnitudes are trained, resumed and started from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError

from mimix_core.engine.cache_key import canonical_json
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.training.initial_adapter import check_initial_adapter
from mimix_core.training.worker_messages import TrainingJob, TrainingStopped
from mimix_core.wan import lora_export, safetensors_io
from mimix_core.wan.lora_formats import Adapter
from tests.training import factories
from tests.training.test_trainer import StopAfter, digests

SETTINGS = factories.SETTINGS.model_copy(
    update={"epochs": 1, "checkpoint_interval": 1, "ema_decay": 0.5, "use_dora": True}
)


@pytest.fixture
def make_job(tmp_path: Path, transformer_folder: Path) -> Callable[..., TrainingJob]:
    def make(name: str, initial: Path | None = None, **changed: object) -> TrainingJob:
        folder = tmp_path / name
        return TrainingJob(
            settings=SETTINGS.model_copy(update=changed),
            transformer=transformer_folder,
            initial_adapter=initial,
            train=factories.write_samples(folder, [factories.WIDE] * 8),
            val=(),
            out=folder / "out",
            adapter_metadata=factories.CARD,
            log_folder=folder / "journal",
            checkpoints=folder,
            rendezvous=tmp_path / "rendezvous",
        )

    return make


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [1, pytest.param(0, marks=pytest.mark.e2e)])
def test_an_interrupted_run_has_the_bytes_of_an_undisturbed_one(
    make_job: Callable[..., TrainingJob], transformer_folder: Path, zero_stage: int
) -> None:
    straight, stopped = (make_job(name, zero_stage=zero_stage) for name in ("straight", "stopped"))
    factories.train_here(straight)
    with pytest.raises(TrainingStopped):
        factories.train_here(stopped, StopAfter(6))
    factories.train_here(stopped)
    assert digests(stopped) == digests(straight)
    found, _ = lora_export.read_adapter(straight.out / lora_export.ADAPTER_FILE)
    averaged, _ = lora_export.read_adapter(straight.out / lora_export.EMA_ADAPTER_FILE)
    [weights] = transformer_folder.glob("*.safetensors")
    frozen = safetensors_io.read_tensors(weights)
    for layer, magnitude in found.magnitudes.items():
        moved = (magnitude - torch.linalg.norm(frozen[f"{layer}.weight"], dim=1)).abs()
        assert 0 < moved.max() < 0.1
        assert not torch.equal(averaged.magnitudes[layer], magnitude)
    # Starting from it, with a learning rate of almost nothing, ends at it.
    still = make_job("still", straight.out / lora_export.ADAPTER_FILE, learning_rate=1e-12)
    factories.train_here(still)
    again, _ = lora_export.read_adapter(still.out / lora_export.ADAPTER_FILE)
    for layer, magnitude in found.magnitudes.items():
        assert torch.allclose(again.magnitudes[layer], magnitude, atol=1e-9)


@pytest.mark.parametrize(
    ("magnitudes", "use_dora", "message"),
    [
        ({}, True, "is a LoRA, which lora.use_dora does not say.*Set lora.use_dora to false"),
        ({"proj_out": torch.ones(4)}, False, "is a DoRA, .*Set lora.use_dora to true"),
        ({"proj_out": torch.ones(3)}, True, r"does not fit the backbone: proj_out is \(4, 6\)"),
        ({"proj_out": torch.full((4,), float("nan"))}, True, "non-finite values"),
    ],
)
def test_only_the_same_kind_can_be_started_from(
    tmp_path: Path, magnitudes: dict[str, torch.Tensor], use_dora: bool, message: str
) -> None:
    pairs = {"proj_out": (torch.ones(8, 6), torch.ones(4, 8))}
    path = tmp_path / "a.safetensors"
    lora_export.write_adapter(path, Adapter(pairs, 8.0, magnitudes), factories.CARD)
    used = SETTINGS.model_copy(update={"use_dora": use_dora})
    with pytest.raises(BadInput, match=message):
        check_initial_adapter(path, used, ["proj_out"], {"proj_out.weight": (4, 6)})


@pytest.mark.parametrize(
    ("more", "message"),
    [({"fp8": True}, "set fp8 to false"), ({"zero_stage": 3}, "set zero_stage to 0, 1 or 2")],
)
def test_norms_need_whole_frozen_weights(more: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        LoraSettings.model_validate({"use_dora": True, **more})
    assert "use_dora" not in canonical_json(LoraSettings())
