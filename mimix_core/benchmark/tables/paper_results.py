"""What the paper reports, and why a run's figures cannot be set against it."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from mimix_core.benchmark.tables.metric_columns import MEASURES
from mimix_core.domain.library import read_yaml
from mimix_core.engine.artifacts import FrozenModel

FILE = Path(__file__).with_name("paper.yaml")

Number = Literal["table-1", "table-2", "table-3"]

ARMS = {
    "no-tags": "No tag (baseline)",
    "character": "w/o [scene-style]",
    "scene-style": "w/o [character]",
    "both": "w/ both (ours)",
}
"""The arms of Table 2, by the variant that prompts and captions are rendered with."""


class PaperRow(FrozenModel):
    """One printed row."""

    labels: tuple[str, ...]
    values: tuple[float | None, ...]


class PaperTable(FrozenModel):
    """One printed table."""

    columns: tuple[str, ...]
    rows: tuple[PaperRow, ...]

    @model_validator(mode="after")
    def _rectangular(self) -> PaperTable:
        unknown = sorted(set(self.columns) - set(MEASURES))
        if unknown or any(len(row.values) != len(self.columns) for row in self.rows):
            raise ValueError(f"rows and columns do not fit; unknown columns: {unknown}")
        return self


class Paper(FrozenModel):
    """All that is quoted from the paper. ``judge``: the model behind its judge metrics."""

    judge: str
    table_1: PaperTable = Field(alias="table-1")
    table_2: PaperTable = Field(alias="table-2")
    table_3: PaperTable = Field(alias="table-3")

    def table(self, number: Number) -> PaperTable:
        """One of the three."""
        return {"table-1": self.table_1, "table-2": self.table_2, "table-3": self.table_3}[number]


@cache
def paper() -> Paper:
    """The paper's figures."""
    return Paper.model_validate(read_yaml(FILE)[0])


OTHER_PROMPTS = (
    "The paper's rows are quoted, not run. Its prompts were never published, so its videos show "
    "other actions than these: not comparable, for scale only."
)


def other_judge(model: str) -> str:
    """Why the judge's columns are of another kind than the paper's."""
    return (
        f"The paper's judge was {paper().judge}, since retired; {model} judged here. A judge's "
        "figures mean something beside those of the same judge alone: not comparable."
    )
