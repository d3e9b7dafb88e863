"""Load the results printed in the paper, and explain why they are not comparable to a run."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from mimix_core.benchmark.tables.load_results import JudgeInfo
from mimix_core.benchmark.tables.metric_columns import PAPER_COLUMNS
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.yaml_files import read_yaml_file

PAPER_FILE = Path(__file__).with_name("paper.yaml")

PaperTableKey = Literal["table-1", "table-2", "table-3"]

CAPTION_FORMATS = {
    "no-tags": "No tag (baseline)",
    "character": "w/o [scene-style]",
    "scene-style": "w/o [character]",
    "both": "w/ both (ours)",
}
"""The rows of Table 2, by the variant that prompts and captions are rendered with."""


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
        unknown = sorted(set(self.columns) - set(PAPER_COLUMNS))
        if unknown or any(len(row.values) != len(self.columns) for row in self.rows):
            raise ValueError(f"rows and columns do not match; unknown columns: {unknown}")
        return self


class PaperResults(FrozenModel):
    """All results quoted from the paper. ``judge``: the model behind its judge metrics."""

    judge: str
    table_1: PaperTable = Field(alias="table-1")
    table_2: PaperTable = Field(alias="table-2")
    table_3: PaperTable = Field(alias="table-3")

    def get_table(self, number: PaperTableKey) -> PaperTable:
        """Return one of the three tables."""
        return {"table-1": self.table_1, "table-2": self.table_2, "table-3": self.table_3}[number]


@cache
def load_paper_results() -> PaperResults:
    """Load the paper's results."""
    return PaperResults.model_validate(read_yaml_file(PAPER_FILE)[0])


PROMPTS_NOTE = (
    "The paper's rows are quoted, not reproduced. Its prompts were not published, so its videos "
    "show other actions than these: not comparable, for scale only."
)


def format_judge_note(judge: JudgeInfo) -> str:
    """Explain why the judge's columns are not comparable to the paper's."""
    request = " with the authors' request" if judge.mode == "authors" else ""
    return (
        f"The paper's judge was {load_paper_results().judge}, since retired; {judge.model} judged "
        f"here{request}, so the paper's ratings cannot be reproduced. Ratings of different judges "
        "are not comparable."
    )
