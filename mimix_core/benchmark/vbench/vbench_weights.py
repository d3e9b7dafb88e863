"""Find and load the weights files of VBench's cache, without running any code in them.

Released files come in two kinds: pickled state dicts, read with ``weights_only=True``, and
TorchScript archives (OpenAI's CLIP), of which only the tensors are read (``torchscript_reader``).
"""

from __future__ import annotations

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
"""The URL that VBench downloads each file from (its utils.py)."""

PUBLISHED_SHA256 = {
    CLIP_B: "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    CLIP_L: "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    MUSIQ: "358bb6af",
    VOCABULARY: "924691ac288e54409236115652ad4aa250f48203de50a9e4722a6ecd48d6804a",
}
"""sha256 of the released files, or its first digits, for those whose publishers state it."""


def check_weights(weights_dir: Path, files: Iterable[str]) -> None:
    """Raise one MissingModel that lists every missing file and its source."""
    missing = [name for name in dict.fromkeys(files) if not (weights_dir / name).is_file()]
    if missing:
        downloads = "".join(f"\n  {name}  from {SOURCES[name]}" for name in missing)
        raise MissingModel(
            f"{len(missing)} weights files are missing",
            where=str(weights_dir),
            fix=f"The folder has the layout of VBench's cache, ~/.cache/vbench. Get{downloads}",
        )


def is_published(name: str, digest: str) -> bool | None:
    """Return whether a file's digest is the released one's; None if no digest is published."""
    expected = PUBLISHED_SHA256.get(name)
    return None if expected is None else digest.startswith(expected)


def load_tensors(path: Path, *, key: str = "", prefix: str = "") -> dict[str, torch.Tensor]:
    """Load the tensors of a weights file by name, on the CPU, with the stored types.

    ``key``: the file's entry that holds the state dict, if the file is not one itself. ``prefix``:
    only load tensors with this prefix, and strip it. Raises BadInput for an unreadable file, or one
    that holds anything but tensors.
    """
    import torch

    try:
        if torchscript_reader.is_torchscript_archive(path):
            loaded: object = torchscript_reader.read_tensors(path)
        else:
            # A training checkpoint may hold numpy scalars besides tensors.
            with torch.serialization.safe_globals(_numpy_scalar_globals()):
                loaded = torch.load(path, map_location="cpu", weights_only=True)
    except (
        pickle.UnpicklingError,
        zipfile.BadZipFile,
        RuntimeError,
        ValueError,
        EOFError,
    ) as error:
        first = (str(error).splitlines() or [""])[0]
        raise BadInput(f"not a readable weights file ({first})", where=str(path)) from error
    if key:
        loaded = loaded.get(key) if isinstance(loaded, Mapping) else None
    if not isinstance(loaded, Mapping) or not loaded:
        raise BadInput(
            f"the file has no state dict{f' named {key!r}' if key else ''}", where=str(path)
        )
    tensors = {k.removeprefix(prefix): v for k, v in loaded.items() if str(k).startswith(prefix)}
    others = [str(name) for name, value in tensors.items() if not isinstance(value, torch.Tensor)]
    if others or not tensors:
        what = f"{others[0]!r} is not a tensor" if others else f"no tensor is named {prefix}..."
        raise BadInput(what, where=str(path))
    return tensors


def _numpy_scalar_globals() -> list[Any]:
    """List the globals of a pickled numpy scalar, as named by numpy 1 and 2; none run code."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(kind)) for kind in (np.float64, np.float32, np.int64)]
    return [scalar, (scalar, "numpy.core.multiarray.scalar"), np.dtype, *kinds]


@contextmanager
def missing_tensor_as_bad_input(path: Path) -> Iterator[None]:
    """Raise BadInput when a tensor that a network's sizes are read from is missing in ``path``."""
    try:
        yield
    except (KeyError, IndexError) as error:
        raise BadInput(
            f"these are weights of another network: no tensor {error}", where=str(path)
        ) from error


def count_layers(names: Iterable[str], prefix: str) -> int:
    """Count the different layer numbers that follow ``prefix`` in tensor names."""
    return len({k.removeprefix(prefix).partition(".")[0] for k in names if k.startswith(prefix)})


def assign_weights(
    network: AnyModule, weights: Mapping[str, torch.Tensor], path: Path, device: torch.device
) -> AnyModule:
    """Load weights into ``network`` (built on the meta device): float32, on ``device``, frozen.

    Raises BadInput when names or shapes of ``path``'s tensors differ from the network's.
    """
    import torch

    converted = {
        name: value.to(device, torch.float32) if value.is_floating_point() else value.to(device)
        for name, value in weights.items()
    }
    try:
        network.load_state_dict(converted, assign=True)
    except RuntimeError as error:
        message = " ".join(str(error).split())[:400]
        raise BadInput(
            f"these are weights of another network: {message}", where=str(path)
        ) from error
    return network.requires_grad_(False).eval()
