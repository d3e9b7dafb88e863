"""LTX-Video, small and random: latents, embeddings and videos are those of diffusers' pipeline."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTXConditionPipeline
from typer.testing import CliRunner

from flows.cli import app
from mimix_core import tables
from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.media.decode import read_rgb
from mimix_core.settings import LoraSettings, SampleSettings
from mimix_core.tables import SAMPLES
from mimix_core.training import previews
from mimix_core.training.distributed import DistributedContext
from mimix_core.training.worker_messages import PreviewConfig
from mimix_core.wan import (
    export_proof,
    lora,
    lora_export,
    ltx_interface,
    model_folder,
    model_registry,
    random_backbone,
    text_embeddings,
    videos_stage,
)
from mimix_core.wan.export_proof import ProofSettings
from mimix_core.wan.generation import provenance, video_generator
from mimix_core.wan.generation.architecture_settings import check_generation_settings
from mimix_core.wan.generation.component_folders import ComponentFolders
from mimix_core.wan.lora_formats import Adapter, AdapterLayout
from mimix_core.wan.ltx_backbones import LTX_VIDEO, TEXT_TOKENS, TINY_LTX
from tests.wan.folder_damage import (
    Spoil,
    cut,
    remove,
    replace_by_folder,
    retensor,
    set_first_value,
    update,
    write,
)
from tests.wan.published_folder import published_folder
from tests.wan.test_lora import trained
from tests.wan.test_lora_export import card
from tests.wan.video_inputs import COMPONENTS, inputs

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
PROMPT = "[Character: Bunny], smiles. [scene-style:cartoon]"
SETTINGS = SampleSettings(
    width=96,
    height=64,
    num_frames=17,
    num_inference_steps=4,
    guidance_scale=3.0,
    shift=1.0,
    precision="fp32",
    negative_prompt="dark",
    device="cpu",
)
ALL = TINY_LTX.lora_targets


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As diffusers saves it, with statistics of latents that are not those of a new VAE."""
    folder = tmp_path_factory.mktemp("ltx") / "model"
    random_backbone.build_random_backbone(0, folder, TINY_LTX)
    pipeline = LTXConditionPipeline.from_pretrained(folder)
    pipeline.vae.latents_mean.copy_(torch.linspace(-1, 1, 16))
    pipeline.vae.latents_std.copy_(torch.linspace(0.5, 2, 16))
    pipeline.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> Any:
    torch.set_num_threads(1)
    pipeline = LTXConditionPipeline.from_pretrained(folder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def frames(count: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 64, 96, 3), dtype=np.uint8)


def components(folder: Path) -> ComponentFolders:
    return ComponentFolders(backbone=TINY_LTX, **{name: folder / name for name in COMPONENTS})


def generator(
    folder: Path, adapter: Adapter | None = None, **changes: Any
) -> video_generator.VideoGenerator:
    settings = SETTINGS.model_copy(update=changes)
    return video_generator.load_generator(
        components(folder), adapter, "adapter", [PROMPT], settings, CPU
    )


def wanted_latents(pipeline: Any, **changes: Any) -> torch.Tensor:
    """The latents of diffusers' own pipeline, for seed 5."""
    call = {"guidance_scale": 3.0, "num_frames": 17} | changes
    with torch.no_grad():
        latents: torch.Tensor = pipeline(
            prompt=PROMPT,
            negative_prompt="dark",
            width=96,
            height=64,
            frame_rate=16,
            num_inference_steps=4,
            generator=torch.Generator().manual_seed(5),
            output_type="latent",
            **call,
        ).frames
    return latents


@pytest.mark.parametrize(("count", "latent_frames"), [(1, 1), (9, 2), (17, 3)])
def test_latents_are_the_normalized_mean(
    folder: Path, pipeline: Any, count: int, latent_frames: int
) -> None:
    vae = ltx_interface.load_vae(folder / "vae", CPU)
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
def test_embeddings_are_those_of_the_pipeline(folder: Path, pipeline: Any, text: str) -> None:
    interface = model_registry.load_interface(TINY_LTX)
    [ids] = interface.tokenize(interface.load_tokenizer(folder / "tokenizer"), [text])
    ids = list(text_embeddings.truncate_tokens(ids, TINY_LTX.text_tokens))
    encoder = interface.load_text_encoder(folder / "text_encoder", CPU)
    [text_LD] = interface.embed_tokens(encoder, [ids])
    wanted_BLD, mask_BL, _, _ = pipeline.encode_prompt(text, do_classifier_free_guidance=False)
    assert len(text_LD) == int(mask_BL.sum()) <= TEXT_TOKENS
    assert torch.allclose(text_LD, wanted_BLD[0, : len(text_LD)], atol=1e-5)


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_generation_gives_the_latents_of_the_pipeline(
    folder: Path, pipeline: Any, guidance: float
) -> None:
    latents = generator(folder, guidance_scale=guidance).denoise(PROMPT, 5)
    wanted = wanted_latents(pipeline, guidance_scale=guidance)
    assert wanted.std() > 0.5
    assert torch.allclose(latents, wanted, atol=1e-4)


