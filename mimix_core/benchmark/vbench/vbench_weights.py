"""Weights files of VBench's cache: found all at once, read without running any code of theirs.

Released files come in two kinds: pickled state dicts, read with ``weights_only=True``, and
TorchScript archives (OpenAI's CLIP), of which only the tensors are taken (``scripted``).
"""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from mimix_core.benchmark.vbench import torchscript_reader
from mimix_core.errors import BadInput, MissingModel

if TYPE_CHECKING:
    import torch

    AnyModule = TypeVar("AnyModule", bound=torch.nn.Module)

CLIP_B = "clip_model/ViT-B-32.pt"
CLIP_L = "clip_model/ViT-L-14.pt"
LAION = "aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth"
DINO = "dino_model/dino_vitbase16_pretrain.pth"
VICLIP = "ViCLIP/ViClip-InternVid-10M-FLT.pth"
VOCABULARY = "ViCLIP/bpe_simple_vocab_16e6.txt.gz"
AMT = "amt_model/amt-s.pth"
RAFT = "raft_model/models/raft-things.pth"
MUSIQ = "pyiqa_model/musiq_spaq_ckpt-358bb6af.pth"

_HUB = "https://huggingface.co/OpenGVLab/VBench_Used_Models/resolve/main"
_CLIP = "https://openaipublic.azureedge.net/clip/models"
SOURCES = {
    CLIP_B: f"{_CLIP}/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
    CLIP_L: f"{_CLIP}/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
    LAION: "https://raw.githubusercontent.com/LAION-AI/aesthetic-predictor/main/"
    "sa_0_4_vit_l_14_linear.pth",
    DINO: "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
    VICLIP: f"{_HUB}/ViClip-InternVid-10M-FLT.pth",
    VOCABULARY: "https://raw.githubusercontent.com/openai/CLIP/main/clip/"
    "bpe_simple_vocab_16e6.txt.gz",
    AMT: "https://huggingface.co/lalala125/AMT/resolve/main/amt-s.pth",
    RAFT: "https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip (unpack it)",
    MUSIQ: "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/"
    "musiq_spaq_ckpt-358bb6af.pth",
}
"""Where VBench downloads each file from (its utils.py)."""

PUBLISHED = {
    CLIP_B: "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    CLIP_L: "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    MUSIQ: "358bb6af",
    VOCABULARY: "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
}
"""sha256 of the released files, or its beginning, where their publishers state it."""


def check(weights_dir: Path, files: Iterable[str]) -> None:
    """Raise one MissingModel that names every file that is not there, and where it comes from."""
    missing = [name for name in dict.fromkeys(files) if not (weights_dir / name).is_file()]
    if missing:
        named = "".join(f"\n  {name}  from {SOURCES[name]}" for name in missing)
        raise MissingModel(
            f"{len(missing)} weights files are missing",
            where=str(weights_dir),
            fix=f"The folder is laid out as VBench's own cache, ~/.cache/vbench. Get{named}",
        )


def sha256(path: Path) -> str:
    """sha256 of a file, hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def published(name: str, digest: str) -> bool | None:
    """Whether a file of that digest is the released one; None: its publisher states no digest."""
    known = PUBLISHED.get(name)
    return None if known is None else digest.startswith(known)


def tensors(path: Path, *, inside: str = "", prefix: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a weights file by name, on the CPU, types as stored.

    ``inside``: the entry of the file that holds them, where it is not the whole. ``prefix``: only
    those whose name begins so, without it. Raises BadInput for a file that cannot be read, or that
    holds anything but tensors.
    """
    import torch

    try:
        if torchscript_reader.is_archive(path):
            found: object = torchscript_reader.tensors(path)
        else:
            # A training's file may keep single numpy numbers beside its tensors.
            with torch.serialization.safe_globals(_numpy_numbers()):
                found = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        RuntimeError,
        ValueError,
        EOFError,
    ) as error:
        first = (str(error).splitlines() or [""])[0]
        raise BadInput(f"not a readable weights file ({first})", where=str(path)) from error
    if inside:
        found = found.get(inside) if isinstance(found, Mapping) else None
    if not isinstance(found, Mapping) or not found:
        raise BadInput(
            f"no state dict{f' named {inside!r}' if inside else ''} in it", where=str(path)
        )
    taken = {k.removeprefix(prefix): v for k, v in found.items() if str(k).startswith(prefix)}
    others = [str(name) for name, value in taken.items() if not isinstance(value, torch.Tensor)]
    if others or not taken:
        what = f"{others[0]!r} is no tensor" if others else f"no tensor is named {prefix}..."
        raise BadInput(what, where=str(path))
    return taken


def _numpy_numbers() -> list[Any]:
    """What a pickled numpy number refers to, under its names of numpy 1 and 2: no code."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


@contextmanager
def named_sizes(path: Path) -> Iterator[None]:
    """A tensor that is looked up for its size and is not there means that ``path`` is another's.

    Raises BadInput.
    """
    try:
        yield
    except (KeyError, IndexError) as error:
        raise BadInput(f"these are other weights: no tensor {error}", where=str(path)) from error


def layers(names: Iterable[str], prefix: str) -> int:
    """How many different numbers follow ``prefix`` in the names."""
    return len({k.removeprefix(prefix).partition(".")[0] for k in names if k.startswith(prefix)})


def fill(
    network: AnyModule, weights: Mapping[str, torch.Tensor], path: Path, device: torch.device
) -> AnyModule:
    """Give ``network`` (built on the meta device) these weights, float32, on ``device``, frozen.

    Raises BadInput when the names or shapes of ``path``'s tensors are not the network's.
    """
    import torch

    ready = {
        name: value.to(device, torch.float32) if value.is_floating_point() else value.to(device)
        for name, value in weights.items()
    }
    try:
        network.load_state_dict(ready, assign=True)
    except RuntimeError as error:
        lines = " ".join(str(error).split())
        raise BadInput(f"these are other weights: {lines[:400]}", where=str(path)) from error
    return network.requires_grad_(False).eval()
