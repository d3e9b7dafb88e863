"""What a video was made of: it stands in the file itself, and names the file while work goes on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.errors import BadInput
from mimix_core.media.encode import ClipWriter

TAG = "comment"
"""The tag of the MP4 that holds the recipe as JSON; players and ``ffprobe`` show it."""

_CRF, _PRESET = 16, "fast"


class Recipe(FrozenModel):
    """All that a video depends on, and nothing that changes from run to run.

    ``base_sha256`` is of the transformer's folder, ``lora_sha256`` of the adapter's file.
    """

    prompt: str
    negative_prompt: str
    seed: int
    width: int
    height: int
    frames: int
    steps: int
    guidance: float
    shift: float
    precision: str
    vae_precision: str
    backbone: str
    base_sha256: str
    lora_sha256: str

    def digest(self) -> str:
        """32 hex digits that stand for the recipe."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:32]


def read(path: Path) -> Recipe:
    """The recipe of a video that MiMix generated. Raises BadInput for any other file."""
    fix = "Give a video that MiMix generated."
    try:
        with av.open(f"file:{path}") as container:
            tags: Mapping[str, str] = container.metadata
            note = tags.get(TAG, "")
    except (av.FFmpegError, OSError) as error:
        raise BadInput(f"cannot be opened ({error})", where=str(path), fix=fix) from error
    try:
        return Recipe.model_validate_json(note)
    except ValidationError as error:
        raise BadInput("its metadata holds no recipe", where=str(path), fix=fix) from error


class _NotedWriter(ClipWriter):
    """A clip with a comment, which is written with the file's header."""

    def __init__(self, path: Path, width: int, height: int, note: str, **how: Any) -> None:
        super().__init__(path, width, height, **how)
        self._container.metadata[TAG] = note


def write_video(path: Path, frames_THWC: NDArray[np.uint8], note: str = "") -> None:
    """Write RGB frames as a 16 frames/s clip with ``note`` as its comment. Raises EncodeFailed."""
    _, height, width, _ = frames_THWC.shape
    with _NotedWriter(path, width, height, note, crf=_CRF, preset=_PRESET) as writer:
        for image_HWC in frames_THWC:
            writer.write_rgb(image_HWC)
