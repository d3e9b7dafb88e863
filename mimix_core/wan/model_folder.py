"""Check a folder in diffusers layout before any work: the model in it, and that it is complete.

Only configs, indexes and the headers of the weight files are read. ``check_finite_weights`` reads
the weights as well.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mimix_core.errors import BadInput
from mimix_core.wan.model_registry import Backbone, NetworkSpec
from mimix_core.wan.safetensors_header import read_header

COMPONENTS = ("scheduler", "text_encoder", "tokenizer", "transformer", "vae")
NETWORKS = ("transformer", "vae", "text_encoder")

_MAX_JSON_BYTES = 32_000_000
# No size, count or id in the config of a network is near it.
_MAX_CONFIG_NUMBER = 2**31
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})\.safetensors")
_BLOCK = re.compile(r"(?P<blocks>(?:.+\.)?(?:blocks|block|layers))\.(?P<number>\d+)\..+")
_VALUES_PER_CHECK = 1 << 24


def check_backbone_folder(folder: Path, backbone: Backbone) -> None:
    """Raise BadInput unless ``folder`` holds a complete backbone in diffusers layout.

    Each network's configuration is compared with its entry in ``model_registry``, and its weight
    files with their index and with the lengths in their headers.
    """
    fix = f"Get it again with `{backbone.folder_command(str(folder))}`."
    for part in ("model_index.json", *COMPONENTS):
        if not (folder / part).exists():
            raise BadInput(f"{part} is missing", where=str(folder), fix=fix)
    _check_pipeline(folder, backbone, fix)
    for name, network in zip(
        NETWORKS, (backbone.transformer, backbone.vae, backbone.text_encoder), strict=True
    ):
        config = read_config(folder / name / "config.json", fix)
        differences = _config_differences(config, network)
        if differences:
            raise BadInput(
                f"this {name} is not that of {backbone.name}: {'; '.join(differences)}",
                where=str(folder / name / "config.json"),
                fix="Set backbone.name to the model in this folder, or backbone.path to the folder "
                f"of {backbone.name}.",
            )
    for name in NETWORKS:
        _check_blocks(folder / name, list_tensors(folder / name, fix), fix)


def list_tensors(folder: Path, fix: str = "") -> dict[str, Path]:
    """Return the file of each tensor of a network, by the tensor's name.

    Raises BadInput for missing, incomplete or additional weight files, and for an index that does
    not match them.
    """
    files = sorted(folder.glob("*.safetensors"))
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    if not files and not indexes:
        raise BadInput(
            "no safetensors file",
            where=str(folder),
            fix="Only safetensors weights are supported; download the model in this format.",
        )
    if len(indexes) > 1:
        names = ", ".join(path.name for path in indexes)
        raise BadInput(f"has several indexes: {names}", where=str(folder), fix="Keep one of them.")
    if indexes:
        return _indexed_tensors(folder, files, indexes[0], fix)
    for path in files:
        shard = _SHARD.fullmatch(path.name)
        if shard is not None:
            raise BadInput(
                f"{path.name} is one of {int(shard['count'])} files, but their index "
                f"{shard['stem']}.safetensors.index.json is missing",
                where=str(folder),
                fix=fix,
            )
    if len(files) > 1:
        raise BadInput(
            f"has {len(files)} weight files and no index: {', '.join(path.name for path in files)}",
            where=str(folder),
            fix="Keep the one that belongs to the model.",
        )
    return dict.fromkeys(read_header(files[0], fix), files[0])


def check_finite_weights(folder: Path) -> None:
    """Raise BadInput if a network's weights contain NaN or Inf; reads all weights."""
    import torch
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118
                tensor = file.get_tensor(name)
                if not tensor.is_floating_point():
                    continue
                if tensor.element_size() == 1:
                    tensor = tensor.to(torch.bfloat16)
                for part in tensor.flatten().split(_VALUES_PER_CHECK):
                    if not bool(part.isfinite().all()):
                        raise BadInput(
                            f"the weights contain non-finite values (NaN or Inf) in {name}",
                            where=str(path),
                            fix="Download or convert the model again.",
                        )


def read_config(path: Path, fix: str = "") -> dict[str, Any]:
    """Read a JSON file of a model that holds an object. Raises BadInput for anything else.

    Numbers that are not finite, or larger than any size can be, are refused as well.
    """
    try:
        size = path.stat().st_size
        if size > _MAX_JSON_BYTES:
            raise ValueError(f"{size} bytes")
        config = json.loads(path.read_bytes(), parse_constant=_refuse_constant)
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"cannot be read as JSON: {error}", where=str(path), fix=fix) from error
    if not isinstance(config, dict):
        raise BadInput(
            f"contains a {type(config).__name__}, not an object", where=str(path), fix=fix
        )
    for key, value in _numbers(config):
        if abs(value) > _MAX_CONFIG_NUMBER:
            what = f"{key} is {str(value)[:20]}, which is no size"
            raise BadInput(what, where=str(path), fix=fix)
    return config


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not a number")


