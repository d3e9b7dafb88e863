"""Create the locator of an episode."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mimix_core.engine.artifacts import FileRef
from mimix_core.stages.cutouts.locate.box_annotations import load_box_annotations
from mimix_core.stages.cutouts.locate.box_track import Locator
from mimix_core.stages.cutouts.locate.custom_locator import load_custom_locator
from mimix_core.stages.cutouts.locate.locator_inputs import (
    CustomLocatorInputs,
    EmbeddingLocatorInputs,
    FaceLocatorInputs,
    LocatorInputs,
    Sam3LocatorInputs,
)
from mimix_core.stages.cutouts.locate.vlm_locator import ClipCharacters, VlmLocator


def create_locator(
    boxes: FileRef | None,
    inputs: LocatorInputs | None,
    names: Mapping[str, str],
    folder: Path,
    requests: ClipCharacters,
) -> Locator:
    """Create the locator of an episode: manual box annotations if given, else a backend.

    Without either, no character is located. ``names``: the roster name for each casefolded name
    and alias. ``folder``: of the clip files. ``requests``: all clips and characters to locate, for
    a backend that batches them. Raises BadInput for unreadable boxes or reference images,
    MissingModel.
    """
    if boxes is not None or inputs is None:
        return load_box_annotations(boxes, names)
    if isinstance(inputs, CustomLocatorInputs):
        return load_custom_locator(inputs, folder)
    if isinstance(inputs, FaceLocatorInputs):
        from mimix_core.stages.cutouts.locate.face_locator import FaceLocator

        return FaceLocator(inputs, folder)
    if isinstance(inputs, EmbeddingLocatorInputs):
        from mimix_core.stages.cutouts.locate.embedding_locator import EmbeddingLocator

        return EmbeddingLocator(inputs, folder)
    if isinstance(inputs, Sam3LocatorInputs):
        from mimix_core.stages.cutouts.sam3.sam3_locator import create_sam3_locator

        return create_sam3_locator(inputs, folder)
    return VlmLocator(inputs, folder, requests)
