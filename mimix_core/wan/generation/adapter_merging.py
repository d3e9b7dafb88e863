"""A trained adapter in the transformer that generates: in its weights, or beside them.

In the weights it costs nothing: W' = W + (alpha / rank) B A, summed in fp32 from the weights as
they are stored and rounded once. That is as exact as the base itself when the stored weights are
wider than those computed with: both are then rounded alike. Weights that are stored in bf16 already
lie on its grid, and a sum falls back to where it was wherever the adapter's share is less than half
a step: then a weak adapter is lost in part or whole, so it is kept beside them, as in training.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open

from mimix_core.errors import BadInput
from mimix_core.wan import lora
from mimix_core.wan.lora_formats import Adapter

Way = Literal["merged", "beside"]

_WIDE = ("F32", "F64")


class StoredWeights:
    """The tensors of a folder of safetensors files, read one at a time in their own type."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                self._files |= dict.fromkeys(file.keys(), path)

    def read(self, name: str) -> torch.Tensor:
        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor

    def kind(self, name: str) -> str:
        """The type as safetensors writes it, such as F32 or BF16; reads no weights."""
        with safe_open(self._files[name], framework="pt") as file:
            found: str = file.get_slice(name).get_dtype()
        return found


def best_way(folder: Path, adapter: Adapter, computed: torch.dtype) -> Way:
    """``merged`` where that is as exact as the base: from fp32 weights, or in fp32."""
    stored = StoredWeights(folder)
    wide = all(stored.kind(f"{layer}.weight") in _WIDE for layer in adapter.pairs)
    return "merged" if wide or computed == torch.float32 else "beside"


def check(transformer: Any, adapter: Adapter, where: str) -> None:
    """Raises BadInput unless every layer of the adapter is one of the transformer's, and finite."""
    layers = dict(transformer.named_modules())
    fix = "Train it on the backbone that the settings name."
    for name, (down_RI, up_OR) in adapter.pairs.items():
        layer = layers.get(name)
        if not isinstance(layer, torch.nn.Linear):
            raise BadInput(
                f"the adapter does not fit this transformer: it has no layer {name}",
                where=where,
                fix=fix,
            )
        ours, theirs = tuple(layer.weight.shape), (len(up_OR), down_RI.shape[1])
        if ours != theirs:
            raise BadInput(
                f"the adapter does not fit this transformer: {name} is {ours}, not {theirs}",
                where=where,
                fix=fix,
            )
        if not (down_RI.isfinite().all() and up_OR.isfinite().all()):
            raise BadInput(
                f"the adapter holds values that are no numbers, in {name}",
                where=where,
                fix="Train it again; docs/training.md says what to look at.",
            )


@torch.no_grad()
def merge(transformer: Any, stored: StoredWeights, adapter: Adapter) -> None:
    """Put the adapter into the weights, in place, on the device they are on."""
    layers: Mapping[str, Any] = dict(transformer.named_modules())
    scale = adapter.alpha / adapter.rank
    for name, (down_RI, up_OR) in adapter.pairs.items():
        weight_OI = layers[name].weight
        wide_OI = stored.read(f"{name}.weight").to(weight_OI.device, torch.float32)
        added = torch.addmm(wide_OI, up_OR.to(wide_OI), down_RI.to(wide_OI), alpha=scale)
        weight_OI.copy_(added)


@torch.no_grad()
def attach(transformer: Any, adapter: Adapter) -> None:
    """Put the adapter beside the weights, as ``lora.attach`` does for training."""
    from peft import LoraConfig

    transformer.add_adapter(
        # peft's own rank and alpha are whole numbers; the scale is what counts.
        LoraConfig(r=adapter.rank, lora_alpha=adapter.alpha, target_modules=list(adapter.pairs))
    )
    for name, weight in lora.trainable(transformer):
        layer, part = name.rsplit(".lora_", 1)
        weight.data = adapter.pairs[layer][part.startswith("B")].to(weight.device, torch.float32)
    transformer.requires_grad_(False)
