"""A small LTX-Video in tests: what it generates, what diffusers' pipeline does, an adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from mimix_core.engine.artifacts import file_ref
from mimix_core.settings import SampleSettings
from mimix_core.wan import lora, lora_export, ltx_interface
from mimix_core.wan.generation import video_generator
from mimix_core.wan.generation.component_folders import ComponentFolders
from mimix_core.wan.lora_formats import Adapter
from mimix_core.wan.ltx_backbones import TINY_LTX
from tests.wan.test_lora import trained
from tests.wan.test_lora_export import card
from tests.wan.video_inputs import COMPONENTS

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


def some_adapter(folder: Path, alpha: float = 6.0) -> Adapter:
    transformer = ltx_interface.load_transformer(folder / "transformer", torch.float32)
    lora.attach_adapter(transformer, 4, 4, ALL, 0)
    trained(transformer)
    return lora_export.build_adapter(dict(lora.adapter_parameters(transformer)), alpha)


def own_card(folder: Path) -> Any:
    digest = file_ref(folder / "transformer").sha256
    return card(alpha=6, base=TINY_LTX.name, base_sha256=digest, targets=ALL)
