"""Ways to damage the folder of a published model, each a function of the folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

INDEX = "transformer/diffusion_pytorch_model.safetensors.index.json"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
QUERY = "blocks.1.attn1.to_q.weight"
PAGE = "<!DOCTYPE html>\n<html><body>404: Entry not found</body></html>"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1294992\n"


def shard(number: int) -> str:
    return f"transformer/diffusion_pytorch_model-{number:05d}-of-00003.safetensors"


def split_transformer(folder: Path) -> None:
    """Split the transformer's weights into three files with an index."""
    single = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(single)
    single.unlink()
    names = sorted(tensors)
    weights = {}
    for number in range(3):
        part = names[number::3]
        save_file({name: tensors[name] for name in part}, folder / shard(number + 1))
        weights |= dict.fromkeys(part, Path(shard(number + 1)).name)
    index = {"metadata": {"total_size": 1}, "weight_map": weights}
    (folder / INDEX).write_text(json.dumps(index))


Spoil = Callable[[Path], object]


def remove(name: str) -> Spoil:
    return lambda folder: (
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    )


def write(name: str, content: str | bytes) -> Spoil:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str, missing: int) -> Spoil:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - missing)


def extend(name: str) -> Spoil:
    def append(folder: Path) -> None:
        with (folder / name).open("ab") as stream:
            stream.write(b"more")

    return append


def change(name: str, edit: Callable[[dict], object]) -> Spoil:
    def rewrite(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        edit(document)
        (folder / name).write_text(json.dumps(document))

    return rewrite


def update(name: str, **values: object) -> Spoil:
    return change(name, lambda document: document.update(values))


def replace_by_folder(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


def replace_by_file(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        shutil.rmtree(folder / name)
        (folder / name).write_text("x")

    return spoil


def replace_by_loop(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.unlink()
        path.symlink_to(path.name)

    return spoil


def retensor(name: str, edit: Callable[[dict[str, torch.Tensor]], object]) -> Spoil:
    """Rewrite a weight file with other tensors and an intact header."""

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / name)
        edit(tensors)
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name)

    return spoil


def set_first_value(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors[name].view(-1)[0].fill_(value)


def without_block(number: int) -> Spoil:
    """Drop a block from the files and from the index alike."""

    def spoil(folder: Path) -> None:
        for path in sorted((folder / "transformer").glob("*-of-*")):
            tensors = load_file(path)
            save_file(
                {n: t for n, t in tensors.items() if not n.startswith(f"blocks.{number}.")}, path
            )
        change(
            INDEX,
            lambda index: [
                index["weight_map"].pop(name)
                for name in list(index["weight_map"])
                if name.startswith(f"blocks.{number}.")
            ],
        )(folder)

    return spoil


def move_in_index(folder: Path) -> None:
    def move(index: dict) -> None:
        stored = index["weight_map"][QUERY]
        index["weight_map"][QUERY] = next(
            other for other in index["weight_map"].values() if other != stored
        )

    change(INDEX, move)(folder)


def pickle_only(folder: Path) -> None:
    (folder / VAE).unlink()
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"PK")


def sentencepiece(content: bytes) -> Spoil:
    return write("tokenizer/spiece.model", content)
