"""LTX-Video, small and random: latents, embeddings and videos are those of diffusers' pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTXConditionPipeline

from mimix_core import tables
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.media.decode import read_rgb
from mimix_core.settings import LoraSettings
from mimix_core.tables import SAMPLES
from mimix_core.training import previews
from mimix_core.training.distributed import DistributedContext
from mimix_core.training.worker_messages import PreviewConfig
from mimix_core.wan import lora_export, ltx_interface, model_registry, text_embeddings, videos_stage
from mimix_core.wan.generation import provenance
from mimix_core.wan.generation.architecture_settings import check_generation_settings
from mimix_core.wan.ltx_backbones import LTX_VIDEO, TEXT_TOKENS, TINY_LTX
from tests.wan.ltx_factory import (
    CPU,
    PROMPT,
    SETTINGS,
    generator,
    own_card,
    some_adapter,
    wanted_latents,
)
from tests.wan.video_inputs import COMPONENTS, inputs

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pipeline(ltx_folder: Path) -> Any:
    pipeline = LTXConditionPipeline.from_pretrained(ltx_folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 96, 3), dtype=np.uint8)


@pytest.mark.parametrize(("count", "latent_frames"), [(1, 1), (9, 2), (17, 3)])
def test_latents_are_the_normalized_mean(
    ltx_folder: Path, pipeline: Any, count: int, latent_frames: int
) -> None:
    vae = ltx_interface.load_vae(ltx_folder / "vae", CPU)
    latents_CTHW = ltx_interface.encode_frames(vae, frames(count))
    assert latents_CTHW.shape == (16, latent_frames, 2, 3)
    video = torch.from_numpy(frames(count)).permute(3, 0, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        mean = pipeline.vae.encode(video).latent_dist.mode()
    statistics = pipeline.vae.latents_mean, pipeline.vae.latents_std
    assert torch.allclose(
        latents_CTHW, pipeline._normalize_latents(mean, *statistics)[0], atol=1e-5
    )


@pytest.mark.parametrize("text", [PROMPT, "", "word " * 400])
def test_embeddings_are_those_of_the_pipeline(ltx_folder: Path, pipeline: Any, text: str) -> None:
    interface = model_registry.load_interface(TINY_LTX)
    [ids] = interface.tokenize(interface.load_tokenizer(ltx_folder / "tokenizer"), [text])
    ids = list(text_embeddings.truncate_tokens(ids, TINY_LTX.text_tokens))
    encoder = interface.load_text_encoder(ltx_folder / "text_encoder", CPU)
    [text_LD] = interface.embed_tokens(encoder, [ids])
    wanted_BLD, mask_BL, _, _ = pipeline.encode_prompt(text, do_classifier_free_guidance=False)
    assert len(text_LD) == int(mask_BL.sum()) <= TEXT_TOKENS
    assert torch.allclose(text_LD, wanted_BLD[0, : len(text_LD)], atol=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_generation_gives_the_latents_of_the_pipeline(
    ltx_folder: Path, pipeline: Any, guidance: float
) -> None:
    latents = generator(ltx_folder, guidance_scale=guidance).denoise(PROMPT, 5)
    wanted = wanted_latents(pipeline, guidance_scale=guidance)
    assert wanted.std() > 0.5
    assert torch.allclose(latents, wanted, atol=1e-4)


def test_bf16_is_near_fp32(ltx_folder: Path) -> None:
    latents = generator(ltx_folder, some_adapter(ltx_folder, 0.5), precision="bf16").denoise(
        PROMPT, 5
    )
    wanted = generator(ltx_folder, some_adapter(ltx_folder, 0.5)).denoise(PROMPT, 5)
    assert latents.dtype == torch.float32
    assert ((latents - wanted).norm() / wanted.norm()).item() < 0.05


def test_guidance_in_a_batch_and_one_frame_are_the_same(ltx_folder: Path, pipeline: Any) -> None:
    batched = generator(ltx_folder, batched_guidance=True).denoise(PROMPT, 5)
    assert torch.allclose(batched, wanted_latents(pipeline), atol=1e-4)
    image = generator(ltx_folder, num_frames=1).denoise(PROMPT, 5)
    assert torch.allclose(image, wanted_latents(pipeline, num_frames=1), atol=1e-4)


def test_every_step_is_reported_and_a_layout_changes_the_start(ltx_folder: Path) -> None:
    loaded = generator(ltx_folder, start="cutouts")
    steps: list[int] = []
    plain = loaded.denoise(PROMPT, 5, steps.append)
    layout = torch.linspace(-1, 1, 16 * 18).reshape(16, 3, 2, 3)
    assert steps == [1, 2, 3, 4]
    assert not torch.allclose(plain, loaded.denoise(PROMPT, 5, layout_CTHW=layout), atol=1e-2)


def test_frames_are_decoded_at_the_published_noise_level(ltx_folder: Path, pipeline: Any) -> None:
    latents = wanted_latents(pipeline)
    decoded = generator(ltx_folder).decode(latents)
    statistics = pipeline.vae.latents_mean, pipeline.vae.latents_std
    noise = torch.randn(latents[0].shape, generator=torch.Generator().manual_seed(0))[None]
    noisy = 0.975 * pipeline._denormalize_latents(latents, *statistics) + 0.025 * noise
    with torch.no_grad():
        video = pipeline.vae.decode(noisy, torch.tensor([0.05]), return_dict=False)[0]
    wanted = pipeline.video_processor.postprocess_video(video, output_type="np")[0]
    assert decoded.shape == (17, 64, 96, 3)
    assert np.abs(decoded / 255 - wanted).max() <= 1 / 255
    with pytest.raises(ValueError, match="non-finite values"):
        generator(ltx_folder).decode(torch.full_like(latents, torch.nan))


def test_the_stage_writes_videos_of_the_adapter(ltx_folder: Path, tmp_path: Path) -> None:
    weights = {part: file_ref(ltx_folder / part) for part in COMPONENTS}
    given = inputs(ltx_folder, tmp_path, some_adapter(ltx_folder), backbone_name=TINY_LTX.name)
    path = given.lora.folder / lora_export.ADAPTER_FILE
    lora_export.write_adapter(path, some_adapter(ltx_folder), own_card(ltx_folder))
    settings = SETTINGS.model_copy(update={"adapter_mode": "unmerged"})
    ref = run_stage(Store(tmp_path / "store"), videos_stage.STAGE, given, settings).ref
    made = {row["prompt_id"]: row for row in tables.read(ref.path, SAMPLES)}
    assert {(row["status"], row["frames"]) for row in made.values()} == {("ok", 17)}
    said = provenance.read_provenance(ref.folder / made["one"]["file"])
    assert (said.backbone, said.shift) == (TINY_LTX.name, 1.0)
    assert said.base_sha256 == weights["transformer"].sha256


def test_previews_show_what_is_generated(ltx_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompts.safetensors"
    cut_off = previews.embed_preview_prompts(
        path,
        [PROMPT, "word " * 300],
        "dark",
        TINY_LTX.name,
        ltx_folder / "tokenizer",
        ltx_folder / "text_encoder",
    )
    assert cut_off.startswith("lora.preview_prompts[1] (")
    config = PreviewConfig(
        backbone=TINY_LTX.name,
        prompts=path,
        vae=ltx_folder / "vae",
        scheduler=ltx_folder / "scheduler",
        shift=1.0,
    )
    transformer = ltx_interface.load_transformer(ltx_folder / "transformer", torch.float32).train()
    settings = LoraSettings(
        preview_interval=1,
        preview_prompts=(PROMPT, "word " * 300),
        preview_width=96,
        preview_height=64,
        preview_num_frames=17,
        preview_num_inference_steps=4,
        preview_guidance_scale=3.0,
    )
    previews.write_previews(
        previews.build_preview_pipeline(transformer, config, CPU),
        config,
        settings,
        tmp_path,
        0,
        context=DistributedContext(
            rank=0, world_size=1, device=CPU, dtype=torch.float32, cpu_group=None
        ),
        stop_requested=lambda: False,
    )
    wanted = generator(ltx_folder).generate(PROMPT, previews.preview_seed(settings, 0))
    provenance.write_video(tmp_path / "wanted.mp4", wanted)
    found = read_rgb(tmp_path / previews.preview_path(0, 0)).astype(int)
    assert np.abs(found - read_rgb(tmp_path / "wanted.mp4")).mean() < 0.3


@pytest.mark.parametrize(
    ("size", "problem"),
    [
        ((81, 832, 480), None),
        ((1, 96, 64), None),
        ((49, 832, 480), None),
        ((5, 96, 64), r"5 frames: .* takes 8k \+ 1"),
        ((9, 112, 64), "112x64: .* takes multiples of 32"),
    ],
)
def test_sizes_are_those_of_its_vae(
    ltx_folder: Path, size: tuple[int, int, int], problem: str | None
) -> None:
    found = LTX_VIDEO.size_error(*size)
    if problem is None:
        assert found is None
        return
    with pytest.raises(ValueError, match=problem):
        raise ValueError(found)
    count, width, height = size
    vae = ltx_interface.load_vae(ltx_folder / "vae", CPU)
    with pytest.raises(ValueError, match=problem.replace(".*", LTX_VIDEO.name)):
        ltx_interface.encode_frames(vae, np.zeros((count, height, width, 3), np.uint8))


@pytest.mark.parametrize(
    ("change", "value"),
    [("solver", "euler"), ("attention", "flash4"), ("compile", "on"), ("step_cache", 0.05)],
)
def test_what_only_wan_has_is_refused(change: str, value: object) -> None:
    check_generation_settings(SETTINGS, TINY_LTX)
    settings = SETTINGS.model_copy(update={change: value})
    check_generation_settings(settings, model_registry.TINY)
    with pytest.raises(BadInput, match=f"{change} {value} is not implemented") as caught:
        check_generation_settings(settings, TINY_LTX)
    assert f"samples.{change}" in caught.value.where
