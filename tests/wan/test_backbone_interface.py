"""Another model is one registry entry; another architecture is an entry and an interface."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mimix_core import tables
from mimix_core.engine.artifacts import FileRef, TableRef, file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.media.decode import read_rgb
from mimix_core.settings import BackboneSettings, EmbeddingSettings, LatentSettings
from mimix_core.tables import EMBEDDINGS, LATENTS
from mimix_core.wan import (
    backbone_stage,
    flow_matching,
    latents_stage,
    lora,
    model_registry,
    tensor_shards,
    text_embeddings,
)
from tests.wan import color_block_backbone
from tests.wan.conftest import CAPTIONS
from tests.wan.test_precompute import caption_table, made

pytestmark = pytest.mark.slow

SMALL_5B = replace(
    model_registry.get_backbone("wan2.2-ti2v-5b"),
    name="small-random-wan2.2",
    hub_id=None,
    transformer=replace(
        model_registry.TINY.transformer,
        config={**model_registry.TINY.transformer.config, "in_channels": 48, "out_channels": 48},
    ),
    vae=replace(
        model_registry.get_backbone("wan2.2-ti2v-5b").vae,
        config={
            **model_registry.get_backbone("wan2.2-ti2v-5b").vae.config,
            "base_dim": 4,
            "decoder_base_dim": 4,
            "num_res_blocks": 1,
            "latents_mean": [0.25] * 48,
            "latents_std": [2.0] * 48,
        },
    ),
    text_encoder=model_registry.TINY.text_encoder,
)


def precompute(
    store: Store, clips: TableRef, captions: TableRef, name: str, parts: dict[str, FileRef]
) -> tuple[torch.Tensor, torch.Tensor]:
    """latents_CTHW and text_LD of the first sample, by the stages themselves."""
    folder = clips.folder.parent / "parts"
    video = latents_stage.LatentInputs(
        unit="one", samples=clips, backbone_name=name, vae=parts["vae"], partial_results=folder
    )
    words = text_embeddings.EmbeddingInputs(
        unit="one",
        captions=captions,
        backbone_name=name,
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        partial_results=folder,
    )
    encoded = run_stage(store, latents_stage.STAGE, video, LatentSettings()).ref
    embedded = run_stage(store, text_embeddings.STAGE, words, EmbeddingSettings()).ref
    return (
        tensor_shards.read_latents(
            tensor_shards.tensor_ref(encoded, tables.read(encoded.path, LATENTS)[0])
        ),
        tensor_shards.read_text(
            tensor_shards.tensor_ref(embedded, tables.read(embedded.path, EMBEDDINGS)[0])
        ),
    )


def test_wan_2_2_with_its_own_vae_is_encoded_trained_and_sampled(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import WanPipeline

    monkeypatch.setitem(model_registry.BACKBONES, SMALL_5B.name, SMALL_5B)
    captions = caption_table(tmp_path / "captions", {"a": CAPTIONS[0]})
    clips = made(tmp_path / "clips", {"a": (5, 96, 64)})
    settings = BackboneSettings.model_construct(name=SMALL_5B.name, path=None, seed=0)
    inputs = backbone_stage.BackboneInputs(unit="all")
    parts = backbone_stage.load_components(
        run_stage(store, backbone_stage.STAGE, inputs, settings).ref, None
    )
    latents_CTHW, text_LD = precompute(store, clips, captions, SMALL_5B.name, parts)
    assert latents_CTHW.shape == (48, 2, 4, 6)

    pipeline = WanPipeline.from_pretrained(parts["vae"].path.parent)
    video = torch.from_numpy(read_rgb(clips.folder / "clips" / "a.mp4")).permute(3, 0, 1, 2)
    with torch.no_grad():
        mean = pipeline.vae.encode(video[None].float() / 127.5 - 1).latent_dist.mean[0]
    assert torch.allclose(latents_CTHW, (mean - 0.25) / 2.0, atol=1e-5)

    transformer = lora.load_transformer(parts["transformer"].path, torch.float32)
    lora.attach_adapter(transformer, 4, 4, SMALL_5B.lora_targets, 0)
    noise = torch.randn(latents_CTHW.shape, generator=torch.Generator().manual_seed(0))
    loss = flow_matching.velocity_losses(
        transformer,
        latents_CTHW[None],
        flow_matching.pad_embeddings([text_LD]),
        torch.tensor([0.5]),
        noise[None],
        torch.float32,
    )
    loss.sum().backward()
    assert all(weight.grad is not None for _, weight in lora.adapter_parameters(transformer))

    made_video = pipeline(
        CAPTIONS[0], width=96, height=64, num_frames=5, num_inference_steps=1, output_type="np"
    ).frames
    assert made_video.shape == (1, 5, 64, 96, 3)


def test_one_timestep_for_all_tokens_is_a_single_timestep(pipeline_folder: Path) -> None:
    """WanPipeline gives Wan2.2-TI2V-5B one a token; without a first frame all are the same."""
    transformer = lora.load_transformer(pipeline_folder / "transformer", torch.float32)
    numbers = torch.Generator().manual_seed(1)
    given = {
        "hidden_states": torch.randn(1, 16, 2, 4, 6, generator=numbers),
        "encoder_hidden_states": torch.randn(1, 512, 32, generator=numbers),
        "return_dict": False,
    }
    tokens = 2 * 2 * 3
    with torch.no_grad():
        single = transformer(timestep=torch.tensor([700.0]), **given)[0]
        each = transformer(timestep=torch.full((1, tokens), 700.0), **given)[0]
    assert torch.allclose(single, each, atol=1e-5)


def test_another_architecture_needs_an_entry_and_an_interface(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = color_block_backbone.ENTRY
    monkeypatch.setitem(model_registry.BACKBONES, entry.name, entry)
    (tmp_path / "vae").mkdir()
    (tmp_path / "vae" / "config.json").write_text('{"side": 4}')
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer"), file_ref(tmp_path / "vae"))
    clips = made(tmp_path / "clips", {"a": (5, 24, 16)})
    captions = caption_table(tmp_path / "captions", {"a": CAPTIONS[0]})
    latents_CTHW, text_LD = precompute(store, clips, captions, entry.name, parts)
    assert latents_CTHW.shape == (3, 3, 4, 6)
    frames = read_rgb(clips.folder / "clips" / "a.mp4")
    assert latents_CTHW[:, 1, 0, 0].numpy() == pytest.approx(
        np.float32(frames[2, :4, :4]).mean(axis=(0, 1)) / 255
    )
    assert text_LD.shape == (len(CAPTIONS[0].encode()) + 1, 1)
