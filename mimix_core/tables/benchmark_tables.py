"""Define the tables of generated videos, their scores and the report."""

from __future__ import annotations

from mimix_core.tables.rows import BaseRow, table


class SampleRow(BaseRow):
    """One row of the table ``samples``."""

    prompt_id: str
    category: str
    prompt: str
    characters: list[str]
    backbone: str
    seed: int
    file: str
    sha256: str
    frames: int
    width: int
    height: int


SAMPLES = table("samples", 1, SampleRow, id="prompt_id", parent="prompt_id")


class ScoreRow(BaseRow):
    """One row of the table ``scores``."""

    score_id: str  # video id + metric
    video_id: str
    kind: str  # sample | clip (real footage, for scale)
    metric: str  # dimension/backend, e.g. imaging_quality/brisque
    value: float


SCORES = table("scores", 1, ScoreRow, id="score_id", parent="video_id")


class ReportRow(BaseRow):
    """One row of the table ``report``."""

    page: str
    file: str


REPORT = table("report", 1, ReportRow, id="page")
