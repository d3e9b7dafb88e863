"""Random weights for small networks, saved with the file layout and tensor names of the real ones.

Every value is derived from its tensor's name, so upstream's own code can be given the same tensors
to compute the values that the tests compare with (``GOLDEN`` in test_networks.py).
"""

from __future__ import annotations

import gzip
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mimix_core.benchmark.vbench import vbench_weights
from tests.benchmark.vbench import random_inputs

LAION_WIDTH = 768
TEXT_LENGTH, VOCABULARY = 32, 49408


@dataclass(frozen=True)
class Encoder:
    """Sizes of one network."""

    width: int
    layers: int


@dataclass(frozen=True)
class Sizes:
    """Sizes of all networks. ``words``: vocabulary of CLIP's text encoder, which is not loaded."""

    base: Encoder
    large: Encoder
    text: Encoder
    out: int
    words: int


TINY = Sizes(Encoder(128, 2), Encoder(128, 2), Encoder(64, 2), 64, 64)
FULL = Sizes(Encoder(768, 12), Encoder(1024, 24), Encoder(768, 12), 512, 64)
"""The real sizes, except for `words`. ViCLIP's embeddings are as wide as LAION's."""


def tensor_from_name(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Derive a tensor from its name: matrices preserve their input's scale, norms are about 1.

    Large tensors repeat after a prime number of values.
    """
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(65521)
    numbers = np.resize(values, shape)
    if "embed" in name and "proj" not in name:
        numbers *= 0.3
    elif len(shape) > 1:
        fan_in = shape[0] if name.endswith(("proj", "projection")) else int(np.prod(shape[1:]))
        numbers *= fan_in**-0.5
    elif name.endswith("weight"):
        numbers = 1 + 0.1 * numbers
    else:
        numbers *= 0.1
    return torch.from_numpy(numbers).float()


def transformer(prefix: str, encoder: Encoder) -> dict[str, tuple[int, ...]]:
    """List the shapes of a CLIP transformer's tensors."""
    shapes: dict[str, tuple[int, ...]] = {}
    width = encoder.width
    for layer in range(encoder.layers):
        block = f"{prefix}transformer.resblocks.{layer}."
        shapes |= {
            f"{block}attn.in_proj_weight": (3 * width, width),
            f"{block}attn.in_proj_bias": (3 * width,),
            f"{block}attn.out_proj.weight": (width, width),
            f"{block}attn.out_proj.bias": (width,),
            f"{block}ln_1.weight": (width,),
            f"{block}ln_1.bias": (width,),
            f"{block}mlp.c_fc.weight": (4 * width, width),
            f"{block}mlp.c_fc.bias": (4 * width,),
            f"{block}mlp.c_proj.weight": (width, 4 * width),
            f"{block}mlp.c_proj.bias": (width,),
            f"{block}ln_2.weight": (width,),
            f"{block}ln_2.bias": (width,),
        }
    return shapes


def image_encoder(
    prefix: str, encoder: Encoder, patch: int, out: int
) -> dict[str, tuple[int, ...]]:
    """List the shapes of CLIP's image encoder."""
    width, tokens = encoder.width, (224 // patch) ** 2 + 1
    return {
        f"{prefix}class_embedding": (width,),
        f"{prefix}positional_embedding": (tokens, width),
        f"{prefix}proj": (width, out),
        f"{prefix}conv1.weight": (width, 3, patch, patch),
        **{f"{prefix}ln_{n}.{k}": (width,) for n in ("pre", "post") for k in ("weight", "bias")},
        **transformer(prefix, encoder),
    }


def text_encoder(
    prefix: str, encoder: Encoder, length: int, words: int, out: int
) -> dict[str, tuple[int, ...]]:
    """List the shapes of CLIP's text encoder."""
    width = encoder.width
    return {
        f"{prefix}positional_embedding": (length, width),
        f"{prefix}text_projection": (width, out),
        f"{prefix}token_embedding.weight": (words, width),
        f"{prefix}ln_final.weight": (width,),
        f"{prefix}ln_final.bias": (width,),
        **transformer(prefix, encoder),
    }


def clip(sizes: Sizes, encoder: Encoder, patch: int, out: int) -> dict[str, torch.Tensor]:
    """Create all tensors of a released CLIP file."""
    shapes = image_encoder("visual.", encoder, patch, out)
    shapes |= text_encoder("", sizes.text, 77, sizes.words, out)
    return {
        name: tensor_from_name(name, shape)
        for name, shape in (shapes | {"logit_scale": ()}).items()
    }


def viclip(sizes: Sizes) -> dict[str, torch.Tensor]:
    """Create ViCLIP's tensors."""
    out = LAION_WIDTH if sizes is FULL else sizes.out
    shapes = image_encoder("vision_encoder.", sizes.large, 14, out)
    shapes["vision_encoder.conv1.weight"] = (sizes.large.width, 3, 1, 14, 14)
    shapes["vision_encoder.temporal_positional_embedding"] = (1, 8, sizes.large.width)
    shapes |= text_encoder("text_encoder.", sizes.text, TEXT_LENGTH, VOCABULARY, out)
    return {name: tensor_from_name(name, shape) for name, shape in (shapes | {"temp": ()}).items()}


def dino(sizes: Sizes) -> dict[str, torch.Tensor]:
    """Create DINO's tensors."""
    width = sizes.base.width
    shapes: dict[str, tuple[int, ...]] = {
        "cls_token": (1, 1, width),
        "pos_embed": (1, 14 * 14 + 1, width),
        "patch_embed.proj.weight": (width, 3, 16, 16),
        "patch_embed.proj.bias": (width,),
        "norm.weight": (width,),
        "norm.bias": (width,),
    }
    for layer in range(sizes.base.layers):
        block = f"blocks.{layer}."
        shapes |= {
            **{f"{block}norm{n}.{k}": (width,) for n in (1, 2) for k in ("weight", "bias")},
            f"{block}attn.qkv.weight": (3 * width, width),
            f"{block}attn.qkv.bias": (3 * width,),
            f"{block}attn.proj.weight": (width, width),
            f"{block}attn.proj.bias": (width,),
            f"{block}mlp.fc1.weight": (4 * width, width),
            f"{block}mlp.fc1.bias": (4 * width,),
            f"{block}mlp.fc2.weight": (width, 4 * width),
            f"{block}mlp.fc2.bias": (width,),
        }
    return {name: tensor_from_name(name, shape) for name, shape in shapes.items()}


def laion() -> dict[str, torch.Tensor]:
    """Create the rating head's tensors."""
    shapes = {"weight": (1, LAION_WIDTH), "bias": (1,)}
    return {name: 100 * tensor_from_name(f"laion.{name}", shape) for name, shape in shapes.items()}


def write_vocabulary(path: Path) -> None:
    """Write a file like CLIP's: a few real merges, then merges that never occur in a text."""
    merges = ["t h", "th e</w>", "c a", "ca t</w>", "d o", "do g</w>", "r u", "ru n", "run s</w>"]
    letters = [chr(c) for c in range(0x100, 0x144)]
    strange = (f"{a} {b}{c}{d}" for a in letters for b in letters for c in letters for d in "xyz")
    merges += [next(strange) for _ in range(49152 - 256 - 2 - len(merges))]
    # mtime: the same bytes each time.
    path.write_bytes(gzip.compress("\n".join(["#version: 0.2", *merges, ""]).encode(), mtime=0))


class _Holder(nn.Module):
    """A module that only holds tensors, to save them as TorchScript does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def save_torchscript(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Save tensors as a TorchScript archive, as OpenAI released CLIP."""
    root = _Holder()
    for name, tensor in tensors.items():
        *modules, leaf = name.split(".")
        holder: nn.Module = root
        for module in modules:
            if module not in dict(holder.named_children()):
                holder.add_module(module, _Holder())
            holder = holder.get_submodule(module)
        holder.register_parameter(leaf, nn.Parameter(tensor, requires_grad=False))
    torch.jit.trace(root, torch.zeros(1)).save(str(path))


@cache
def write_weights_cache(folder: Path, sizes: Sizes = TINY) -> Path:
    """Write ``folder`` as VBench's cache, without RAFT, AMT and MUSIQ."""
    for name in vbench_weights.SOURCES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    save_torchscript(clip(sizes, sizes.base, 32, sizes.out), folder / vbench_weights.CLIP_B)
    save_torchscript(clip(sizes, sizes.large, 14, LAION_WIDTH), folder / vbench_weights.CLIP_L)
    torch.save(laion(), folder / vbench_weights.LAION)
    torch.save(dino(sizes), folder / vbench_weights.DINO)
    torch.save({"model": viclip(sizes)}, folder / vbench_weights.VICLIP)
    write_vocabulary(folder / vbench_weights.VOCABULARY)
    return folder


def write_motion_weights(folder: Path) -> None:
    """Add random weights of RAFT, AMT and MUSIQ, in their real sizes."""
    for name, network, key, prefix in (
        (vbench_weights.RAFT, "raft", "", "module."),
        (vbench_weights.AMT, "amt", "state_dict", ""),
        (vbench_weights.MUSIQ, "musiq", "", ""),
    ):
        tensors = random_inputs.random_weights(random_inputs.upstream_shapes(network), 0)
        named = {prefix + tensor: value for tensor, value in tensors.items()}
        torch.save({key: named} if key else named, folder / name)
