"""What a tensor of a LoRA file is, by its name in any program's layout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mimix_core.wan.layer_names import split_layer
from mimix_core.wan.lora_formats import diffusers_layer_name

Part = Literal["down", "up", "alpha", "magnitude", "change"]

# The longest first: a prefix may begin with another one.
_PREFIXES = (
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "lora_unet__",
    "lora_unet_",
)
_HALVES: dict[str, Part] = {
    ".lora_A.default.weight": "down",
    ".lora_A.weight": "down",
    ".lora_A": "down",
    ".lora_down.weight": "down",
    ".lora.down.weight": "down",
    ".lora_B.default.weight": "up",
    ".lora_B.weight": "up",
    ".lora_B": "up",
    ".lora_up.weight": "up",
    ".lora.up.weight": "up",
    ".lora_magnitude_vector.default.weight": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",
    ".lora_magnitude_vector": "magnitude",
    ".lora_alpha": "alpha",
    ".alpha": "alpha",
}
# Whole changes of a parameter, as extracted adapters have them beside the pairs.
_CHANGES = {".diff": "weight", ".diff_b": "bias", ".diff_m": "modulation"}

_NORMS = {
    "self_attn.norm_q": "attn1.norm_q",
    "self_attn.norm_k": "attn1.norm_k",
    "cross_attn.norm_q": "attn2.norm_q",
    "cross_attn.norm_k": "attn2.norm_k",
    "norm3": "norm2",
}
_MODULATIONS = ("modulation.weight", "head.modulation.weight", "modulation", "head.modulation")


@dataclass(frozen=True)
class TensorRole:
    """What a tensor is.

    ``target``: diffusers' name of the layer that a half, an alpha or the magnitudes of a DoRA
    belong to, or of the parameter that a change is added to. ``prefix``: what comes before the
    layer's name in the file.
    """

    prefix: str
    target: str
    part: Part


def tensor_role(name: str) -> TensorRole | None:
    """Return what a tensor is; None for one that cannot be applied to a transformer."""
    prefix = next((some for some in _PREFIXES if name.startswith(some)), "")
    rest = name.removeprefix(prefix)
    for suffix, part in _HALVES.items():
        if rest.endswith(suffix):
            layer = diffusers_layer_name(rest.removesuffix(suffix))
            return None if layer is None else TensorRole(prefix, layer, part)
    for suffix, kind in _CHANGES.items():
        if rest.endswith(suffix):
            parameter = _parameter_name(f"{rest.removesuffix(suffix)}.{kind}")
            return None if parameter is None else TensorRole(prefix, parameter, "change")
    return None


def _parameter_name(name: str) -> str | None:
    """Return diffusers' name of a parameter that Wan's own code or diffusers names with dots."""
    block, tail = split_layer(name)
    if tail in _MODULATIONS:
        return f"{block}scale_shift_table"
    layer, _, kind = tail.rpartition(".")
    if kind not in ("weight", "bias"):
        return None
    if not block and layer == "patch_embedding":
        return name
    if block and (layer in _NORMS or layer in _NORMS.values()):
        return f"{block}{_NORMS.get(layer, layer)}.{kind}"
    known = diffusers_layer_name(f"{block}{layer}")
    return None if known is None else f"{known}.{kind}"
