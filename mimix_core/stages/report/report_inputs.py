"""Define the inputs of the report stage."""

from __future__ import annotations

from typing import Annotated

from mimix_core.domain.library import Style
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine.artifacts import Counts, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault


class CharacterSummary(FrozenModel):
    """A character of a show, as introduced on the page."""

    name: str
    description: str = ""


class ShowSummary(FrozenModel):
    """A show, as introduced on the page."""

    id: str
    title: str
    style: Style
    characters: tuple[CharacterSummary, ...]


class UnitSummary(FrozenModel):
    """The record of one unit of a stage, without timings, which would change the page's bytes."""

    stage: str
    unit: str
    counts: Counts
    reasons: dict[str, int]
    notes: dict[str, str | int | float]


class ReportInputs(FrozenModel):
    """The tables and records of a run so far.

    A stage that had nothing to do has an empty table; one that has not run has no table.
    ``other_lora``: the training of the backbone's other expert, if it has two. ``frame_rate``: of
    clips, composites and generated videos.
    """

    unit: Annotated[str, ExcludeFromKey()] = "all"
    title: str
    shows: tuple[ShowSummary, ...]
    records: tuple[UnitSummary, ...]
    scenes: tuple[TableRef, ...] = ()
    overlays: tuple[TableRef, ...] = ()
    clips: tuple[TableRef, ...] = ()
    transcripts: tuple[TableRef, ...] = ()
    captions: tuple[TableRef, ...] = ()
    cutouts: tuple[TableRef, ...] = ()
    latents: tuple[TableRef, ...] = ()
    embeddings: tuple[TableRef, ...] = ()
    composites: TableRef | None = None
    recaptions: TableRef | None = None
    dataset: TableRef | None = None
    backbone: TableRef | None = None
    lora: TableRef | None = None
    other_lora: Annotated[tuple[TableRef, ...], OmitDefault()] = ()
    samples: TableRef | None = None
    frame_rate: Annotated[int, OmitDefault()] = int(CLIP_RATE)
    scores: TableRef | None = None
