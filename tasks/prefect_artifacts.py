"""Publish a run's artifacts in the Prefect UI: summary, rejected rows, contact sheets, report link.

All of them are bounded in size: an artifact is a row of the server's database, and the tables
themselves remain in the store.
"""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)

from mimix_core import tables
from mimix_core.engine import registry
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.child_environment import child_environment
from mimix_core.engine.text_escaping import escape_markdown
from mimix_core.settings import Config
from mimix_core.tables import Status
from tasks.base import Run

MAX_REJECTED_ROWS = 200
MAX_SHEET_FRAMES = 24
CONTACT_SHEET_TIMEOUT_SECONDS = 120.0

CONTACT_SHEET_STAGES = ("clips", "composites", "samples")
"""Stages whose files are videos to show as contact sheets."""


def publish_run_artifacts(run: Run, flow_name: str, seconds: float) -> None:
    """Publish the run's results on the page of the flow run."""
    create_markdown_artifact(
        markdown=run.summary().markdown(flow_name, seconds),
        key=f"mimix-{flow_name}-summary",
        description="Rows in and out of every stage.",
    )
    _publish_rejected_rows(run, flow_name)
    for stage in computed_stages(run):
        if stage in CONTACT_SHEET_STAGES:
            _publish_contact_sheet(run, stage)
    if "report" in run.refs:
        link = report_link(run.workspace.config)
        create_link_artifact(
            link=link, link_text="Report", key="mimix-report", description=escape_markdown(link)
        )


def computed_stages(run: Run) -> list[str]:
    """Return the stages of which this run computed at least one unit, in order."""
    return [totals.stage for totals in run.console.finished_stages if totals.computed]


def report_link(config: Config) -> str:
    """Return the URL of the workspace's report: an HTTP address if one is set, else the file."""
    if config.run.workspace_url is not None:
        return f"{config.run.workspace_url.rstrip('/')}/report/index.html"
    return (config.workspace / "report" / "index.html").as_uri()


def rejected_rows_table(refs: Sequence[TableRef]) -> Iterator[dict[str, str]]:
    """Yield every rejected or failed row with its stage, unit, status, reason and detail."""
    for ref in refs:
        if ref.counts.rejected == ref.counts.failed == 0:
            continue
        table = registry.get_stage(ref.stage).table
        for row in tables.read(ref.path, table):
            if row["status"] != Status.OK:
                yield {
                    "stage": ref.stage,
                    "unit": ref.unit,
                    "row": str(row[table.id]),
                    "status": row["status"],
                    "reason": row["reason"],
                    "detail": row["detail"] or "",
                }


def escape_cells(rows: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    """Escape the cells of a table artifact: the UI renders each as Markdown."""
    return [{name: escape_markdown(value) for name, value in row.items()} for row in rows]


def _publish_rejected_rows(run: Run, flow_name: str) -> None:
    refs = [ref for stage_refs in run.refs.values() for ref in stage_refs]
    total = sum(ref.counts.rejected + ref.counts.failed for ref in refs)
    # Failed rows first: rejected rows are usually intended.
    ordered = sorted(refs, key=lambda ref: ref.counts.failed == 0)
    shown = [
        row for row, _ in zip(rejected_rows_table(ordered), range(MAX_REJECTED_ROWS), strict=False)
    ]
    if not shown:
        return
    more = f"; {total - len(shown)} more in the tables of the store" if total > len(shown) else ""
    create_table_artifact(
        table=escape_cells(shown),
        key=f"mimix-{flow_name}-rejects",
        description=f"{total} rows rejected or failed, with reasons{more}",
    )


def _publish_contact_sheet(run: Run, stage: str) -> None:
    """Publish one image with the middle frames of evenly selected videos of the stage."""
    videos = [video for ref in run.refs[stage] for video in _video_paths(ref)]
    if not videos:
        return
    step = max(1, len(videos) // MAX_SHEET_FRAMES)
    selected = videos[::step][:MAX_SHEET_FRAMES]
    result = subprocess.run(
        [sys.executable, "-m", "mimix_core.media.contact_sheet", *map(str, selected)],
        stdin=subprocess.DEVNULL,
        env=child_environment(),
        capture_output=True,
        timeout=CONTACT_SHEET_TIMEOUT_SECONDS,
        check=False,
    )
    if result.returncode != 0:
        run.console.warn(
            f"no contact sheet of {stage}: {result.stderr.decode(errors='replace')[-300:]}"
        )
        return
    # Not an image artifact: the UI would print the complete data URI below the image.
    data_uri = "data:image/jpeg;base64," + base64.b64encode(result.stdout).decode()
    create_markdown_artifact(
        markdown=f"![{stage}]({data_uri})",
        key=f"mimix-{stage}",
        description=f"{len(selected)} of {len(videos)} {stage}: the middle frame of each",
    )


def _video_paths(ref: TableRef) -> list[Path]:
    rows = tables.usable(tables.read(ref.path, registry.get_stage(ref.stage).table))
    return [ref.folder / row["file"] for row in rows]
