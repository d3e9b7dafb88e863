"""Which locator an episode gets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mimix_core.engine.artifacts import FileRef
from mimix_core.stages.cutouts.locate.box_annotations import read_boxes
from mimix_core.stages.cutouts.locate.box_track import Locator
from mimix_core.stages.cutouts.locate.locator_inputs import (
    EmbeddingInputs,
    LocatorInputs,
    ReferenceInputs,
)
from mimix_core.stages.cutouts.locate.vlm_locator import VlmLocator, Wanted


def make_locator(
    boxes: FileRef | None,
    locating: LocatorInputs | None,
    names: Mapping[str, str],
    folder: Path,
    wanted: Wanted,
) -> Locator:
    """Hand-given boxes where an episode has them, as a person's captions stand in for all others;
    else the backend of ``locating``; without either nobody is located.

    ``names``: the roster's name for each name and alias (casefolded). ``folder``: of the clips'
    files. ``wanted``: all that will be located, for a backend that asks for everything at once.
    Raises BadInput for boxes or references that are not readable, MissingModel.
    """
    if boxes is not None or locating is None:
        return read_boxes(boxes, names)
    if isinstance(locating, ReferenceInputs):
        from mimix_core.stages.cutouts.locate.face_locator import ReferenceLocator

        return ReferenceLocator(locating, folder)
    if isinstance(locating, EmbeddingInputs):
        from mimix_core.stages.cutouts.locate.embedding_locator import EmbeddingLocator

        return EmbeddingLocator(locating, folder)
    return VlmLocator(locating, folder, wanted)
