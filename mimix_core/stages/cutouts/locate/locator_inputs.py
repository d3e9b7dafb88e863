"""What a locator is given besides the clips: its settings, models and reference images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mimix_core.engine.artifacts import FileRef, Frozen
from mimix_core.engine.cache_key import Immaterial
from mimix_core.settings.locator_settings import (
    FaceLocatorSettings,
    LikenessLocatorSettings,
    VlmLocatorSettings,
)


class Known(Frozen):
    """A character as a locator knows it."""

    name: str
    description: str = ""
    references: tuple[FileRef, ...] = ()


class _LocatorInputs(Frozen):
    """``characters``: all of the show, since who it is depends on who else it might be."""

    characters: tuple[Known, ...]


class ReferenceInputs(_LocatorInputs):
    """``landmarks``, ``network``: dlib's models, see ``faces.models``."""

    backend: Literal["reference"] = "reference"
    settings: FaceLocatorSettings
    landmarks: FileRef
    network: FileRef


class EmbeddingInputs(_LocatorInputs):
    backend: Literal["embedding"] = "embedding"
    settings: LikenessLocatorSettings


class VlmInputs(_LocatorInputs):
    """``answers``: the folder of the workspace's paid answers."""

    backend: Literal["vlm"] = "vlm"
    settings: VlmLocatorSettings
    answers: Annotated[Path, Immaterial()]


LocatorInputs = Annotated[
    ReferenceInputs | EmbeddingInputs | VlmInputs, Field(discriminator="backend")
]
