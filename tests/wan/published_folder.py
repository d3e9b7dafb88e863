"""Folders of published models: every file, with headers of the true shapes and holes as weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

from mimix_core.wan import model_registry
from mimix_core.wan.expected_tensors import expected_tensors

TOKENIZER = {
    "version": "1.0",
    "truncation": None,
    "padding": None,
    "added_tokens": [],
    "normalizer": None,
    "pre_tokenizer": {"type": "WhitespaceSplit"},
    "post_processor": None,
    "decoder": None,
    "model": {"type": "Unigram", "unk_id": 0, "vocab": [["<unk>", 0.0], ["a", -1.0]]},
}
WEIGHTS = {
    "transformer": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


def published_folder(folder: Path, backbone: model_registry.Backbone) -> Path:
    """A complete folder of ``backbone`` that takes a few hundred kilobytes of disk."""
    networks = backbone.networks
    index = {
        "_class_name": backbone.pipeline_class,
        "transformer_2": [None, None],
        "boundary_ratio": backbone.boundary,
        "expand_timesteps": backbone.expand_timesteps,
        **{name: ["library", network.class_name] for name, network in networks.items()},
    }
    write_json(folder / "model_index.json", index)
    scheduler = {"_class_name": backbone.scheduler.class_name, **backbone.scheduler.config}
    write_json(folder / "scheduler" / "scheduler_config.json", scheduler)
    write_json(folder / "tokenizer" / "tokenizer.json", TOKENIZER)
    for name, network in networks.items():
        key = "architectures" if name == "text_encoder" else "_class_name"
        value = [network.class_name] if name == "text_encoder" else network.class_name
        write_json(folder / name / "config.json", {key: value, **network.config})
        shapes = expected_tensors(network.class_name, network.config)
        assert shapes is not None
        write_holes(folder / name / WEIGHTS[name.removesuffix("_2")], shapes)
    return folder


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_holes(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Write a safetensors file in bf16 whose weights are a hole: they read as zeros."""
    header, end = {}, 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + end)
