"""Build the variables of the report page, and render it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef
from mimix_core.html.page_renderer import SHARED_STYLE, render_page
from mimix_core.settings import ReportSettings
from mimix_core.stages.report import labels, result_views, stage_summary, timelines
from mimix_core.stages.report.crops import summarize_crops
from mimix_core.stages.report.galleries import Gallery
from mimix_core.stages.report.report_inputs import ReportInputs
from mimix_core.stages.report.run_tables import (
    RunTable,
    TableEntry,
    load_entries,
    open_tables,
)
from mimix_core.stages.report.training_curves import TrainingCurves, load_training_curves
from mimix_core.tables import (
    BackboneRow,
    CaptionRow,
    ClipRow,
    CompositeRow,
    CutoutRow,
    DatasetRow,
    LoraRow,
    OverlayRow,
    SampleRow,
    SceneRow,
    ScoreRow,
    TranscriptRow,
)

PACKAGE = "mimix_core.stages.report"

MAX_OVERLAYS_SHOWN = 4

_SECTION_STAGES = (
    "overlays",
    "clips",
    "captions",
    "cutouts",
    "composites",
    "dataset",
    "lora",
    "samples",
    "scores",
)
"""Stages with a section of their own, in the order of the page."""


@dataclass(frozen=True)
class TrainingTables:
    """The rows and the log of one training; ``unit``: the expert that was trained, or "all"."""

    unit: str
    lora: RunTable[LoraRow]
    curves: TrainingCurves


@dataclass(frozen=True)
class RunTables:
    """All tables of a run; ``trainings``: one, or one of each expert."""

    scenes: RunTable[SceneRow]
    overlays: RunTable[OverlayRow]
    clips: RunTable[ClipRow]
    transcripts: RunTable[TranscriptRow]
    captions: RunTable[CaptionRow]
    cutouts: RunTable[CutoutRow]
    composites: RunTable[CompositeRow]
    recaptions: RunTable[CaptionRow]
    dataset: RunTable[DatasetRow]
    backbone: tuple[TableEntry[BackboneRow], ...]
    trainings: tuple[TrainingTables, ...]
    samples: tuple[TableEntry[SampleRow], ...]
    scores: tuple[TableEntry[ScoreRow], ...]


def open_run_tables(inputs: ReportInputs) -> RunTables:
    """Open all tables. Raises BadInput that names a wrong or unreadable one."""
    return RunTables(
        scenes=open_tables(inputs.scenes, tables.SCENES),
        overlays=open_tables(inputs.overlays, tables.OVERLAYS),
        clips=open_tables(inputs.clips, tables.CLIPS),
        transcripts=open_tables(inputs.transcripts, tables.TRANSCRIPTS),
        captions=open_tables(inputs.captions, tables.CAPTIONS),
        cutouts=open_tables(inputs.cutouts, tables.CUTOUTS),
        composites=open_tables(_present(inputs.composites), tables.COMPOSITES),
        recaptions=open_tables(_present(inputs.recaptions), tables.CAPTIONS),
        dataset=open_tables(_present(inputs.dataset), tables.DATASET),
        backbone=load_entries(_present(inputs.backbone), tables.BACKBONE),
        trainings=tuple(
            TrainingTables(
                ref.unit, open_tables([ref], tables.LORA), load_training_curves(ref.folder)
            )
            for ref in [*_present(inputs.lora), *inputs.other_lora]
        )
        or (TrainingTables("all", open_tables((), tables.LORA), TrainingCurves((), ())),),
        samples=load_entries(_present(inputs.samples), tables.SAMPLES),
        scores=load_entries(_present(inputs.scores), tables.SCORES),
    )


def _stages_not_run(inputs: ReportInputs) -> list[str]:
    """List the stages after the last one with a table; one without in between had nothing to do."""
    present = [bool(getattr(inputs, name)) for name in _SECTION_STAGES]
    last = max((index for index, found in enumerate(present) if found), default=-1)
    return list(_SECTION_STAGES[last + 1 :])


def _present(ref: TableRef | None) -> list[TableRef]:
    return [] if ref is None else [ref]


def build_template_values(
    inputs: ReportInputs, settings: ReportSettings, out: Path
) -> dict[str, Any]:
    """Build the template's variables. Copies the videos that the page links to below ``out``."""
    run = open_run_tables(inputs)
    titles = {show.id: show.title for show in inputs.shows}
    colors = labels.assign_colors(c.name for show in inputs.shows for c in show.characters)
    gallery = Gallery(run.clips, titles, colors, settings, inputs.frame_rate, out)
    accepted, rejected = gallery.cutout_views(run.cutouts)
    stages = stage_summary.summarize_stages(inputs.records)
    missing = _stages_not_run(inputs)
    footage = timelines.summarize_footage(run.scenes)
    shown = [episode.id for episode in footage.episodes[: settings.max_episodes_shown]]
    dataset = stage_summary.build_dataset_view(run.dataset, titles)
    return {
        "title": settings.title or inputs.title,
        "shows": inputs.shows,
        "colors": colors,
        "key_figures": stage_summary.build_key_figures(
            footage,
            run.clips.ok,
            run.captions.ok,
            dataset,
            [training.curves for training in run.trainings],
            sum(sample.ok for sample in run.samples),
        ),
        "stages": stages,
        "total": stage_summary.sum_counts([stage.counts for stage in stages]),
        "episodes": timelines.build_episode_views(
            run.scenes.find("episode_id", shown), run.clips.find("episode_id", shown), titles
        ),
        "episode_total": len(footage.episodes),
        "crops": summarize_crops(run.overlays, 2 * settings.preview_width, MAX_OVERLAYS_SHOWN),
        "missing_stages": missing,
        "missing_titles": [labels.stage_title(name) for name in missing],
        "clips": gallery.clip_views(run.captions, run.transcripts),
        "clip_total": run.clips.ok,
        "cutouts": accepted,
        "cutout_total": run.cutouts.ok,
        "rejected_cutouts": rejected,
        "rejected_cutout_total": run.cutouts.not_ok,
        "composites": gallery.composite_views(run.composites, run.cutouts, run.recaptions),
        "composite_total": run.composites.ok,
        "dataset": dataset,
        "trainings": [
            {
                "expert": training.unit if len(run.trainings) > 1 else "",
                "training": result_views.build_training_view(training.lora, training.curves),
                "previews": gallery.preview_views(training.curves.previews),
                "preview_total": len({(one.prompt, one.seed) for one in training.curves.previews}),
            }
            for training in run.trainings
        ],
        "samples": gallery.sample_views(run.samples),
        "sample_total": sum(sample.ok for sample in run.samples),
        "stand_in": result_views.find_stand_in(run.backbone),
        "scores": result_views.build_score_views(run.scores),
        "stage_backends": result_views.list_stage_backends(_backends(run)),
        "components": result_views.list_backbone_components(run.backbone),
        "source_tables": result_views.list_source_tables(_table_refs(inputs)),
        "preview_frames": settings.preview_frames,
    }