def test_bf16_is_near_fp32(folder: Path) -> None:
    latents = generator(folder, some_adapter(folder, 0.5), precision="bf16").denoise(PROMPT, 5)
    wanted = generator(folder, some_adapter(folder, 0.5)).denoise(PROMPT, 5)
    assert latents.dtype == torch.float32
    assert ((latents - wanted).norm() / wanted.norm()).item() < 0.05


def test_guidance_in_a_batch_and_one_frame_are_the_same(folder: Path, pipeline: Any) -> None:
    batched = generator(folder, batched_guidance=True).denoise(PROMPT, 5)
    assert torch.allclose(batched, wanted_latents(pipeline), atol=1e-4)
    image = generator(folder, num_frames=1).denoise(PROMPT, 5)
    assert torch.allclose(image, wanted_latents(pipeline, num_frames=1), atol=1e-4)


def test_every_step_is_reported_and_a_layout_changes_the_start(folder: Path) -> None:
    loaded = generator(folder, start="cutouts")
    steps: list[int] = []
    plain = loaded.denoise(PROMPT, 5, steps.append)
    layout = torch.linspace(-1, 1, 16 * 18).reshape(16, 3, 2, 3)
    assert steps == [1, 2, 3, 4]
    assert not torch.allclose(plain, loaded.denoise(PROMPT, 5, layout_CTHW=layout), atol=1e-2)


def test_frames_are_decoded_at_the_published_noise_level(folder: Path, pipeline: Any) -> None:
    latents = wanted_latents(pipeline)
    decoded = generator(folder).decode(latents)
    statistics = pipeline.vae.latents_mean, pipeline.vae.latents_std
    noise = torch.randn(latents[0].shape, generator=torch.Generator().manual_seed(0))[None]
    noisy = 0.975 * pipeline._denormalize_latents(latents, *statistics) + 0.025 * noise
    with torch.no_grad():
        video = pipeline.vae.decode(noisy, torch.tensor([0.05]), return_dict=False)[0]
    wanted = pipeline.video_processor.postprocess_video(video, output_type="np")[0]
    assert decoded.shape == (17, 64, 96, 3)
    assert np.abs(decoded / 255 - wanted).max() <= 1 / 255
    with pytest.raises(ValueError, match="non-finite values"):
        generator(folder).decode(torch.full_like(latents, torch.nan))


@pytest.mark.parametrize("mode", ["merged", "unmerged"])
def test_an_adapter_generates_as_diffusers_plays_it(
    folder: Path, tmp_path: Path, mode: str
) -> None:
    adapter = some_adapter(folder)
    path = tmp_path / lora_export.ADAPTER_FILE
    lora_export.write_adapter(path, adapter, own_card(folder))
    played = LTXConditionPipeline.from_pretrained(folder)
    played.set_progress_bar_config(disable=True)
    played.load_lora_weights(tmp_path, weight_name=path.name)
    wanted = wanted_latents(played)
    latents = generator(folder, adapter, adapter_mode=mode).denoise(PROMPT, 5)
    assert torch.allclose(latents, wanted, atol=1e-3)
    assert not torch.allclose(latents, generator(folder).denoise(PROMPT, 5), atol=1e-2)


def test_the_stage_writes_videos_of_the_adapter(folder: Path, tmp_path: Path) -> None:
    weights = {part: file_ref(folder / part) for part in COMPONENTS}
    given = inputs(folder, tmp_path, some_adapter(folder), backbone_name=TINY_LTX.name)
    path = given.lora.folder / lora_export.ADAPTER_FILE
    lora_export.write_adapter(path, some_adapter(folder), own_card(folder))
    settings = SETTINGS.model_copy(update={"adapter_mode": "unmerged"})
    ref = run_stage(Store(tmp_path / "store"), videos_stage.STAGE, given, settings).ref
    made = {row["prompt_id"]: row for row in tables.read(ref.path, SAMPLES)}
    assert {(row["status"], row["frames"]) for row in made.values()} == {("ok", 17)}
    said = provenance.read_provenance(ref.folder / made["one"]["file"])
    assert (said.backbone, said.shift) == (TINY_LTX.name, 1.0)
    assert said.base_sha256 == weights["transformer"].sha256


