"""LoRA files: an adapter with the metadata of its training, in any layout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open

from mimix_core.engine.atomic_io import fsync_path
from mimix_core.errors import BadInput
from mimix_core.wan import lora, safetensors_io
from mimix_core.wan.adapter_metadata import AdapterMetadata
from mimix_core.wan.layer_names import WAN, find_architecture
from mimix_core.wan.lora_formats import (
    Adapter,
    AdapterDtype,
    AdapterLayout,
    adapter_from_tensors,
    adapter_to_tensors,
    detect_layout,
    fold_alpha,
)
from mimix_core.wan.model_registry import BACKBONES
from mimix_core.wan.safetensors_header import read_header

ADAPTER_FILE = "pytorch_lora_weights.safetensors"
"""The name that ``WanPipeline.load_lora_weights`` expects."""

EMA_ADAPTER_FILE = "pytorch_lora_weights_ema.safetensors"


_DTYPES = {
    AdapterDtype.BF16: torch.bfloat16,
    AdapterDtype.FP16: torch.float16,
    AdapterDtype.FP32: torch.float32,
}

_FIX = "Give an adapter that MiMix trained or exported."

# Key of MiMix's metadata in the file's header.
METADATA_KEY = "mimix"
# Key of diffusers' own metadata (loaders/lora_base.py).
DIFFUSERS_METADATA = "lora_adapter_metadata"


def build_adapter(parameters: Mapping[str, torch.Tensor], alpha: float) -> Adapter:
    """Build the adapter, fp32 on the CPU, from a model's adapter parameters by peft's names."""
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
        magnitudes={
            layer: named[f"{layer}.{lora.MAGNITUDE}.weight"]
            for layer in layers
            if f"{layer}.{lora.MAGNITUDE}.weight" in named
        },
    )


def cast_adapter(adapter: Adapter, dtype: AdapterDtype) -> Adapter:
    """Return the adapter with its weights in ``dtype``. Raises BadInput for one too large."""

    def cast(layer: str, weight: torch.Tensor) -> torch.Tensor:
        converted = weight.to(_DTYPES[dtype])
        if not bool(converted.isfinite().all()):
            raise BadInput(
                f"a weight of {layer} is too large for {dtype.value}",
                fix="Export it with --dtype bf16 or fp32.",
            )
        return converted

    return replace(
        adapter,
        pairs={
            layer: (cast(layer, down), cast(layer, up))
            for layer, (down, up) in adapter.pairs.items()
        },
        magnitudes={layer: cast(layer, value) for layer, value in adapter.magnitudes.items()},
    )


def write_adapter(
    path: Path,
    adapter: Adapter,
    metadata: AdapterMetadata,
    layout: AdapterLayout = AdapterLayout.DIFFUSERS,
    dtype: AdapterDtype | None = None,
) -> None:
    """Write an adapter and its metadata atomically; equal arguments give equal bytes.

    ``dtype``: of the stored weights; None stores them as they are. Raises BadInput for a layer
    that has no name in the layout, for a model from outside MiMix whose names in other programs are
    not known, and for a weight too large for the data type.
    """
    if layout is not AdapterLayout.DIFFUSERS:
        _check_known_names(adapter, metadata)
    if layout is AdapterLayout.COMFYUI and not adapter.magnitudes:
        adapter = fold_alpha(adapter)
        metadata = metadata.model_copy(update={"alpha": adapter.alpha})
    if dtype is not None:
        adapter = cast_adapter(adapter, dtype)
    tensors = adapter_to_tensors(adapter, layout)
    header = {"format": "pt", METADATA_KEY: metadata.model_dump_json()}
    if layout is AdapterLayout.DIFFUSERS:
        diffusers_metadata = {
            "transformer.r": adapter.rank,
            "transformer.lora_alpha": adapter.alpha,
            "transformer.target_modules": adapter.targets,
            **({"transformer.use_dora": True} if adapter.magnitudes else {}),
        }
        header[DIFFUSERS_METADATA] = json.dumps(diffusers_metadata, sort_keys=True)
    elif layout is AdapterLayout.KOHYA:
        header |= {
            "ss_network_module": "networks.lora_wan",
            "ss_network_dim": str(adapter.rank),
            "ss_network_alpha": str(adapter.alpha),
        }
    part = path.with_name(f".{path.name}.part")
    safetensors_io.write_tensors(part, tensors, header)
    fsync_path(part)
    part.replace(path)
    fsync_path(path.parent)


def _check_known_names(adapter: Adapter, metadata: AdapterMetadata) -> None:
    """Raise BadInput for another model with layers named as LTX-Video's, as many models have."""
    if metadata.base in BACKBONES or find_architecture(adapter.pairs) is WAN:
        return
    raise BadInput(
        f"{metadata.base} is not a model of MiMix: other programs may name its layers otherwise",
        where="settings, key backbone.name",
        fix="Export it with --format diffusers.",
    )


