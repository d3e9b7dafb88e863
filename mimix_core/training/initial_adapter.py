"""Start a training from an existing adapter instead of a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.wan import foreign_adapters, lora, lora_export
from mimix_core.wan.adapter_metadata import AdapterMetadata
from mimix_core.wan.lora_formats import Adapter
from mimix_core.wan.safetensors_header import read_header

_FIX = "Set lora.initial_adapter to an adapter of Wan in a safetensors file, or leave it empty."


def read_initial_adapter(path: Path) -> tuple[Adapter, AdapterMetadata | None]:
    """Read an adapter to start from, with its metadata if MiMix wrote it.

    Other programs' files are read by ``foreign_adapters``; without an alpha it is the rank. Raises
    BadInput for other files and for weights with NaN or Inf.
    """
    if not path.is_file():
        raise BadInput("the file does not exist", where=str(path), fix=_FIX)
    read_header(path, _FIX)
    if lora_export.is_mimix_metadata(foreign_adapters.read_file_metadata(path)):
        return lora_export.read_adapter(path)
    return foreign_adapters.read_unscaled_adapter(path), None


def check_initial_adapter(
    path: Path,
    settings: LoraSettings,
    targets: Sequence[str],
    shapes: Mapping[str, Sequence[int]],
) -> Adapter:
    """Read an adapter to start from, and check that it fits the settings and the transformer.

    ``targets``: the layers to adapt, fully named or by suffix. ``shapes``: of the transformer's
    parameters by name. Raises BadInput for another rank, alpha or choice of layers.
    """
    adapter, _ = read_initial_adapter(path)
    for name, found, wanted in (
        ("rank", adapter.rank, settings.rank),
        ("alpha", adapter.alpha, settings.alpha),
    ):
        if found != wanted:
            raise BadInput(
                f"lora.initial_adapter has {name} {found:g}, but lora.{name} is {wanted:g}",
                where=str(path),
                fix=f"Set lora.{name} to {found:g}, or start from another adapter.",
            )
    if bool(adapter.magnitudes) != settings.use_dora:
        kind, setting = ("DoRA", "true") if adapter.magnitudes else ("LoRA", "false")
        raise BadInput(
            f"lora.initial_adapter is a {kind}, which lora.use_dora does not say",
            where=str(path),
            fix=f"Set lora.use_dora to {setting}, or start from another adapter.",
        )
    layers = {
        name.removesuffix(".weight"): tuple(shape)
        for name, shape in shapes.items()
        if len(shape) == 2 and any(f".{name}".endswith(f".{target}.weight") for target in targets)
    }
    for difference, problem in (
        (layers.keys() - adapter.pairs.keys(), "lacks {} that lora.target_modules names"),
        (adapter.pairs.keys() - layers.keys(), "has {} that lora.target_modules does not name"),
    ):
        if difference:
            count = "a layer" if len(difference) == 1 else f"{len(difference)} layers"
            raise BadInput(
                f"lora.initial_adapter {problem.format(count)}, first: {min(difference)}",
                where=str(path),
                fix=f"It adapts {', '.join(adapter.targets)}: set lora.target_modules to these, or "
                "start from another adapter.",
            )
    for layer, (down_RI, up_OR) in adapter.pairs.items():
        fitting = (up_OR.shape[0], down_RI.shape[1])
        magnitudes = adapter.magnitudes.get(layer, up_OR)
        if fitting != layers[layer] or len(magnitudes) != len(up_OR):
            raise BadInput(
                f"lora.initial_adapter does not fit the backbone: {layer} is {layers[layer]}, not "
                f"{fitting}",
                where=str(path),
                fix="Start from an adapter of the same backbone.",
            )
    return adapter


def check_initial_base(path: Path, base: str, base_sha256: str) -> None:
    """Raise BadInput if MiMix trained the adapter on other weights; others' base is unknown."""
    _, metadata = read_initial_adapter(path)
    if metadata is not None:
        lora_export.check_base_model(path, base, base_sha256)


@torch.no_grad()
def load_initial_adapter(transformer: Any, adapter: Adapter) -> None:
    """Set attached adapters (``lora.attach_adapter``) to the values of one that was checked."""
    for name, weight in lora.adapter_parameters(transformer):
        weight.copy_(adapter.parameter(name))
