"""Apply a trained adapter to the transformer: merged into its weights, or as separate layers.

A merged adapter has no runtime cost: W' = W + (alpha / rank) B A, summed in fp32 from the stored
weights and rounded once; a DoRA then scales each row of W' to its magnitude. This is as exact as
the base itself when the stored weights have a wider dtype than the computation: both are then
rounded alike. Weights that are stored in bf16 already lie on its grid, and a sum is rounded back to
the old weight where the adapter's part is less than half a step. A weak adapter would be lost in
part or completely, so it stays separate, as in training.
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

AdapterMode = Literal["merged", "unmerged"]

_WIDE = ("F32", "F64")


class StoredWeights:
    """Read the tensors of a folder of safetensors files one at a time, in their stored dtype."""

    def __init__(self, folder: Path) -> None:
        self._files: dict[str, Path] = {}
        for path in sorted(folder.glob("*.safetensors")):
            with safe_open(path, framework="pt") as file:
                self._files |= dict.fromkeys(file.keys(), path)

    def read(self, name: str) -> torch.Tensor:
        with safe_open(self._files[name], framework="pt") as file:
            tensor: torch.Tensor = file.get_tensor(name)
        return tensor

    def dtype_name(self, name: str) -> str:
        """Return the dtype's safetensors name, such as F32 or BF16, without reading the weights."""
        with safe_open(self._files[name], framework="pt") as file:
            dtype: str = file.get_slice(name).get_dtype()
        return dtype


def select_adapter_mode(folder: Path, adapter: Adapter, computed: torch.dtype) -> AdapterMode:
    """``merged`` where that is as exact as the base: from fp32 weights, or in fp32."""
    stored = StoredWeights(folder)
    wide = all(stored.dtype_name(f"{layer}.weight") in _WIDE for layer in adapter.pairs)
    return "merged" if wide or computed == torch.float32 else "unmerged"


def check_adapter(transformer: Any, adapter: Adapter, where: str) -> None:
    """Raise BadInput unless the adapter is finite and its layers match the transformer's."""
    layers = dict(transformer.named_modules())
    fix = "Train it on the backbone in the settings."
    for name, (down_RI, up_OR) in adapter.pairs.items():
        layer = layers.get(name)
        if not isinstance(layer, torch.nn.Linear):
            raise BadInput(
                f"the adapter does not fit this transformer, which has no layer {name}",
                where=where,
                fix=fix,
            )
        shape, adapter_shape = tuple(layer.weight.shape), (len(up_OR), down_RI.shape[1])
        if shape != adapter_shape:
            raise BadInput(
                f"the adapter does not fit this transformer: {name} is {shape}, "
                f"not {adapter_shape}",
                where=where,
                fix=fix,
            )
        magnitude_O = adapter.magnitudes.get(name, up_OR.new_ones(len(up_OR)))
        if magnitude_O.shape != (len(up_OR),):
            raise BadInput(
                f"the adapter does not fit this transformer: {name} has {magnitude_O.numel()} "
                f"magnitudes for {len(up_OR)} outputs",
                where=where,
                fix=fix,
            )
        if not adapter.is_finite(name):
            raise BadInput(
                f"the adapter contains non-finite values (NaN or Inf) in {name}",
                where=where,
                fix="Train it again; docs/training.md describes what to check.",
            )
    parameters = dict(transformer.named_parameters())
    for name, change in adapter.changes.items():
        if name not in parameters or parameters[name].shape != change.shape:
            raise BadInput(
                f"the adapter does not fit this transformer: it changes {name}, of shape "
                f"{tuple(change.shape)}",
                where=where,
                fix=fix,
            )


@torch.no_grad()
def apply_changes(transformer: Any, stored: StoredWeights, adapter: Adapter) -> None:
    """Add the adapter's changes of whole parameters, in place, each rounded once.

    In either mode: only pairs can stay beside the weights.
    """
    parameters = dict(transformer.named_parameters())
    for name, change in adapter.changes.items():
        parameter = parameters[name]
        parameter.copy_(
            stored.read(name).to(parameter.device, torch.float32) + change.to(parameter.device)
        )


@torch.no_grad()
def merge_adapter(transformer: Any, stored: StoredWeights, adapter: Adapter) -> None:
    """Merge the adapter's pairs into the weights, in place, on their device."""
    layers: Mapping[str, Any] = dict(transformer.named_modules())
    scale = adapter.alpha / adapter.rank
    for name, (down_RI, up_OR) in adapter.pairs.items():
        weight_OI = layers[name].weight
        wide_OI = stored.read(f"{name}.weight").to(weight_OI.device, torch.float32)
        if f"{name}.weight" in adapter.changes:
            wide_OI += adapter.changes[f"{name}.weight"].to(wide_OI)
        added = torch.addmm(wide_OI, up_OR.to(wide_OI), down_RI.to(wide_OI), alpha=scale)
        if name in adapter.magnitudes:
            magnitude_O = adapter.magnitudes[name].to(added)
            added *= (magnitude_O / torch.linalg.norm(added, dim=1)).unsqueeze(1)
        weight_OI.copy_(added)


@torch.no_grad()
def attach_trained_adapter(transformer: Any, adapter: Adapter) -> None:
    """Attach the adapter as separate layers, as ``lora.attach_adapter`` does for training."""
    from peft import LoraConfig

    transformer.add_adapter(
        # peft declares rank and alpha as integers, but uses only their quotient.
        LoraConfig(
            r=adapter.rank,
            lora_alpha=adapter.alpha,
            target_modules=list(adapter.pairs),
            use_dora=bool(adapter.magnitudes),
        )
    )
    for name, weight in lora.adapter_parameters(transformer):
        weight.data = adapter.parameter(name).to(weight.device, torch.float32)
    transformer.requires_grad_(False)
