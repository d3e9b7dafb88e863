"""LTX-Video trains by the same loop: its steps are plain PyTorch's on diffusers' own model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import LTXConditionPipeline, LTXVideoTransformer3DModel

from mimix_core.engine.artifacts import digest_file
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.training import sample_schedule
from mimix_core.training.data_loader import noise_levels
from mimix_core.training.worker_messages import TrainingJob, TrainingStopped
from mimix_core.wan import fast, flow_matching, lora, ltx_interface, random_backbone
from mimix_core.wan.lora_export import ADAPTER_FILE
from mimix_core.wan.ltx_backbones import TINY_LTX
from mimix_core.wan.safetensors_io import read_tensors
from tests.training import factories
from tests.training.test_trainer import StopAfter

pytestmark = pytest.mark.slow

SETTINGS = factories.SETTINGS.model_copy(
    update={
        "target_modules": TINY_LTX.lora_targets,
        "epochs": 2,
        "checkpoint_interval": 2,
        "shift": 1.0,
        "learning_rate": 1e-3,
    }
)
IMAGE = (16, 1, 4, 6)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ltx") / "model"
    random_backbone.build_random_backbone(0, folder, TINY_LTX)
    return folder


def make_job(folder: Path, run: Path, settings: LoraSettings = SETTINGS) -> TrainingJob:
    """Nine samples: videos of one size, and an image among them."""
    (run / "out").mkdir(parents=True, exist_ok=True)
    shapes = [IMAGE if number == 4 else factories.WIDE for number in range(9)]
    return TrainingJob(
        settings=settings,
        transformer=folder / "transformer",
        train=factories.write_samples(run.parent / "samples", shapes),
        val=(),
        out=run / "out",
        adapter_metadata=factories.CARD.model_copy(
            update={"base": TINY_LTX.name, "targets": TINY_LTX.lora_targets}
        ),
        checkpoints=run,
        rendezvous=run / "rendezvous",
    )


def plain_velocity(
    model: LTXVideoTransformer3DModel,
    noised_CTHW: torch.Tensor,
    sigma: float,
    text_LD: torch.Tensor,
) -> torch.Tensor:
    """Call diffusers' model as its pipeline does: packed tokens, 256 texts, a mask, positions."""
    _, *shape = noised_CTHW.shape
    ids = LTXConditionPipeline._prepare_video_ids(1, *shape)
    positions = LTXConditionPipeline._scale_video_ids(ids, 32, 8).float()
    positions[:, 0] /= 16
    packed = LTXConditionPipeline._pack_latents(noised_CTHW[None])
    mask = torch.arange(256)[None] < len(text_LD)
    padded = torch.zeros(1, 256, text_LD.shape[1])
    padded[0, : len(text_LD)] = text_LD
    found = model(
        hidden_states=packed,
        encoder_hidden_states=padded,
        timestep=torch.tensor([[1000 * sigma]]),
        encoder_attention_mask=mask,
        video_coords=positions,
        return_dict=False,
    )[0]
    velocity: torch.Tensor = LTXConditionPipeline._unpack_latents(found, *shape)[0]
    return velocity


