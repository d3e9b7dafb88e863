"""Publish the paper's tables for the run's own videos as an artifact in the Prefect UI."""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact

from mimix_core import tables
from mimix_core.benchmark.systems import System
from mimix_core.benchmark.tables.all_tables import build_all_tables
from mimix_core.benchmark.tables.load_results import load_results
from mimix_core.benchmark.tables.table_export import to_markdown_summary
from mimix_core.domain.prompts import read_prompt_file
from mimix_core.engine.artifacts import TableRef
from mimix_core.tables import SCORES
from mimix_core.wan.samples_stage import VIDEO_FOLDER
from tasks.base import Run
from tasks.judgements import OWN_SYSTEM

REPORT_HINT = "`mimix bench report` writes it, together with other systems (docs/benchmark.md)"


def publish_paper_tables(
    run: Run, samples: TableRef, scores: TableRef, judgements: TableRef | None
) -> None:
    """Publish tables 1 to 3 for the run's samples, next to the paper's figures.

    Publishes nothing if no sample was scored; the run's failed rows have the reasons.
    """
    if not any(row["kind"] == "sample" for row in tables.read(scores.path, SCORES)):
        return
    prompts = run.workspace.file_ref(run.workspace.config.samples.prompts, "samples.prompts")
    assert prompts is not None, "samples are generated from prompts"
    evidence = load_results(
        read_prompt_file(prompts.path),
        [System(OWN_SYSTEM, samples.folder / VIDEO_FOLDER)],
        {OWN_SYSTEM: [scores.path]},
        [] if judgements is None else [judgements.path],
        [],
        None,
    )
    create_markdown_artifact(
        markdown=to_markdown_summary(build_all_tables(evidence, {}, {}), REPORT_HINT),
        key="mimix-tables",
        description="The paper's tables for the videos of this run.",
    )
