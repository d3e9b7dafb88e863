"""Target: LoRA files, in the layouts of all programs."""

from __future__ import annotations

import contextlib
import json
import math
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import typer

from flows import lora_cli
from mimix_core.wan import model_registry
from mimix_core.wan.generation_adapters import read_any_adapter
from tests.fuzz.mutations import spoil_bytes, spoil_value
from tests.fuzz.target import Target

_ODD_FLOATS = (0.0, -0.0, -4.0, 1e7, 1e38, 1e-40, float("inf"), float("-inf"), float("nan"))
_RANK = 2
_SHAPE = (96, 96)
_DIFFUSERS, _OWN = "blocks.0.attn1.to_q", "blocks.0.self_attn.q"
_FLAT = _OWN.replace(".", "_")

_LAYOUTS = (
    ("transformer.{}.lora_A.weight", "transformer.{}.lora_B.weight", "", _DIFFUSERS),
    ("diffusion_model.{}.lora_down.weight", "diffusion_model.{}.lora_up.weight", ".alpha", _OWN),
    ("diffusion_model.{}.lora_A.weight", "diffusion_model.{}.lora_B.weight", ".lora_alpha", _OWN),
    ("lora_unet_{}.lora_down.weight", "lora_unet_{}.lora_up.weight", ".alpha", _FLAT),
    ("{}.lora_A.default.weight", "{}.lora_B.default.weight", "", _OWN),
    ("transformer.{}.lora.down.weight", "transformer.{}.lora.up.weight", "", _DIFFUSERS),
)
"""Names of the two halves, the ending of alpha's name, and the layer's name."""

_OF_DIFFUSERS = {
    "lora_adapter_metadata": json.dumps(
        {
            "transformer.r": _RANK,
            "transformer.lora_alpha": 4,
            "transformer.alpha_pattern": {"to_k": 2.0},
            "transformer.use_rslora": True,
        }
    )
}
_OF_MIMIX = {
    "mimix": json.dumps(
        {
            "base": "tiny-random-wan",
            "base_sha256": "ab" * 32,
            "rank": _RANK,
            "alpha": 4.0,
            "targets": ["attn1.to_q"],
            "characters": ["Bunny"],
            "styles": ["cartoon"],
            "dataset_sha256": "cd" * 32,
            "settings": {"rank": 2, "alpha": 4.0, "nested": {"a": [1]}},
            "forgetting": {"Tom": 0.1},
            "step": 3,
        }
    )
}


def adapter_bytes(layout: int, metadata: dict[str, str] | None = None) -> bytes:
    """Return an adapter of one layer in one of the layouts."""
    down, up, alpha, layer = _LAYOUTS[layout]
    tensors = {
        down.format(layer): np.full((_RANK, _SHAPE[1]), 0.1, "<f4"),
        up.format(layer): np.full((_SHAPE[0], _RANK), 0.2, "<f4"),
    }
    if alpha:
        prefix = down.partition("{}")[0]
        tensors[f"{prefix}{layer}{alpha}"] = np.array(4.0, "<f4")
    header: dict[str, Any] = {} if metadata is None else {"__metadata__": metadata}
    body = b""
    for name, values in tensors.items():
        begin, body = len(body), body + values.tobytes()
        offsets = [begin, len(body)]
        header[name] = {"dtype": "F32", "shape": list(values.shape), "data_offsets": offsets}
    return join_file(json.dumps(header).encode(), body)


