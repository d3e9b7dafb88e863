"""What the stage ``videos`` is given in tests: two prompts, a tiny Wan and a trained adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mimix_core.benchmark.prompts import Prompt
from mimix_core.refs import file_ref
from mimix_core.settings import SampleSettings
from mimix_core.tables import LORA
from mimix_core.wan import export, generate, lora
from mimix_core.wan.formats import Adapter
from tests.made import table_ref
from tests.wan.test_export import card
from tests.wan.test_lora import adapted, trained

SETTINGS = SampleSettings(width=32, height=32, frames=5, steps=2, precision="fp32")
NAME = "tiny-random-wan"
COMPONENTS = ("transformer", "vae", "text_encoder", "tokenizer", "scheduler")


def prompt(name: str, action: str = "smiles") -> Prompt:
    return Prompt.model_validate(
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
    return export.adapter(dict(lora.trainable(transformer)), 4.0)


def inputs(
    pipeline_folder: Path, folder: Path, weights: Adapter, **more: Any
) -> generate.VideoInputs:
    table = table_ref(folder / "lora", LORA, [])
    parts = {part: file_ref(pipeline_folder / part) for part in COMPONENTS}
    own = card(base_sha256=parts["transformer"].sha256)
    export.write(folder / "lora" / export.FILE, weights, own)
    values = {
        "unit": "all",
        "prompts": PROMPTS,
        "backbone_name": NAME,
        "lora": table,
        "parts": folder / "parts",
        **parts,
        **more,
    }
    return generate.VideoInputs.model_validate(values)
