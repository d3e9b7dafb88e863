"""The paper's tables that a run publishes in the UI."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from mimix_core import tables
from mimix_core.tables import SAMPLES, SCORES
from tasks.base import Run
from tasks.tables_artifact import publish_paper_tables
from tests.factories import table_ref


def test_without_scored_samples_no_tables_are_published(tmp_path: Path) -> None:
    real = {"score_id": "a/m", "video_id": "a", "kind": "clip", "metric": "m", "value": 1.0}
    scores = table_ref(tmp_path / "scores", SCORES, [tables.ok(**real)])
    samples = table_ref(tmp_path / "samples", SAMPLES, [])
    publish_paper_tables(cast(Run, None), samples, scores, None)
