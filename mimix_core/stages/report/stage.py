"""Stage ``report``: write one HTML page from all tables of a run."""

from __future__ import annotations

from pathlib import Path

from mimix_core import tables
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.settings import ReportSettings
from mimix_core.stages.report.report_inputs import (
    CharacterSummary,
    ReportInputs,
    ShowSummary,
    UnitSummary,
)
from mimix_core.stages.report.report_page import build_template_values, render_report

__all__ = ["STAGE", "CharacterSummary", "ReportInputs", "ShowSummary", "UnitSummary"]

PAGE_NAME = "index.html"


def run(inputs: ReportInputs, settings: ReportSettings, out: Path) -> StageReport:
    """Write ``index.html`` and the videos it links to.

    Raises BadInput for a wrong or incomplete table, or a broken file that a table refers to.
    """
    values = build_template_values(inputs, settings, out)
    page = render_report(values)
    (out / PAGE_NAME).write_text(page, encoding="utf-8")
    notes = {
        "page_bytes": len(page.encode()),
        "clips_shown": len(values["clips"]),
        "composites_shown": len(values["composites"]),
        "samples_shown": len(values["samples"]),
    }
    return StageReport([tables.ok(page="index", file=PAGE_NAME)], rows_in=1, notes=notes)


STAGE = Stage(
    name="report",
    title="Report",
    description="Write one HTML page that shows what a run produced.",
    row_noun="pages",
    phase=Phase.REPORT,
    upstream=(
        "scenes",
        "overlays",
        "duplicates",
        "transcripts",
        "captions",
        "cutouts",
        "composites",
        "recaptions",
        "dataset",
        "backbone",
        "latents",
        "embeddings",
        "lora",
        "samples",
        "scores",
    ),
    version=5,
    inputs=ReportInputs,
    settings=ReportSettings,
    table=tables.REPORT,
    run=run,
)
