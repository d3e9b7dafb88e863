"""Another video transformer of diffusers trains by the same loop: an entry and an interface."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import MochiTransformer3DModel

from mimix_core.errors import BadInput
from mimix_core.training.worker_messages import TrainingJob
from mimix_core.wan import fast, model_registry, safetensors_io
from mimix_core.wan.lora_export import ADAPTER_FILE
from tests.training import factories, mochi_backbone

pytestmark = pytest.mark.slow


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingJob:
    entry = mochi_backbone.ENTRY
    monkeypatch.setitem(model_registry.BACKBONES, entry.name, entry)
    (tmp_path / "out").mkdir()
    return TrainingJob(
        settings=factories.SETTINGS.model_copy(update={"epochs": 3, "target_modules": ()}),
        transformer=mochi_backbone.build(tmp_path / "transformer"),
        train=factories.write_samples(tmp_path / "train", [factories.WIDE] * 6),
        val=factories.write_samples(tmp_path / "val", [factories.WIDE]),
        out=tmp_path / "out",
        rendezvous=tmp_path / "rendezvous",
        adapter_metadata=factories.CARD.model_copy(
            update={"base": entry.name, "targets": entry.lora_targets}
        ),
    )


def test_mochi_trains_and_its_adapter_fits_diffusers_model(job: TrainingJob) -> None:
    factories.train_here(job)
    written = safetensors_io.read_tensors(job.out / ADAPTER_FILE)
    learned = {name for name, value in written.items() if "lora_B" in name and value.any()}
    assert len(learned) * 2 == len(written)
    model = MochiTransformer3DModel.from_pretrained(job.transformer)
    model.load_lora_adapter(job.out, weight_name=ADAPTER_FILE, prefix="transformer")
    text = torch.nn.functional.pad(torch.linspace(-1, 1, 5 * 32).reshape(1, 5, 32), (0, 0, 0, 11))
    given = {
        "hidden_states": torch.randn(
            1, *factories.WIDE, generator=torch.Generator().manual_seed(0)
        ),
        "encoder_hidden_states": text,
        "timestep": torch.tensor([500.0]),
        "encoder_attention_mask": text.ne(0).any(dim=-1),
        "return_dict": False,
    }
    with torch.no_grad():
        adapted = model(**given)[0]
        model.disable_adapters()
        assert not torch.allclose(adapted, model(**given)[0], atol=1e-4)


def test_fp8_is_rejected_for_mochi(job: TrainingJob) -> None:
    model = mochi_backbone.load(job.transformer, torch.float32)
    with pytest.raises(BadInput, match="fp8"):
        fast.accelerate_training(model, job.settings.model_copy(update={"fp8": True}))