def test_previews_show_what_is_generated(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "prompts.safetensors"
    cut_off = previews.embed_preview_prompts(
        path,
        [PROMPT, "word " * 300],
        "dark",
        TINY_LTX.name,
        folder / "tokenizer",
        folder / "text_encoder",
    )
    assert cut_off.startswith("lora.preview_prompts[1] (")
    config = PreviewConfig(
        backbone=TINY_LTX.name,
        prompts=path,
        vae=folder / "vae",
        scheduler=folder / "scheduler",
        shift=1.0,
    )
    transformer = ltx_interface.load_transformer(folder / "transformer", torch.float32).train()
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
    wanted = generator(folder).generate(PROMPT, previews.preview_seed(settings, 0))
    provenance.write_video(tmp_path / "wanted.mp4", wanted)
    found = read_rgb(tmp_path / previews.preview_path(0, 0)).astype(int)
    assert np.abs(found - read_rgb(tmp_path / "wanted.mp4")).mean() < 0.3


def some_adapter(folder: Path, alpha: float = 6.0) -> Adapter:
    transformer = ltx_interface.load_transformer(folder / "transformer", torch.float32)
    lora.attach_adapter(transformer, 4, 4, ALL, 0)
    trained(transformer)
    return lora_export.build_adapter(dict(lora.adapter_parameters(transformer)), alpha)


def own_card(folder: Path) -> Any:
    digest = file_ref(folder / "transformer").sha256
    return card(alpha=6, base=TINY_LTX.name, base_sha256=digest, targets=ALL)


@pytest.mark.parametrize("layout", [AdapterLayout.DIFFUSERS, AdapterLayout.COMFYUI])
def test_an_export_is_verified_with_the_loader_of_diffusers(
    folder: Path, tmp_path: Path, layout: AdapterLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ProofSettings(prompt=PROMPT, width=96, height=64, num_frames=9, num_inference_steps=2)
    monkeypatch.setattr(export_proof, "ProofSettings", lambda **changes: small)
    source = tmp_path / lora_export.ADAPTER_FILE
    lora_export.write_adapter(source, some_adapter(folder), own_card(folder))
    file, base = tmp_path / "export.safetensors", ["--base", str(folder)]
    runner = CliRunner(env={"COLUMNS": "200"})
    words = ["lora", "export", str(source), "--format", layout.value, "--to", str(file), *base]
    done = runner.invoke(app, [*words, "--dtype", "fp32"])
    assert done.exit_code == 0, done.output
    done = runner.invoke(app, ["lora", "verify", str(file), *base])
    assert done.exit_code == 0, done.output
    assert done.output.strip().endswith("equal")


def test_layouts_have_the_names_of_the_authors_and_read_back(folder: Path, tmp_path: Path) -> None:
    adapter = some_adapter(folder)
    path = tmp_path / "export.safetensors"
    lora_export.write_adapter(path, adapter, own_card(folder), AdapterLayout.COMFYUI)
    found, metadata = lora_export.read_adapter(path)
    assert metadata.base == TINY_LTX.name
    for layer, (down, up) in adapter.pairs.items():
        read_down, read_up = found.pairs[layer]
        delta = adapter.alpha / adapter.rank * up @ down
        assert torch.allclose(found.alpha / found.rank * read_up @ read_down, delta, atol=1e-6)
    names = set(lora_export.safetensors_io.read_tensors(path))
    assert "diffusion_model.transformer_blocks.1.attn2.to_out.0.lora_A.weight" in names
    other = card(alpha=6, base="my_backbones.small_mochi")
    with pytest.raises(BadInput, match="may name its layers otherwise"):
        lora_export.write_adapter(path, adapter, other, AdapterLayout.COMFYUI)
    lora_export.write_adapter(path, adapter, other)
    assert set(lora_export.read_adapter(path)[0].pairs) == set(adapter.pairs)
    with pytest.raises(BadInput, match="musubi-tuner does not have"):
        lora_export.write_adapter(path, adapter, own_card(folder), AdapterLayout.KOHYA)


def test_layers_outside_the_blocks_are_named_as_comfyui_names_them(tmp_path: Path) -> None:
    layers = ("time_embed.linear", "proj_in", "proj_out", "transformer_blocks.0.ff.net.2")
    path = tmp_path / "outside.safetensors"
    adapter = Adapter({name: (torch.ones(4, 6), torch.ones(8, 4)) for name in layers}, 4.0)
    lora_export.write_adapter(path, adapter, card(base=TINY_LTX.name), AdapterLayout.COMFYUI)
    names = {name.split(".lora_")[0] for name in lora_export.safetensors_io.read_tensors(path)}
    assert names == {
        "diffusion_model.adaln_single.linear",
        "diffusion_model.patchify_proj",
        "diffusion_model.proj_out",
        "diffusion_model.transformer_blocks.0.ff.net.2",
    }
    assert set(lora_export.read_adapter(path)[0].pairs) == set(layers)


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
    folder: Path, size: tuple[int, int, int], problem: str | None
) -> None:
    found = LTX_VIDEO.size_error(*size)
    if problem is None:
        assert found is None
        return
    with pytest.raises(ValueError, match=problem):
        raise ValueError(found)
    count, width, height = size
    vae = ltx_interface.load_vae(folder / "vae", CPU)
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


PUBLISHED = replace(TINY_LTX, name="published-ltx", hub_id="tests/published-ltx")
TEXT = "text_encoder/model.safetensors"
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"

DAMAGES: dict[str, tuple[Spoil, str, str]] = {
    "pipeline of Wan": (
        update("model_index.json", _class_name="WanPipeline"),
        "model_index.json",
        "its class is WanPipeline, not LTXConditionPipeline",
    ),
    "no transformer": (remove("transformer"), "", "transformer is missing"),
    "no VAE": (remove("vae"), "", "vae is missing"),
    "no tokenizer": (remove("tokenizer"), "", "tokenizer is missing"),
    "no weights": (remove(TEXT), "text_encoder", "no safetensors file"),
    "weights cut": (cut(TRANSFORMER, 100), TRANSFORMER, "incomplete|bytes"),
    "weights a folder": (replace_by_folder(VAE), VAE, "Is a directory|a file"),
    "weights empty": (write(VAE, b""), VAE, "bytes|empty"),
    "another size": (
        update("transformer/config.json", num_layers=28),
        "transformer/config.json",
        "num_layers is 28, not 2",
    ),
    "VAE of version 0.9.1": (
        update("vae/config.json", downsample_type=["conv"] * 4),
        "vae/config.json",
        "downsample_type is .*conv",
    ),
    "scheduler of Wan": (
        update("scheduler/scheduler_config.json", use_dynamic_shifting=True),
        "scheduler/scheduler_config.json",
        "use_dynamic_shifting is True, not False",
    ),
    "layer missing": (
        retensor(TRANSFORMER, lambda t: t.pop("transformer_blocks.1.attn2.to_k.weight")),
        "transformer",
        "lack transformer_blocks.1.attn2.to_k.weight",
    ),
    "block missing": (
        retensor(
            TRANSFORMER,
            lambda t: [t.pop(name) for name in list(t) if name.startswith("transformer_blocks.1.")],
        ),
        "transformer",
        "lack 1 of 2 transformer_blocks",
    ),
    "statistics missing": (
        retensor(VAE, lambda t: t.pop("latents_std")),
        "vae",
        "lack latents_std",
    ),
    "decoder layer of another shape": (
        retensor(VAE, lambda t: t.update({"decoder.conv_out.conv.bias": torch.ones(3)})),
        VAE,
        r"decoder.conv_out.conv.bias has the shape \[3\]",
    ),
    "NaN": (
        retensor(TEXT, set_first_value("shared.weight", float("nan"))),
        TEXT,
        "non-finite values",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_folder_is_refused_with_its_file(folder: Path, tmp_path: Path, kind: str) -> None:
    copied = Path(shutil.copytree(folder, tmp_path / "ltx"))
    model_folder.check_backbone_folder(copied, PUBLISHED)
    spoil, file, message = DAMAGES[kind]
    spoil(copied)
    with pytest.raises(BadInput, match=message) as caught:
        model_folder.check_backbone_folder(copied, PUBLISHED)
    assert caught.value.where.startswith(str(copied))
    assert caught.value.where.endswith(file)
    assert caught.value.fix


def test_the_published_folder_is_accepted_by_either_name_of_its_pipeline(tmp_path: Path) -> None:
    ltx = published_folder(tmp_path / "ltx", LTX_VIDEO)
    model_folder.check_backbone_folder(ltx, LTX_VIDEO)
    update("model_index.json", _class_name="LTXPipeline")(ltx)
    model_folder.check_backbone_folder(ltx, LTX_VIDEO)
    with pytest.raises(BadInput, match="is not that of wan2"):
        model_folder.check_backbone_folder(ltx, model_registry.get_backbone("wan2.1-t2v-1.3b"))
