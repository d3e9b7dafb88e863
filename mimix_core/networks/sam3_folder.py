"""The folder of SAM 3's weights: how to get it, and whether it is complete, without loading it."""

from __future__ import annotations

import json
from pathlib import Path

from mimix_core.errors import MissingModel

SAM3_DOWNLOAD = (
    "Ask for access at https://huggingface.co/facebook/sam3 (the SAM License has to be accepted), "
    "then: hf download facebook/sam3 --exclude sam3.pt --local-dir FOLDER"
)
"""How to get the weights. ``sam3.pt`` has the same ones for Meta's own package."""

CONFIG, WEIGHTS, VOCABULARY, MERGES = "config.json", "model.safetensors", "vocab.json", "merges.txt"

_MODEL_TYPE = "sam3_video"


def check_sam3_folder(folder: Path, setting: str) -> None:
    """Check a folder of facebook/sam3; ``setting``: the key that names it.

    Raises MissingModel, naming the file, for a folder that is missing, incomplete, of another
    model, or whose weights are not as long as their header says (an interrupted download).
    """
    if not folder.is_dir():
        raise MissingModel(
            f"no folder {folder} with the weights of SAM 3",
            where=f"settings, key {setting}",
            fix=f"{SAM3_DOWNLOAD}, and set {setting} to FOLDER.",
        )
    for name in (CONFIG, WEIGHTS, VOCABULARY, MERGES):
        if not (folder / name).is_file():
            raise MissingModel(
                f"the folder of SAM 3 has no {name}",
                where=str(folder / name),
                fix=f"{SAM3_DOWNLOAD}.",
            )
    try:
        found = json.loads((folder / CONFIG).read_text()).get("model_type")
    except (ValueError, AttributeError) as error:
        raise damaged_file(folder / CONFIG, str(error)) from error
    if found != _MODEL_TYPE:
        raise MissingModel(
            f"its model_type is {found!r}, not {_MODEL_TYPE!r}: this is not SAM 3 for video",
            where=str(folder / CONFIG),
            fix=f"{SAM3_DOWNLOAD}.",
        )
    _check_length(folder / WEIGHTS)


def damaged_file(file: Path, why: str) -> MissingModel:
    """Build the error of a file that cannot be read as a part of SAM 3."""
    return MissingModel(
        f"not readable as a part of SAM 3: {why}", where=str(file), fix=f"{SAM3_DOWNLOAD}."
    )


def _check_length(file: Path) -> None:
    """Compare a safetensors file's length with its header: 8 bytes of length, JSON, tensors."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if length <= size else b""
    try:
        header = json.loads(text)
        ends = [entry["data_offsets"][1] for key, entry in header.items() if key != "__metadata__"]
        expected = 8 + length + max(ends)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise damaged_file(file, "it does not begin with a header of safetensors") from error
    if size != expected:
        raise damaged_file(file, f"it has {size} bytes, its header says {expected}")
