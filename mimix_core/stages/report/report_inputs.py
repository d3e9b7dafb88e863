"""What the report stage is given."""

from __future__ import annotations

from typing import Annotated

from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import Counts, Frozen, TableRef
from mimix_core.engine.cache_key import Immaterial


class CharacterSummary(Frozen):
    """Someone of the cast."""

    name: str
    description: str = ""


class ShowSummary(Frozen):
    """What the page says of a show."""

    id: str
    title: str
    style: Style
    characters: tuple[CharacterSummary, ...]


class StageSummary(Frozen):
    """What the record of one unit says, less its seconds: a page may not depend on the clock."""

    stage: str
    unit: str
    counts: Counts
    reasons: dict[str, int]
    notes: dict[str, str | int | float]


class ReportInputs(Frozen):
    """All that a run left. A table of no rows stands for a stage that had nothing to do."""

    unit: Annotated[str, Immaterial()] = "all"
    title: str
    shows: tuple[ShowSummary, ...]
    records: tuple[StageSummary, ...]
    scenes: tuple[TableRef, ...]
    overlays: tuple[TableRef, ...]
    clips: tuple[TableRef, ...]
    transcripts: tuple[TableRef, ...]
    captions: tuple[TableRef, ...]
    cutouts: tuple[TableRef, ...]
    latents: tuple[TableRef, ...]
    embeddings: tuple[TableRef, ...]
    composites: TableRef
    recaptions: TableRef
    dataset: TableRef
    backbone: TableRef
    lora: TableRef
    samples: TableRef
    scores: TableRef
