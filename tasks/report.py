"""Task ``report``: write the HTML report of a run."""

from collections.abc import Sequence
from pathlib import Path

from mimix_core.engine.artifacts import TableRef
from mimix_core.stages.report.report_inputs import (
    CharacterSummary,
    ReportInputs,
    ShowSummary,
    UnitSummary,
)
from tasks.base import Run, stage_task

report_task = stage_task("report")


def write_report(
    run: Run,
    *,
    scenes: Sequence[TableRef],
    overlays: Sequence[TableRef],
    clips: Sequence[TableRef],
    transcripts: Sequence[TableRef],
    captions: Sequence[TableRef],
    cutouts: Sequence[TableRef],
    composites: TableRef,
    recaptions: TableRef,
    dataset: TableRef,
    backbone: TableRef,
    latents: Sequence[TableRef],
    embeddings: Sequence[TableRef],
    lora: TableRef,
    samples: TableRef,
    scores: TableRef,
) -> Path:
    """Write the report, link ``<workspace>/report`` to it, and return the path of its page."""
    workspace = run.workspace
    shows = tuple(
        ShowSummary(
            id=show.id,
            title=show.title,
            style=show.style,
            characters=tuple(
                CharacterSummary(name=c.name, description=c.description) for c in show.characters
            ),
        )
        for show in workspace.library.shows
    )
    records = []
    for refs in run.refs.values():
        for ref in refs:
            record = workspace.store.record(ref)
            records.append(
                UnitSummary(
                    stage=record.stage,
                    unit=record.unit,
                    counts=record.counts,
                    reasons=record.reasons,
                    notes=record.notes,
                )
            )
    inputs = ReportInputs(
        title=", ".join(show.title for show in shows),
        shows=shows,
        records=tuple(records),
        scenes=tuple(scenes),
        overlays=tuple(overlays),
        clips=tuple(clips),
        transcripts=tuple(transcripts),
        captions=tuple(captions),
        cutouts=tuple(cutouts),
        latents=tuple(latents),
        embeddings=tuple(embeddings),
        composites=composites,
        recaptions=recaptions,
        dataset=dataset,
        backbone=backbone,
        lora=lora,
        samples=samples,
        scores=scores,
    )
    table = run.run_single(report_task, inputs, workspace.config.report)
    latest = workspace.config.workspace / "report"
    _replace_symlink(latest, table.folder)
    return latest / "index.html"


def _replace_symlink(link: Path, target: Path) -> None:
    """Make ``link`` a symbolic link to ``target``, replacing an existing link atomically."""
    temporary = link.with_name(f".{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target.resolve(), target_is_directory=True)
    temporary.replace(link)
