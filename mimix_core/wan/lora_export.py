"""LoRA files: the adapter with a card that says what it was made of, in any layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from mimix_core.errors import BadInput
from mimix_core.wan import safetensors_io
from mimix_core.wan.adapter_metadata import Card
from mimix_core.wan.lora_formats import Adapter, Layout, adapter_of, layout_of, tensors_of

FILE = "pytorch_lora_weights.safetensors"
"""As ``WanPipeline.load_lora_weights`` looks for it."""

EMA_FILE = "pytorch_lora_weights_ema.safetensors"

_CARD = "mimix"
# As diffusers' loaders/lora_base.py names it.
_DIFFUSERS_METADATA = "lora_adapter_metadata"


def adapter(parameters: Mapping[str, torch.Tensor], alpha: float) -> Adapter:
    """The adapter of a model's trainable parameters, by the names peft gives them; fp32, CPU."""
    named = {
        name.replace(".default.", "."): weight.detach().float().cpu()
        for name, weight in parameters.items()
    }
    layers = sorted({name.rsplit(".lora_", 1)[0] for name in named})
    return Adapter(
        {
            layer: (named[f"{layer}.lora_A.weight"], named[f"{layer}.lora_B.weight"])
            for layer in layers
        },
        alpha,
    )


def write(path: Path, adapter: Adapter, card: Card, layout: Layout = Layout.DIFFUSERS) -> None:
    """Write an adapter and its card, whole or not at all: the same ones give the same bytes.

    Raises BadInput for a layer that the layout has no name for.
    """
    header = {"format": "pt", _CARD: card.model_dump_json()}
    if layout is Layout.DIFFUSERS:
        metadata = {
            "transformer.r": adapter.rank,
            "transformer.lora_alpha": adapter.alpha,
            "transformer.target_modules": adapter.targets,
        }
        header[_DIFFUSERS_METADATA] = json.dumps(metadata, sort_keys=True)
    elif layout is Layout.KOHYA:
        header |= {
            "ss_network_module": "networks.lora_wan",
            "ss_network_dim": str(adapter.rank),
            "ss_network_alpha": str(adapter.alpha),
        }
    part = path.with_name(f".{path.name}.part")
    safetensors_io.write(part, tensors_of(adapter, layout), header)
    part.replace(path)


def read(path: Path) -> tuple[Adapter, Card]:
    """An adapter of MiMix and its card, from any layout. Raises BadInput for any other file."""
    card, _ = read_card(path)
    return adapter_of(safetensors_io.read(path), card.alpha, str(path)), card


def read_card(path: Path) -> tuple[Card, Layout]:
    """An adapter's card and its layout; reads no weights. Raises BadInput unless MiMix made it."""
    fix = "Give an adapter that MiMix trained or exported."
    if not path.is_file():
        raise BadInput("there is no such file", where=str(path), fix=fix)
    try:
        with safe_open(path, framework="pt") as file:
            metadata, names = file.metadata() or {}, dict.fromkeys(file.keys())
    except (OSError, SafetensorError) as error:
        raise BadInput(f"not a safetensors file ({error})", where=str(path), fix=fix) from error
    if _CARD not in metadata:
        raise BadInput("not an adapter of MiMix: it has no card", where=str(path), fix=fix)
    try:
        card = Card.model_validate_json(metadata[_CARD])
    except ValidationError as error:
        raise BadInput(
            "its card is of another version of MiMix", where=str(path), fix=fix
        ) from error
    return card, layout_of(names, str(path))


def check_base(path: Path, base: str, base_sha256: str) -> None:
    """Raises BadInput unless the adapter was trained on these weights."""
    card, _ = read_card(path)
    if (card.base, card.base_sha256) != (base, base_sha256):
        theirs, ours = (
            f"{name} ({digest[:12]})"
            for name, digest in ((card.base, card.base_sha256), (base, base_sha256))
        )
        raise BadInput(
            f"was trained on {theirs}, not on {ours}",
            where=str(path),
            fix="Train it on the backbone that the settings name.",
        )