def _backends(run: RunTables) -> dict[str, set[str]]:
    """Collect the backends of each stage from the rows of its table."""
    return {
        "overlays": run.overlays.distinct("backend"),
        "transcripts": run.transcripts.distinct("backend"),
        "captions": run.captions.distinct("backend"),
        "cutouts": run.cutouts.distinct("locator") | run.cutouts.distinct("backend"),
        "recaptions": run.recaptions.distinct("backend"),
        "samples": {sample.row["backbone"] for sample in run.samples},
        "scores": {score.row["metric"] for score in run.scores},
    }


def _table_refs(inputs: ReportInputs) -> list[TableRef]:
    """List all input tables in pipeline order.

    ``clips`` are the clips after duplicate detection: that stage has no other table here.
    """
    refs: list[TableRef] = []
    for name in labels.stage_order():
        if name not in ReportInputs.model_fields:
            continue
        value = getattr(inputs, name)
        refs += (
            sorted(value, key=lambda ref: ref.unit) if isinstance(value, tuple) else _present(value)
        )
    return refs


def render_report(values: Mapping[str, Any]) -> str:
    """Render the page as HTML with inlined style, script and images; it loads nothing."""
    return render_page(PACKAGE, "page.html", values, styles=(SHARED_STYLE,), script="page.js")
