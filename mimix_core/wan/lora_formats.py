"""Layouts of LoRA files: how each program names layers and stores alpha.

``diffusers``: ``transformer.blocks.0.attn1.to_q.lora_A.weight``; alpha in the file's metadata.
``comfyui``: ``diffusion_model.blocks.0.self_attn.q.lora_A.weight``, layers named as in Wan's own
code, without an alpha: what ComfyUI, diffusion-pipe, DiffSynth-Studio, FastVideo and LightX2V read.
LTX-Video's authors name the layers of blocks as diffusers does.
``kohya``: ``lora_unet_blocks_0_self_attn_q.lora_down.weight`` and ``.alpha``, as musubi-tuner's
networks/lora.py writes and reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from mimix_core.errors import BadInput
from mimix_core.wan import layer_names
from mimix_core.wan.layer_names import Architecture

if TYPE_CHECKING:
    import torch


class AdapterLayout(StrEnum):
    """The program family that reads the file."""

    DIFFUSERS = "diffusers"
    COMFYUI = "comfyui"
    KOHYA = "kohya"


class AdapterDtype(StrEnum):
    """The data type of an exported adapter's weights."""

    BF16 = "bf16"
    FP16 = "fp16"
    FP32 = "fp32"


PREFIX = {
    AdapterLayout.DIFFUSERS: "transformer.",
    AdapterLayout.COMFYUI: "diffusion_model.",
    AdapterLayout.KOHYA: "lora_unet_",
}

_MAGNITUDE = "lora_magnitude_vector"
_PARTS = f"lora_A|lora_B|lora_down|lora_up|alpha|{_MAGNITUDE}"
_PART = re.compile(rf"(?P<layer>.+)\.(?P<part>{_PARTS})(\.weight)?")
_DOWN, _UP = ("lora_A", "lora_down"), ("lora_B", "lora_up")
_DOWN_UP = (_DOWN[1], _UP[1])


@dataclass(frozen=True)
class Adapter:
    """A LoRA as pairs (down [R, inputs], up [outputs, R]) by layer, named as in diffusers.

    Its output is scaled by alpha / rank; all layers have the same rank. ``magnitudes``: of a DoRA,
    for each output of each layer ([outputs]); a LoRA has none. ``changes``: tensors that are added
    to whole parameters, such as biases and norms; MiMix trains none, but distilled adapters of
    other programs have them.
    """

    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    alpha: float
    magnitudes: Mapping[str, torch.Tensor] = field(default_factory=dict)
    changes: Mapping[str, torch.Tensor] = field(default_factory=dict)

    @property
    def rank(self) -> int:
        return min(len(down) for down, _ in self.pairs.values())

    def is_finite(self, layer: str) -> bool:
        """Return whether no weight of a layer is NaN or Inf."""
        weights = [*self.pairs[layer]]
        if layer in self.magnitudes:
            weights.append(self.magnitudes[layer])
        # In fp32, since PyTorch does not ask it of 8-bit numbers.
        return all(bool(weight.float().isfinite().all()) for weight in weights)

    def parameter(self, name: str) -> torch.Tensor:
        """Return the value of a model's adapter parameter, by peft's name."""
        layer, _, part = name.rpartition(".lora_")
        if part.startswith("magnitude"):
            return self.magnitudes[layer]
        return self.pairs[layer][part.startswith("B")]

    @property
    def outside_blocks(self) -> list[str]:
        """Return the layers that belong to no block."""
        return [layer for layer in sorted(self.pairs) if not layer_names.split_layer(layer)[0]]

    @property
    def targets(self) -> list[str]:
        """Return the layer names without block numbers."""
        return sorted({layer_names.split_layer(layer)[1] for layer in self.pairs})


def fold_alpha(adapter: Adapter) -> Adapter:
    """Multiply each ``up`` by alpha / rank, so that alpha is the rank.

    The product changes by the rounding of fp32 alone, and not at all for a power of two.
    """
    scale = adapter.alpha / adapter.rank
    if scale == 1:
        return adapter
    pairs = {layer: (down, up.float() * scale) for layer, (down, up) in adapter.pairs.items()}
    return Adapter(pairs, float(adapter.rank))