def join_file(header: bytes, body: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header + body


def spoil_tensors(data: bytes, rng: Random) -> bytes:
    """Spoil a safetensors file: its header, its metadata, its weights, or any of its bytes."""
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    try:
        document = json.loads(header)
    except (ValueError, RecursionError):
        return spoil_bytes(data, rng)
    match rng.randrange(10):
        case 0:
            return spoil_bytes(data, rng)
        case 1:
            return join_file(spoil_bytes(header, rng), body)
        case 2:
            return join_file(header, spoil_bytes(body, rng))
        case 3:
            number = np.array(rng.choice(_ODD_FLOATS), "<f4")
            return join_file(header, body[:-4] + number.tobytes())
        case 4:
            length = rng.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1))
            return length.to_bytes(8, "little") + data[8:]
        case 5 | 6 if isinstance(document, dict) and document.get("__metadata__"):
            document["__metadata__"] = _spoil_metadata(document["__metadata__"], rng)
        case 7 if isinstance(document, dict):
            document, body = _resize(document, body, rng)
        case 8 if isinstance(document, dict) and document:
            name = rng.choice(list(document))
            text = header.decode(errors="replace").replace(name, _odd_name(name, rng), 1)
            return join_file(text.encode(errors="replace"), body)
        case _:
            document = spoil_value(document, rng)
    return join_file(json.dumps(document).encode(), body)


def _spoil_metadata(metadata: Any, rng: Random) -> Any:
    """Spoil the metadata, mostly within the JSON that one of its values is."""
    if isinstance(metadata, dict) and rng.random() < 0.8:
        key = rng.choice(list(metadata))
        try:
            spoilt = spoil_value(json.loads(metadata[key]), rng)
        except (ValueError, TypeError, RecursionError):
            return spoil_value(metadata, rng)
        return metadata | {key: json.dumps(spoilt)}
    return spoil_value(metadata, rng)


def _odd_name(name: str, rng: Random) -> str:
    ends = (".dora_scale", ".diff", ".diff_b", ".set_weight", ".lora_B.bias", ".hada_w1_a", ".x")
    layers = ("blocks.1.ffn.0", "blocks.99999999999.ffn.0", "head.head", "blocks.-1.x", "vace.1")
    return rng.choice(
        (
            name.rpartition(".")[0] + rng.choice(ends),
            name.replace(_OWN, rng.choice(layers)),
            name.replace("blocks", "blocks" * 2000, 1)[:20_000],
            name.replace(".", "_"),
            "base_model.model." + name,
            "text_encoder." + name,
            name + "\\u0000",
        )
    )


def _resize(document: dict[str, Any], body: bytes, rng: Random) -> tuple[dict[str, Any], bytes]:
    """Give one tensor another dtype or shape, with as many bytes as it then needs."""
    sizes = {"F32": 4, "BF16": 2, "F16": 2, "F64": 8, "F8_E4M3": 1, "I8": 1, "BOOL": 1, "F4": 1}
    sizes |= {"F8_E8M0": 1, "C64": 8, "U64": 8}
    chosen = rng.choice([name for name in document if name != "__metadata__"] or ["x"])
    new: dict[str, Any] = {}
    end = 0
    for name, entry in document.items():
        if name == "__metadata__" or not isinstance(entry, dict):
            new[name] = entry
            continue
        dtype, shape = entry.get("dtype"), entry.get("shape")
        if name == chosen:
            dtype = rng.choice(list(sizes))
            shape = rng.choice(
                ([], [0], [1], [1, 1], [2, 96], [96, 2], [0, 96], [2, 96, 1], [3, 96])
            )
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            return document, body
        size = sizes.get(str(dtype), 4) * math.prod(shape)
        if end + size > 1 << 20:
            return document, body
        new[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    return new, (body + bytes(end))[:end]


def read_adapter_bytes(data: bytes, folder: Path) -> None:
    path = folder / "lora.safetensors"
    path.write_bytes(data)
    with contextlib.suppress(typer.Exit):
        lora_cli.show(path)
    read_any_adapter(path, model_registry.TINY)


TARGETS = (
    Target(
        "adapters",
        (
            *(adapter_bytes(number) for number in range(len(_LAYOUTS))),
            adapter_bytes(0, _OF_DIFFUSERS),
            adapter_bytes(0, _OF_MIMIX),
            adapter_bytes(1, _OF_MIMIX),
            adapter_bytes(3, _OF_MIMIX),
        ),
        spoil_tensors,
        read_adapter_bytes,
    ),
)