def test_steps_are_those_of_plain_pytorch_on_diffusers_model(folder: Path, tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(
        update={"epochs": 1, "global_batch_size": 5, "micro_batch_size": 2, "max_grad_norm": 0.05}
    )
    job = make_job(folder, tmp_path / "run", settings)
    factories.train_here(job)
    model = LTXVideoTransformer3DModel.from_pretrained(job.transformer).requires_grad_(False)
    lora.attach_adapter(model, settings.rank, settings.alpha, settings.target_modules, 0)
    adapters = [weight for _, weight in lora.adapter_parameters(model)]
    optimizer = torch.optim.AdamW(adapters, weight_decay=0.0)
    levels = noise_levels(settings)
    for step in range(2):
        items = sample_schedule.plan_global_batch(job.train, step, epochs=1, batch_size=5, seed=0)
        for item in items:
            clean, text = sample_schedule.load_sample(item.sample)
            sigma = levels.sigma_at(item.quantile)
            noise = flow_matching.draw_training_noise(0, 0, item.sample.sample_id, clean.shape)
            velocity = plain_velocity(model, (1 - sigma) * clean + sigma * noise, sigma, text)
            loss = (velocity - (noise - clean)).square().mean()
            (flow_matching.loss_weight(sigma, "gaussian", levels) * loss / len(items)).backward()
        torch.nn.utils.clip_grad_norm_(adapters, 0.05)
        optimizer.param_groups[0]["lr"] = 1e-3 * (step + 1) / 2
        optimizer.step()
        optimizer.zero_grad()
    written, by_hand = read_tensors(job.out / ADAPTER_FILE), dict(lora.adapter_parameters(model))
    assert len(written) == len(by_hand)
    for name, weight in by_hand.items():
        ours = written[f"transformer.{name.replace('.default', '')}"]
        assert torch.allclose(ours, weight, atol=3e-4), name


@pytest.mark.parametrize("shape", [factories.WIDE, IMAGE])
def test_the_loss_is_that_of_diffusers_model_and_only_adapters_have_gradients(
    folder: Path, shape: tuple[int, ...]
) -> None:
    ours = ltx_interface.load_transformer(folder / "transformer", torch.float32)
    lora.attach_adapter(ours, 4, 4, TINY_LTX.lora_targets, 0)
    numbers = torch.Generator().manual_seed(1)
    clean, noise = (torch.randn(shape, generator=numbers) for _ in range(2))
    texts = [torch.randn(length, 32, generator=numbers) for length in (5, 256)]
    sigmas = [0.3, 0.9]
    losses = flow_matching.velocity_losses(
        ours,
        torch.stack([clean, clean]),
        flow_matching.pad_embeddings(texts),
        torch.tensor(sigmas),
        torch.stack([noise, noise]),
        torch.float32,
    )
    model = LTXVideoTransformer3DModel.from_pretrained(folder / "transformer")
    for loss, sigma, text in zip(losses, sigmas, texts, strict=True):
        with torch.no_grad():
            velocity = plain_velocity(model, (1 - sigma) * clean + sigma * noise, sigma, text)
        assert loss.item() == pytest.approx(float((velocity - (noise - clean)).square().mean()))
    losses.sum().backward()
    with_gradient = {name for name, weight in ours.named_parameters() if weight.grad is not None}
    assert with_gradient == {name for name, _ in lora.adapter_parameters(ours)}
    assert all("lora_" in name for name in with_gradient)


def test_a_stopped_run_resumes_as_if_uninterrupted(folder: Path, tmp_path: Path) -> None:
    straight, stopped = (make_job(folder, tmp_path / name) for name in ("straight", "stopped"))
    factories.train_here(straight)
    with pytest.raises(TrainingStopped):
        factories.train_here(stopped, StopAfter(14))
    assert factories.train_here(stopped)[0] > 1
    digests = [digest_file(job.out / ADAPTER_FILE) for job in (straight, stopped)]
    assert digests[0] == digests[1]


def test_a_bf16_base_trains_fp32_adapters_to_the_same_loss(folder: Path, tmp_path: Path) -> None:
    one_epoch = SETTINGS.model_copy(update={"epochs": 1, "global_batch_size": 9})
    losses = []
    for precision in ("fp32", "bf16"):
        settings = one_epoch.model_copy(update={"precision": precision})
        job = make_job(folder, tmp_path / precision, settings)
        factories.train_here(job)
        written = read_tensors(job.out / ADAPTER_FILE)
        assert {weight.dtype for weight in written.values()} == {torch.float32}
        first = json.loads((job.out / "log.jsonl").read_text().splitlines()[0])
        losses.append(first["train_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)


@pytest.mark.parametrize("change", [{"fp8": True}, {"frozen_weights": "int8"}])
def test_what_only_wan_has_is_refused(folder: Path, change: dict[str, object]) -> None:
    model = ltx_interface.load_transformer(folder / "transformer", torch.float32)
    with pytest.raises(BadInput, match="is not implemented for"):
        fast.accelerate_training(model, SETTINGS.model_copy(update=change))