def adapter_to_tensors(adapter: Adapter, layout: AdapterLayout) -> dict[str, torch.Tensor]:
    """Return the tensors of a file in that layout.

    The weights are unchanged, except that ComfyUI's layout has alpha in them (``fold_alpha``): of
    its readers FastVideo ignores an alpha, diffusion-pipe refuses it, and diffusers refuses it
    outside the blocks. Raises BadInput for a layer that the authors' own code does not have. Also
    in kohya's layout for one outside the blocks, whose readers drop it, or of another model than
    Wan.
    """
    import torch

    tensors = {}
    outside = adapter.outside_blocks
    architecture = layer_names.find_architecture(adapter.pairs)
    if layout is AdapterLayout.KOHYA and not architecture.flat_names:
        raise BadInput(
            f"it is an adapter of {architecture.title}, which musubi-tuner does not have",
            where="settings, key backbone.name",
            fix="Export it for comfyui or diffusers.",
        )
    if layout is AdapterLayout.KOHYA and outside:
        raise BadInput(
            f"{len(outside)} of {len(adapter.pairs)} layers are outside the blocks, where "
            f"musubi-tuner adapts none and drops them: {', '.join(outside)}",
            where="settings, key lora.target_modules",
            fix="Export it for comfyui or diffusers, or train without these layers.",
        )
    if adapter.magnitudes and layout is not AdapterLayout.DIFFUSERS:
        raise BadInput(
            f"it is a DoRA, whose magnitudes have no name in the layout {layout.value} that its "
            "readers agree on",
            where="settings, key lora.use_dora",
            fix="Export it with --format diffusers, or train without lora.use_dora.",
        )
    if layout is AdapterLayout.COMFYUI:
        adapter = fold_alpha(adapter)
    first, second = _DOWN_UP if layout is AdapterLayout.KOHYA else ("lora_A", "lora_B")
    for layer, (down, up) in adapter.pairs.items():
        name = PREFIX[layout] + _layout_name(layer, layout, architecture)
        tensors[f"{name}.{first}.weight"] = down
        tensors[f"{name}.{second}.weight"] = up
        if layout is AdapterLayout.KOHYA:
            tensors[f"{name}.alpha"] = torch.tensor(float(adapter.alpha))
        if layer in adapter.magnitudes:
            tensors[f"{name}.{_MAGNITUDE}"] = adapter.magnitudes[layer]
    return tensors


def detect_layout(names: Mapping[str, object], where: str) -> AdapterLayout:
    """Detect the layout from the tensor names of a file. Raises BadInput when none fits."""
    for layout, prefix in PREFIX.items():
        if names and all(name.startswith(prefix) for name in names):
            return layout
    example = min(names, default="nothing")
    raise BadInput(
        f"not a LoRA of Wan or LTX-Video: it contains {example}",
        where=where,
        fix=f"Give a file in one of the layouts {', '.join(AdapterLayout)}.",
    )


def adapter_from_tensors(
    tensors: Mapping[str, torch.Tensor], alpha: float | None, where: str
) -> Adapter:
    """Build the adapter from a file's tensors; ``alpha`` is the value in its metadata, if any.

    Raises BadInput for a layer of another model, an incomplete pair, or mixed ranks or alphas.
    """
    layout = detect_layout(tensors, where)
    downs: dict[str, torch.Tensor] = {}
    ups: dict[str, torch.Tensor] = {}
    alphas: dict[str, float] = {}
    magnitudes: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        match = _PART.fullmatch(name.removeprefix(PREFIX[layout]))
        layer = match and match["layer"]
        # Any model's layers may have an adapter, and in this layout they are its own names.
        if layer is not None and layout is not AdapterLayout.DIFFUSERS:
            layer = _diffusers_name(layer, layout)
        if match is None or layer is None:
            raise BadInput(f"not a LoRA of Wan or LTX-Video: it contains {name}", where=where)
        if match["part"] in _DOWN:
            downs[layer] = tensor
        elif match["part"] in _UP:
            ups[layer] = tensor
        elif match["part"] == _MAGNITUDE:
            magnitudes[layer] = tensor
        else:
            if tensor.numel() != 1 or tensor.is_complex():
                raise BadInput(f"{name} is not one number", where=where)
            alphas[layer] = float(tensor)
    if magnitudes and set(magnitudes) != set(downs):
        layer = min(set(magnitudes) ^ set(downs))
        raise BadInput(
            f"layer {layer} has only one of a pair and a magnitude, but others have both",
            where=where,
        )
    if set(downs) != set(ups) or not set(alphas) <= set(downs):
        layer = min(set(downs) ^ set(ups) | (set(alphas) - set(downs)))
        raise BadInput(f"layer {layer} has only one half of its pair", where=where)
    ranks = {len(down) for down in downs.values()} | {up.shape[1] for up in ups.values()}
    scales = set(alphas.values()) or {float(min(ranks)) if alpha is None else alpha}
    if len(ranks) > 1 or len(scales) > 1 or 0 < len(alphas) < len(downs):
        raise BadInput(
            f"its layers differ in rank ({sorted(ranks)}) or alpha ({sorted(scales)})", where=where
        )
    pairs = {layer: (downs[layer], ups[layer]) for layer in sorted(downs)}
    magnitudes = {layer: magnitudes[layer] for layer in sorted(magnitudes)}
    return Adapter(pairs, scales.pop(), magnitudes=magnitudes)