def read_adapter(path: Path) -> tuple[Adapter, AdapterMetadata]:
    """Read a MiMix adapter and its metadata in any layout.

    Raises BadInput for other files, for weights with NaN or Inf, and for metadata that does not
    belong to the weights.
    """
    metadata, _ = read_metadata(path)
    adapter = adapter_from_tensors(safetensors_io.read_tensors(path), metadata.alpha, str(path))
    if (adapter.rank, adapter.alpha) != (metadata.rank, metadata.alpha):
        raise BadInput(
            f"its weights have rank {adapter.rank} and alpha {adapter.alpha:g}, but its metadata "
            f"says rank {metadata.rank} and alpha {metadata.alpha:g}",
            where=str(path),
            fix=_FIX,
        )
    for layer in adapter.pairs:
        if not adapter.is_finite(layer):
            raise BadInput(
                f"the adapter contains non-finite values (NaN or Inf) in {layer}",
                where=str(path),
                fix="Train it again; docs/training.md describes what to check.",
            )
    return adapter, metadata


def is_mimix_metadata(header: Mapping[str, str]) -> bool:
    """Return whether the metadata of a file's header says that MiMix wrote it."""
    return METADATA_KEY in header


def read_metadata(path: Path) -> tuple[AdapterMetadata, AdapterLayout]:
    """Read an adapter's metadata and layout without its weights.

    Raises BadInput for a file that MiMix did not write.
    """
    fix = _FIX
    read_header(path, fix)
    try:
        with safe_open(path, framework="pt") as file:
            header, names = file.metadata() or {}, dict.fromkeys(file.keys())
    except (OSError, SafetensorError) as error:
        raise BadInput(f"not a safetensors file ({error})", where=str(path), fix=fix) from error
    if METADATA_KEY not in header:
        raise BadInput(
            "not a MiMix adapter: its header has no MiMix metadata", where=str(path), fix=fix
        )
    try:
        metadata = AdapterMetadata.model_validate_json(header[METADATA_KEY])
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        what = (
            "its metadata is from another version of MiMix"
            if first["type"] in ("missing", "extra_forbidden")
            else f"its metadata cannot be used: {key}: {first['msg']}"
        )
        raise BadInput(what, where=str(path), fix=fix) from error
    return metadata, detect_layout(names, str(path))


def check_base_model(path: Path, base: str, base_sha256: str) -> None:
    """Raise BadInput unless the adapter was trained on these weights."""
    metadata, _ = read_metadata(path)
    if (metadata.base, metadata.base_sha256) != (base, base_sha256):
        trained_on, requested = (
            f"{name} ({digest[:12]})"
            for name, digest in ((metadata.base, metadata.base_sha256), (base, base_sha256))
        )
        raise BadInput(
            f"was trained on {trained_on}, not on {requested}",
            where=str(path),
            fix="Use the weights that it was trained on, or train it on these.",
        )
