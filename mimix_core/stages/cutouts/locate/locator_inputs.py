"""Inputs of the locators besides the clips: settings, models and reference images."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mimix_core.engine.artifacts import FileRef, FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.settings.locator_settings import (
    EmbeddingLocatorSettings,
    FaceLocatorSettings,
    Sam3LocatorSettings,
    VlmLocatorSettings,
)


class CharacterReference(FrozenModel):
    """A character with the description and reference images that a locator compares with.

    ``noun``: what it is, for a locator that searches for such figures; empty for the others.
    """

    name: str
    noun: Annotated[str, OmitDefault()] = ""
    description: str = ""
    references: tuple[FileRef, ...] = ()


class _LocatorInputs(FrozenModel):
    """``characters``: those that the episode's captions name; identity is decided among them."""

    characters: tuple[CharacterReference, ...]


class FaceLocatorInputs(_LocatorInputs):
    """``landmarks``, ``network``: dlib's models, see ``face_encoder.face_model_paths``."""

    backend: Literal["face"] = "face"
    settings: FaceLocatorSettings
    landmarks: FileRef
    network: FileRef


class EmbeddingLocatorInputs(_LocatorInputs):
    """Inputs of the locator that compares features of windows with reference images."""

    backend: Literal["embedding"] = "embedding"
    settings: EmbeddingLocatorSettings


class Sam3LocatorInputs(_LocatorInputs):
    """``weights``: the folder of SAM 3. Each of the characters has a noun."""

    backend: Literal["sam3"] = "sam3"
    settings: Sam3LocatorSettings
    weights: FileRef


class VlmLocatorInputs(_LocatorInputs):
    """``response_cache``: the folder of the workspace's paid responses."""

    backend: Literal["vlm"] = "vlm"
    settings: VlmLocatorSettings
    response_cache: Annotated[Path, ExcludeFromKey()]


class CustomLocatorInputs(_LocatorInputs):
    """Inputs of a locator from outside MiMix: its module, and the digest of its source."""

    backend: Literal["module"] = "module"
    module: str
    source: FileRef | None = None


LocatorInputs = Annotated[
    FaceLocatorInputs
    | EmbeddingLocatorInputs
    | Sam3LocatorInputs
    | VlmLocatorInputs
    | CustomLocatorInputs,
    Field(discriminator="backend"),
]