def _layout_name(layer: str, layout: AdapterLayout, architecture: Architecture) -> str:
    """Return a layer's name in a layout. Raises BadInput."""
    if layout is AdapterLayout.DIFFUSERS:
        return layer
    name = layer_names.own_name(layer, architecture)
    if name is None:
        raise BadInput(
            f"layer {layer} has no name in {architecture.title}'s own code",
            where="settings, key lora.target_modules",
            fix="Only diffusers can load this adapter.",
        )
    return name.replace(".", "_") if layout is AdapterLayout.KOHYA else name


def adapter_from_pairs(pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]) -> Adapter:
    """Build an adapter from pairs of any ranks whose products are the changes of the weights.

    Smaller ranks are filled up with zeros, because all layers of an adapter have the same rank.
    """
    import torch.nn.functional

    rank = max(len(down) for down, _ in pairs.values())
    pad = torch.nn.functional.pad
    same_rank = {
        layer: (pad(down, (0, 0, 0, rank - len(down))), pad(up, (0, rank - len(down))))
        for layer, (down, up) in sorted(pairs.items())
    }
    return Adapter(same_rank, float(rank))


def sum_adapters(parts: Sequence[tuple[Adapter, float]]) -> Adapter:
    """Return one adapter, in fp32, that changes the weights by the weighted sum of the parts.

    Its rank is the largest sum of ranks that a layer has: the parts' matrices are put side by side.
    Raises BadInput for a DoRA, whose magnitudes scale the weights as a whole.
    """
    import torch

    if any(adapter.magnitudes for adapter, _ in parts):
        raise BadInput(
            "a DoRA cannot be added to other adapters, nor used at another strength than 1",
            where="settings, keys samples.adapters and samples.adapter_weight",
            fix="Leave them out, or train without lora.use_dora.",
        )

    halves: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    changes: dict[str, torch.Tensor] = {}
    for adapter, weight in parts:
        scale = weight * adapter.alpha / adapter.rank
        for layer, (down, up) in adapter.pairs.items():
            halves.setdefault(layer, []).append((down.float(), up.float() * scale))
        for name, change in adapter.changes.items():
            changes[name] = changes.get(name, 0.0) + weight * change.float()
    summed = adapter_from_pairs(
        {
            layer: (torch.cat([down for down, _ in some]), torch.cat([up for _, up in some], dim=1))
            for layer, some in halves.items()
        }
    )
    return replace(summed, changes=changes)


def diffusers_layer_name(name: str) -> str | None:
    """Return diffusers' name of a layer that any program's file names; None if no model has it.

    ``name`` has no prefix: ``blocks.0.attn1.to_q``, ``blocks.0.self_attn.q`` or
    ``blocks_0_self_attn_q``.
    """
    found = (_diffusers_name(name, layout) for layout in AdapterLayout)
    return next((layer for layer in found if layer is not None), None)


def _diffusers_name(name: str, layout: AdapterLayout) -> str | None:
    """Return diffusers' name of a layer; None for a layer that no architecture has."""
    if not name:
        return None
    if layout is AdapterLayout.DIFFUSERS:
        return name if layer_names.is_layer(name) else None
    if layout is AdapterLayout.KOHYA:
        return layer_names.layer_of_flat_name(name)
    return layer_names.layer_of_own_name(name)