def _numbers(value: Any, key: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _numbers(item, f"{key}.{name}" if key else name)
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _numbers(item, f"{key}[{number}]")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield key, value


def _check_pipeline(folder: Path, backbone: Backbone, fix: str) -> None:
    """Raise BadInput for a pipeline of another class, or one with two transformers."""
    path = folder / "model_index.json"
    index = read_config(path, fix)
    second = index.get("transformer_2")
    found = []
    if (folder / "transformer_2").exists():
        found.append("a folder transformer_2")
    if second and any(second):
        found.append("transformer_2 in model_index.json")
    if index.get("boundary_ratio") is not None:
        found.append(f"boundary_ratio {index['boundary_ratio']} in model_index.json")
    if found:
        raise BadInput(
            f"holds a model of two transformers, as Wan2.2-T2V-A14B, not {backbone.name}: it has "
            f"{' and '.join(found)}",
            where=str(folder),
            fix="Models of two transformers are not supported yet. Set backbone.path to the folder "
            f"of {backbone.name} (`{backbone.folder_command()}`).",
        )
    if index.get("_class_name") != backbone.pipeline_class:
        raise BadInput(
            f"this pipeline is not that of {backbone.name}: its class is "
            f"{index.get('_class_name')}, not {backbone.pipeline_class}",
            where=str(path),
            fix=f"Set backbone.path to the folder of {backbone.name} "
            f"(`{backbone.folder_command()}`).",
        )


def _config_differences(config: Mapping[str, Any], network: NetworkSpec) -> list[str]:
    """Describe where a folder's config differs from the registry's entry."""
    # diffusers writes the first key, transformers the second.
    class_name = config.get("_class_name") or next(iter(config.get("architectures") or []), None)
    differences = []
    if class_name != network.class_name:
        differences.append(f"its class is {class_name}, not {network.class_name}")
    for key, value in network.config.items():
        expected = list(value) if isinstance(value, tuple) else value
        if config.get(key) != expected:
            differences.append(f"{key} is {config.get(key)}, not {expected}")
    return differences


def _indexed_tensors(folder: Path, files: list[Path], index: Path, fix: str) -> dict[str, Path]:
    """Return the file of each tensor by an index, compared with the headers of its files."""
    weights = read_index(index, fix)
    shards = {folder / file for file in weights.values()}
    missing = sorted(path.name for path in shards if not path.is_file())
    if missing:
        raise BadInput(
            f"{len(missing)} of {len(shards)} weight files of its index are missing: "
            f"{', '.join(missing)}",
            where=str(folder),
            fix=fix,
        )
    extra = sorted(path.name for path in files if path not in shards)
    if extra:
        raise BadInput(
            f"has weight files that are not in its index {index.name}: {', '.join(extra)}",
            where=str(folder),
            fix="Remove them, or download the model again.",
        )
    stored = {path: set(read_header(path, fix)) for path in sorted(shards)}
    for name, file in sorted(weights.items()):
        if name not in stored[folder / file]:
            raise BadInput(
                f"the index expects {name} in {file}, which does not hold it",
                where=str(index),
                fix=fix,
            )
    for path, names in stored.items():
        unlisted = sorted(name for name in names if weights.get(name) != path.name)
        if unlisted:
            raise BadInput(
                f"{path.name} holds {unlisted[0]}, which the index does not expect in it",
                where=str(index),
                fix=fix,
            )
    return {name: folder / file for name, file in weights.items()}


def read_index(path: Path, fix: str) -> dict[str, str]:
    """Read which file holds each tensor. Raises BadInput."""
    try:
        weights = json.loads(path.read_bytes())["weight_map"]
        valid = all(isinstance(file, str) and Path(file).name == file for file in weights.values())
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError) as error:
        raise BadInput(
            f"cannot be read as an index of weight files ({type(error).__name__}: {error})",
            where=str(path),
            fix=fix,
        ) from error
    if not valid or not weights:
        raise BadInput("names no files next to it", where=str(path), fix=fix)
    return dict(weights)


def _check_blocks(folder: Path, tensors: Mapping[str, Path], fix: str) -> None:
    """Raise BadInput if the weights lack a block in the middle or at the end."""
    config = read_config(folder / "config.json", fix)
    numbers: dict[str, set[int]] = {}
    for name in tensors:
        match = _BLOCK.fullmatch(name)
        if match is not None:
            numbers.setdefault(match["blocks"], set()).add(int(match["number"]))
    for blocks, found in sorted(numbers.items()):
        count = max(found) + 1
        if blocks in ("blocks", "transformer_blocks", "encoder.block"):
            count = max(count, int(config.get("num_layers", 0)))
        missing = sorted(set(range(count)) - found)
        if missing:
            raise BadInput(
                f"the weights lack {len(missing)} of {count} {blocks}, first: "
                f"{blocks}.{missing[0]}",
                where=str(folder),
                fix=fix,
            )
