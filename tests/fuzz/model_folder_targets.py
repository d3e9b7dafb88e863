"""Target: folders of models, with one file of another's making."""

from __future__ import annotations

import json
import tempfile
from functools import cache
from pathlib import Path
from random import Random

from mimix_core.wan import model_registry
from mimix_core.wan.model_folder import check_backbone_folder
from tests.fuzz.adapter_targets import join_file, spoil_tensors
from tests.fuzz.mutations import spoil_json
from tests.fuzz.target import Target
from tests.wan.published_folder import published_folder

_INDEX = "transformer/diffusion_pytorch_model.safetensors.index.json"
_SHARD = "diffusion_pytorch_model-{:05d}-of-00002.safetensors"


@cache
def model_files() -> dict[str, bytes]:
    """Return the files of a small model by their paths; the transformer is in two files."""
    with tempfile.TemporaryDirectory(prefix="mimix-fuzz-") as name:
        folder = published_folder(Path(name), model_registry.TINY)
        files = {
            str(path.relative_to(folder)): path.read_bytes()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
    whole = files.pop("transformer/diffusion_pytorch_model.safetensors")
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    body = whole[8 + length :]
    names = list(header)
    cut = header[names[len(names) // 2]]["data_offsets"][0]
    parts = {
        1: {name: e for name, e in header.items() if e["data_offsets"][1] <= cut},
        2: {name: e for name, e in header.items() if e["data_offsets"][0] >= cut},
    }
    for entry in parts[2].values():
        entry["data_offsets"] = [place - cut for place in entry["data_offsets"]]
    for number, part in parts.items():
        weights = body[:cut] if number == 1 else body[cut:]
        path = f"transformer/{_SHARD.format(number)}"
        files[path] = join_file(json.dumps(part).encode(), weights)
    of = {name: _SHARD.format(number) for number, part in parts.items() for name in part}
    files[_INDEX] = json.dumps({"metadata": {"total_size": len(body)}, "weight_map": of}).encode()
    return files


def seeds() -> tuple[bytes, ...]:
    """Return each of the model's files with its path in the first line; small ones first."""
    files = sorted(model_files().items(), key=lambda item: len(item[1]))
    return tuple(path.encode() + b"\n" + content for path, content in files)


def spoil_file(data: bytes, rng: Random) -> bytes:
    path, _, content = data.partition(b"\n")
    spoil = spoil_json if path.endswith(b".json") else spoil_tensors
    return path + b"\n" + spoil(content, rng)


def read_model_folder(data: bytes, folder: Path) -> None:
    spoilt, _, content = data.partition(b"\n")
    for name, whole in model_files().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if name.encode() == spoilt else whole)
    check_backbone_folder(folder, model_registry.TINY)


TARGETS = (Target("model-folders", seeds(), spoil_file, read_model_folder),)
