"""Generation: optimizations preserve WanPipeline's video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.errors import BadInput
from mimix_core.settings import SampleSettings
from mimix_core.wan import lora, model_registry
from mimix_core.wan.generation import adapter_merging, device_plan, sampling, video_generator
from mimix_core.wan.generation.component_folders import ComponentFolders
from mimix_core.wan.generation.device_plan import DevicePlan, MemoryEstimate, plan_device
from mimix_core.wan.lora_formats import Adapter
from mimix_core.wan.vae import load_vae
from tests.wan.test_lora import adapted, answer, trained
from tests.wan.video_inputs import COMPONENTS, PROMPTS, SETTINGS, adapter

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
SEED = 5
PROMPT = PROMPTS[0].render()


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def weights(pipeline_folder: Path) -> Adapter:
    return adapter(pipeline_folder)


def parts(folder: Path) -> ComponentFolders:
    folders = {name: folder / name for name in COMPONENTS}
    return ComponentFolders(backbone=model_registry.TINY, **folders)


def made(folder: Path, weights: Adapter, **changes: Any) -> video_generator.VideoGenerator:
    settings = SETTINGS.model_copy(update=changes)
    return video_generator.load_generator(
        parts(folder), weights, "adapter", [PROMPT], settings, CPU
    )


def pictures(generator: video_generator.VideoGenerator) -> np.ndarray:
    return generator.generate(PROMPT, SEED).astype(np.int16)


@pytest.fixture(scope="module")
def plain(pipeline_folder: Path, weights: Adapter) -> np.ndarray:
    torch.set_num_threads(1)
    return pictures(made(pipeline_folder, weights))


def test_a_video_is_that_of_wanpipeline_with_the_adapter_loaded(
    pipeline_folder: Path, plain: np.ndarray
) -> None:
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(pipeline_folder)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.transformer = adapted(pipeline_folder)
    trained(pipeline.transformer)
    video = pipeline(
        prompt=PROMPT,
        negative_prompt=SETTINGS.negative_prompt,
        generator=torch.Generator().manual_seed(SEED),
        width=32,
        height=32,
        num_frames=5,
        num_inference_steps=2,
        guidance_scale=5.0,
        output_type="np",
    ).frames[0]
    assert plain.std() > 20
    assert np.abs(plain - (video * 255).round()).max() <= 1


@pytest.mark.parametrize("changes", [{"batched_guidance": True}, {"adapter_mode": "unmerged"}])
def test_execution_settings_do_not_change_the_video(
    pipeline_folder: Path, weights: Adapter, plain: np.ndarray, changes: dict[str, Any]
) -> None:
    generator = made(pipeline_folder, weights, **changes)
    assert np.abs(pictures(generator) - plain).max() <= 1


def test_every_guidance_setting_matches_wanpipeline(
    pipeline_folder: Path, weights: Adapter, plain: np.ndarray
) -> None:
    unguided = [
        pictures(made(pipeline_folder, weights, guidance_scale=1.0, batched_guidance=batch))
        for batch in (False, True)
    ]
    assert np.array_equal(*unguided)
    assert np.abs(unguided[0] - plain).max() > 20
    other = pictures(made(pipeline_folder, weights, negative_prompt=""))
    assert np.abs(other - plain).max() > 1


def test_steps_are_reported_as_they_complete(pipeline_folder: Path, weights: Adapter) -> None:
    reported: list[int] = []
    made(pipeline_folder, weights).generate(PROMPT, SEED, reported.append)
    assert reported == [1, 2]


def test_tiles_decode_the_same_frames_except_for_attention(pipeline_folder: Path) -> None:
    """Without the one layer that sees the whole frame, tiles differ near their borders only."""
    vae = load_vae(pipeline_folder / "vae", CPU)
    for layer in vae.decoder.mid_block.attentions:
        torch.nn.init.zeros_(layer.proj.weight)
    # Smooth in space as latents are; 320 x 272 pixels are two tiles by two.
    coarse = torch.randn(1, 16, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    latents = torch.nn.functional.interpolate(coarse, (1, 34, 40), mode="trilinear")
    whole = sampling.decode_latents(vae, latents).astype(np.int16)
    vae.enable_tiling()
    tiled = sampling.decode_latents(vae, latents).astype(np.int16)
    assert whole.shape == tiled.shape == (1, 272, 320, 3)
    off = np.abs(tiled - whole)
    assert whole.std() > 20
    assert off.mean() < 2
    assert off[:, :128, :128].max() <= 1
    assert off.max() > 1


def test_non_finite_frames_are_rejected(pipeline_folder: Path) -> None:
    vae = load_vae(pipeline_folder / "vae", CPU)
    with pytest.raises(ValueError, match="non-finite values"):
        sampling.decode_latents(vae, torch.full((1, 16, 1, 4, 4), torch.nan))


def test_streamed_blocks_compute_the_same(pipeline_folder: Path) -> None:
    def loaded() -> Any:
        transformer = lora.load_transformer(pipeline_folder / "transformer", torch.float32).eval()
        video_generator.accelerate_inference(transformer, SETTINGS, CPU, streamed=False)
        return transformer

    streamed = loaded()
    video_generator.stream_blocks(streamed, CPU)
    assert torch.equal(answer(streamed), answer(loaded()))
    with pytest.raises(BadInput, match=r"samples\.compile"):
        settings = SETTINGS.model_copy(update={"compile": "on"})
        video_generator.accelerate_inference(loaded(), settings, CPU, streamed=True)


def test_an_adapter_is_merged_only_where_that_is_as_exact(
    pipeline_folder: Path, tmp_path: Path, weights: Adapter
) -> None:
    wide = pipeline_folder / "transformer"
    narrow = tmp_path / "transformer"
    lora.load_transformer(wide, torch.bfloat16).save_pretrained(narrow)
    assert adapter_merging.select_adapter_mode(wide, weights, torch.bfloat16) == "merged"
    assert adapter_merging.select_adapter_mode(narrow, weights, torch.bfloat16) == "unmerged"
    assert adapter_merging.select_adapter_mode(narrow, weights, torch.float32) == "merged"

    # An adapter far weaker than bf16's step at the weights: how much of it arrives.
    weak = Adapter({n: (a, b * 0.0005) for n, (a, b) in weights.pairs.items()}, weights.alpha)
    arrived = {}
    for name, folder in (("wide", wide), ("narrow", narrow)):
        stored = adapter_merging.StoredWeights(folder)
        transformer = lora.load_transformer(folder, torch.bfloat16)
        before = {layer: module_weight(transformer, layer) for layer in weak.pairs}
        adapter_merging.merge_adapter(transformer, stored, weak)
        shares = []
        for layer, (down, up) in weak.pairs.items():
            asked = weak.alpha / weak.rank * (up @ down)
            got = module_weight(transformer, layer) - before[layer]
            shares.append((got * asked).sum() / asked.square().sum())
        arrived[name] = torch.stack(shares).mean().item()
    assert arrived["wide"] == pytest.approx(1, abs=0.2)
    assert arrived["narrow"] < 0.5


def module_weight(transformer: Any, layer: str) -> torch.Tensor:
    weight: torch.Tensor = transformer.get_submodule(layer).weight.detach().float().clone()
    return weight


def test_a_merged_adapter_matches_an_unmerged_one_in_bf16(
    pipeline_folder: Path, weights: Adapter
) -> None:
    exact = adapted(pipeline_folder)
    trained(exact)
    wanted = answer(exact)
    errors = {}
    for mode in ("merged", "unmerged"):
        settings = SETTINGS.model_copy(update={"precision": "bf16", "adapter_mode": mode})
        transformer, stats = video_generator.load_adapted_transformer(
            pipeline_folder / "transformer",
            weights,
            "",
            settings,
            CPU,
            DevicePlan(False, False, False),
            lora.load_transformer,
        )
        assert stats["adapter"] == mode
        found = bf16_answer(transformer)
        errors[mode] = ((found - wanted).norm() / wanted.norm()).item()
    assert max(errors.values()) < 0.02
    assert errors["merged"] < 1.5 * errors["unmerged"]


def bf16_answer(transformer: Any) -> torch.Tensor:
    numbers = torch.Generator().manual_seed(7)
    with torch.no_grad():
        found: torch.Tensor = transformer(
            hidden_states=torch.randn(1, 16, 2, 4, 4, generator=numbers).bfloat16(),
            timestep=torch.tensor([500.0]),
            encoder_hidden_states=torch.randn(1, 512, 32, generator=numbers).bfloat16(),
            return_dict=False,
        )[0].float()
    return found


NEEDS = st.builds(
    MemoryEstimate,
    text_encoder=st.integers(1, 50),
    transformer=st.integers(1, 60),
    vae=st.integers(1, 2),
    denoising=st.integers(1, 12),
    decoding=st.integers(5, 12),
    decoding_tiled=st.integers(1, 4),
)
CHOICES = st.sampled_from(["auto", "on", "off"])


@given(needed=NEEDS, free=st.integers(1, 200), more=st.integers(0, 200), offload=CHOICES)
def test_more_memory_never_means_more_streaming_or_tiling(
    needed: MemoryEstimate, free: int, more: int, offload: device_plan.AutoOnOff
) -> None:
    less, larger = (plan_device(needed, size, offload, "auto") for size in (free, free + more))
    assert larger.streamed <= less.streamed
    assert larger.tiled <= less.tiled
    assert larger.text_on_gpu >= less.text_on_gpu
    if offload != "auto":
        assert less.streamed == larger.streamed == (offload == "on")


@given(needed=NEEDS, free=st.integers(1, 200))
def test_resident_components_fit_on_the_gpu(needed: MemoryEstimate, free: int) -> None:
    found = plan_device(needed, free, "auto", "auto")
    held = needed.vae + (0 if found.streamed else needed.transformer)
    if not found.streamed:
        assert held + needed.denoising <= free
    if not found.tiled:
        assert held + needed.decoding <= free


def test_the_14b_is_resident_on_80_gb_and_streamed_on_24(tmp_path: Path) -> None:
    real = model_registry.get_backbone("wan2.1-t2v-14b")
    sizes = {"transformer": 14_288_491_584, "vae": 126_892_531, "text_encoder": 5_680_000_000}
    for name, numbers in sizes.items():
        header(tmp_path / name, numbers)
    needed = device_plan.estimate_memory(
        real, SampleSettings(), **{name: tmp_path / name for name in sizes}
    )
    assert needed.transformer == pytest.approx(28.6e9, rel=0.01)
    gb = 10**9
    assert plan_device(needed, 139 * gb, "auto", "auto") == DevicePlan(True, False, False)
    assert plan_device(needed, 79 * gb, "auto", "auto") == DevicePlan(True, False, False)
    assert plan_device(needed, 23 * gb, "auto", "auto").streamed
    assert not plan_device(needed, 23 * gb, "auto", "auto").tiled


def header(folder: Path, numbers: int) -> None:
    """A safetensors file that says it holds so many numbers, and holds none."""
    folder.mkdir()
    text = json.dumps({"w": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 0]}}).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
