"""Names of a transformer's layers in diffusers and in the code of its authors.

Programs of Wan's and LTX-Video's users name layers in a LoRA file by either. LTX-Video's blocks
have the same names in both.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """An architecture's layers: the authors' names by diffusers' names, without block numbers.

    ``blocks``: the list of its blocks. ``flat_names``: whether programs read its layers with
    underscores in the place of dots, as kohya's tools name them.
    """

    title: str
    blocks: str
    in_blocks: Mapping[str, str]
    outside_blocks: Mapping[str, str]
    flat_names: bool


WAN = Architecture(
    title="Wan",
    blocks="blocks",
    in_blocks={
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
    },
    outside_blocks={
        "condition_embedder.text_embedder.linear_1": "text_embedding.0",
        "condition_embedder.text_embedder.linear_2": "text_embedding.2",
        "condition_embedder.time_embedder.linear_1": "time_embedding.0",
        "condition_embedder.time_embedder.linear_2": "time_embedding.2",
        "condition_embedder.time_proj": "time_projection.1",
        "proj_out": "head.head",
    },
    flat_names=True,
)

_LTX_IN_BLOCKS = (
    *(f"{attention}.{layer}" for attention in ("attn1", "attn2") for layer in ("to_q", "to_k")),
    *(f"{attention}.{layer}" for attention in ("attn1", "attn2") for layer in ("to_v", "to_out.0")),
    "ff.net.0.proj",
    "ff.net.2",
)

LTX = Architecture(
    title="LTX-Video",
    blocks="transformer_blocks",
    in_blocks={name: name for name in _LTX_IN_BLOCKS},
    outside_blocks={
        "proj_in": "patchify_proj",
        "time_embed.emb.timestep_embedder.linear_1": "adaln_single.emb.timestep_embedder.linear_1",
        "time_embed.emb.timestep_embedder.linear_2": "adaln_single.emb.timestep_embedder.linear_2",
        "time_embed.linear": "adaln_single.linear",
        "caption_projection.linear_1": "caption_projection.linear_1",
        "caption_projection.linear_2": "caption_projection.linear_2",
        "proj_out": "proj_out",
    },
    flat_names=False,
)

_ARCHITECTURES = (WAN, LTX)
_BLOCK = re.compile(r"((?:transformer_)?blocks\.\d+\.)?(.+)")
_BLOCK_FLAT = re.compile(r"(?:blocks_(\d+)_)?(.+)")
_WAN_FLAT = {
    own.replace(".", "_"): name
    for names in (WAN.in_blocks, WAN.outside_blocks)
    for name, own in names.items()
}


def split_layer(layer: str) -> tuple[str, str]:
    """Split a layer's name into its block, such as ``blocks.0.`` or empty, and the rest."""
    match = _BLOCK.fullmatch(layer)
    assert match is not None
    return match[1] or "", match[2]


def find_architecture(layers: Iterable[str]) -> Architecture:
    """Return the architecture of layers by diffusers' names; Wan's if nothing tells."""
    for layer in layers:
        block, tail = split_layer(layer)
        only_there = tail in LTX.outside_blocks and tail not in WAN.outside_blocks
        if block.startswith(f"{LTX.blocks}.") or (not block and only_there):
            return LTX
    return WAN


def is_layer(name: str) -> bool:
    """Return whether a name is diffusers' name of a layer that is known here."""
    return any(tail in names for names, tail in _candidates(name))


def own_name(layer: str, architecture: Architecture) -> str | None:
    """Return the authors' name of a layer by diffusers' name; None if they have no such layer."""
    block, tail = split_layer(layer)
    if block and not block.startswith(f"{architecture.blocks}."):
        return None
    names = architecture.in_blocks if block else architecture.outside_blocks
    return f"{block}{names[tail]}" if tail in names else None


def layer_of_own_name(name: str) -> str | None:
    """Return diffusers' name of a layer by the authors' name; None if no architecture has it."""
    block, tail = split_layer(name)
    for names, _ in _candidates(name):
        for layer, own in names.items():
            if own == tail:
                return f"{block}{layer}"
    return None


def layer_of_flat_name(name: str) -> str | None:
    """Return diffusers' name of a layer by the authors' name with underscores for dots."""
    match = _BLOCK_FLAT.fullmatch(name)
    assert match is not None
    layer = _WAN_FLAT.get(match[2])
    if layer is None or layer not in (WAN.outside_blocks if match[1] is None else WAN.in_blocks):
        return None
    return layer if match[1] is None else f"blocks.{match[1]}.{layer}"


def _candidates(name: str) -> list[tuple[Mapping[str, str], str]]:
    """Return the names that each architecture has where a layer is, with its name there."""
    block, tail = split_layer(name)
    return [
        (one.in_blocks if block else one.outside_blocks, tail)
        for one in _ARCHITECTURES
        if not block or block.startswith(f"{one.blocks}.")
    ]
