"""Inputs of stage ``videos`` in tests: two prompts, a tiny Wan and a trained adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine.artifacts import file_ref
from mimix_core.settings import SampleSettings
from mimix_core.tables import LORA
from mimix_core.wan import lora, lora_export, videos_stage
from mimix_core.wan.lora_formats import Adapter
from tests.factories import table_ref
from tests.wan.test_lora import adapted, trained
from tests.wan.test_lora_export import card

SETTINGS = SampleSettings(
    width=32, height=32, num_frames=5, num_inference_steps=2, precision="fp32"
)
NAME = "tiny-random-wan"
COMPONENTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")


def prompt(name: str, action: str = "smiles") -> VideoPrompt:
    return VideoPrompt.model_validate(
        {
            "id": name,
            "category": "single",
            "characters": ["Bunny"],
            "actions": [{"name": "Bunny", "action": action}],
            "style": "cartoon",
        }
    )


PROMPTS = (prompt("one"), prompt("two"))


def adapter(pipeline_folder: Path, *, train: bool = True) -> Adapter:
    transformer = adapted(pipeline_folder)
    if train:
        trained(transformer)
    return lora_export.build_adapter(dict(lora.adapter_parameters(transformer)), 4.0)


def inputs(
    pipeline_folder: Path, folder: Path, weights: Adapter, **more: Any
) -> videos_stage.VideoInputs:
    table = table_ref(folder / "lora", LORA, [])
    parts = {part: file_ref(pipeline_folder / part) for part in COMPONENTS}
    own = card(base_sha256=parts["transformer"].sha256)
    lora_export.write_adapter(folder / "lora" / lora_export.ADAPTER_FILE, weights, own)
    values = {
        "unit": "all",
        "prompts": PROMPTS,
        "backbone_name": NAME,
        "lora": table,
        "partial_results": folder / "parts",
        **parts,
        **more,
    }
    return videos_stage.VideoInputs.model_validate(values)
