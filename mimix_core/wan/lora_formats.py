"""The layouts of LoRA files: which name each program gives a layer, and how it writes alpha.

``diffusers``: ``transformer.blocks.0.attn1.to_q.lora_A.weight``; alpha in the file's metadata.
``comfyui``: ``diffusion_model.blocks.0.self_attn.q.lora_down.weight``, layers named as in Wan's own
code; ``.alpha`` beside them (ComfyUI, comfy/lora.py and comfy/weight_adapter/lora.py).
``kohya``: ``lora_unet_blocks_0_self_attn_q.lora_down.weight`` and ``.alpha``, as musubi-tuner's
networks/lora.py writes and reads it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from mimix_core.errors import BadInput

if TYPE_CHECKING:
    import torch


class Layout(StrEnum):
    """Who reads the file."""

    DIFFUSERS = "diffusers"
    COMFYUI = "comfyui"
    KOHYA = "kohya"


PREFIX = {
    Layout.DIFFUSERS: "transformer.",
    Layout.COMFYUI: "diffusion_model.",
    Layout.KOHYA: "lora_unet_",
}

_IN_BLOCKS = {
    "attn1.to_q": "self_attn.q",
    "attn1.to_k": "self_attn.k",
    "attn1.to_v": "self_attn.v",
    "attn1.to_out.0": "self_attn.o",
    "attn2.to_q": "cross_attn.q",
    "attn2.to_k": "cross_attn.k",
    "attn2.to_v": "cross_attn.v",
    "attn2.to_out.0": "cross_attn.o",
    "ffn.net.0.proj": "ffn.0",
    "ffn.net.2": "ffn.2",
}
_OUTSIDE = {
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "condition_embedder.text_embedder.linear_2": "text_embedding.2",
    "condition_embedder.time_embedder.linear_1": "time_embedding.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "proj_out": "head.head",
}
_NAMES = _IN_BLOCKS | _OUTSIDE
_BACK = {theirs: ours for ours, theirs in _NAMES.items()}
_BACK_FLAT = {theirs.replace(".", "_"): ours for ours, theirs in _NAMES.items()}

_BLOCK = re.compile(r"(blocks\.\d+\.)?(.+)")
_BLOCK_FLAT = re.compile(r"(?:blocks_(\d+)_)?(.+)")
_PART = re.compile(r"(?P<layer>.+)\.(?P<part>lora_A|lora_B|lora_down|lora_up|alpha)(\.weight)?")
_DOWN, _UP = ("lora_A", "lora_down"), ("lora_B", "lora_up")


@dataclass(frozen=True)
class Adapter:
    """A LoRA: by layer (diffusers' name) the pair (down [R, inputs], up [outputs, R]).

    Its output is scaled by alpha / rank; rank is the same in all layers.
    """

    pairs: Mapping[str, tuple[torch.Tensor, torch.Tensor]]
    alpha: float

    @property
    def rank(self) -> int:
        return min(len(down) for down, _ in self.pairs.values())

    @property
    def targets(self) -> list[str]:
        """The layers without their block's number."""
        return sorted({_BLOCK.fullmatch(layer)[2] for layer in self.pairs})  # type: ignore[index]


def tensors_of(adapter: Adapter, layout: Layout) -> dict[str, torch.Tensor]:
    """The tensors of a file in that layout; the weights' bits are untouched.

    ComfyUI and diffusers take alpha as the rank where none is given; diffusers' reader of ComfyUI
    files refuses it outside the blocks. So there it is written only if it says something. Raises
    BadInput for a layer that Wan's own code does not have.
    """
    import torch

    written = {}
    for layer, (down, up) in adapter.pairs.items():
        name = PREFIX[layout] + _name(layer, layout)
        first, second = ("lora_A", "lora_B") if layout is Layout.DIFFUSERS else _KOHYA_PARTS
        written[f"{name}.{first}.weight"] = down
        written[f"{name}.{second}.weight"] = up
        if layout is Layout.KOHYA or (layout is Layout.COMFYUI and adapter.alpha != adapter.rank):
            written[f"{name}.alpha"] = torch.tensor(float(adapter.alpha))
    return written


_KOHYA_PARTS = ("lora_down", "lora_up")


def layout_of(names: Mapping[str, object], where: str) -> Layout:
    """The layout that all tensor names of a file follow. Raises BadInput when there is none."""
    for layout, prefix in PREFIX.items():
        if names and all(name.startswith(prefix) for name in names):
            return layout
    example = min(names, default="nothing")
    raise BadInput(
        f"is not a LoRA of Wan: it holds {example}",
        where=where,
        fix=f"Give a file in one of the layouts {', '.join(Layout)}.",
    )


def adapter_of(found: Mapping[str, torch.Tensor], alpha: float | None, where: str) -> Adapter:
    """The adapter in a file's tensors; ``alpha`` is what the file's metadata says, if it does.

    Raises BadInput for a layer of another model, one half of a pair, or mixed ranks or alphas.
    """
    layout = layout_of(found, where)
    downs: dict[str, torch.Tensor] = {}
    ups: dict[str, torch.Tensor] = {}
    alphas: dict[str, float] = {}
    for name, tensor in found.items():
        match = _PART.fullmatch(name.removeprefix(PREFIX[layout]))
        layer = match and _layer(match["layer"], layout)
        if match is None or layer is None:
            raise BadInput(f"is not a LoRA of Wan: it holds {name}", where=where)
        if match["part"] in _DOWN:
            downs[layer] = tensor
        elif match["part"] in _UP:
            ups[layer] = tensor
        else:
            alphas[layer] = float(tensor)
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
    return Adapter(pairs, scales.pop())


def _name(layer: str, layout: Layout) -> str:
    """A layer's name in a layout. Raises BadInput."""
    if layout is Layout.DIFFUSERS:
        return layer
    block, tail = _BLOCK.fullmatch(layer).groups(default="")  # type: ignore[union-attr]
    if tail not in (_IN_BLOCKS if block else _OUTSIDE):
        raise BadInput(
            f"layer {layer} has no name in Wan's own code",
            where="settings, key lora.targets",
            fix="Only diffusers can load this adapter.",
        )
    name = f"{block}{_NAMES[tail]}"
    return name.replace(".", "_") if layout is Layout.KOHYA else name


def _layer(name: str, layout: Layout) -> str | None:
    """diffusers' name of a layer; None when it is no layer of Wan's."""
    if layout is Layout.DIFFUSERS:
        block, tail = _BLOCK.fullmatch(name).groups(default="")  # type: ignore[union-attr]
        return name if tail in (_IN_BLOCKS if block else _OUTSIDE) else None
    if layout is Layout.KOHYA:
        number, tail = _BLOCK_FLAT.fullmatch(name).groups()  # type: ignore[union-attr]
        block, ours = "" if number is None else f"blocks.{number}.", _BACK_FLAT.get(tail)
    else:
        block, tail = _BLOCK.fullmatch(name).groups(default="")  # type: ignore[union-attr]
        ours = _BACK.get(tail)
    return None if ours is None or ours not in (_IN_BLOCKS if block else _OUTSIDE) else block + ours
