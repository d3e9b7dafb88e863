"""The page: what each section shows, and the template it is set in."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef
from mimix_core.settings import ReportSettings
from mimix_core.stages.report import labels, result_views, stage_summary, timelines
from mimix_core.stages.report.crops import framing
from mimix_core.stages.report.galleries import Gallery
from mimix_core.stages.report.report_inputs import ReportInputs
from mimix_core.stages.report.run_tables import Entry, entries
from mimix_core.stages.report.training_curves import Losses, read_losses


@dataclass(frozen=True)
class Evidence:
    """The rows of all tables of a run."""

    scenes: tuple[Entry, ...]
    overlays: tuple[Entry, ...]
    clips: tuple[Entry, ...]
    transcripts: tuple[Entry, ...]
    captions: tuple[Entry, ...]
    cutouts: tuple[Entry, ...]
    composites: tuple[Entry, ...]
    recaptions: tuple[Entry, ...]
    dataset: tuple[Entry, ...]
    backbone: tuple[Entry, ...]
    lora: tuple[Entry, ...]
    losses: Losses
    samples: tuple[Entry, ...]
    scores: tuple[Entry, ...]


def read(inputs: ReportInputs) -> Evidence:
    """Read all tables. Raises BadInput naming the one that is not what it should be."""
    return Evidence(
        scenes=entries(inputs.scenes, tables.SCENES),
        overlays=entries(inputs.overlays, tables.OVERLAYS),
        clips=entries(inputs.clips, tables.CLIPS),
        transcripts=entries(inputs.transcripts, tables.TRANSCRIPTS),
        captions=entries(inputs.captions, tables.CAPTIONS),
        cutouts=entries(inputs.cutouts, tables.CUTOUTS),
        composites=entries([inputs.composites], tables.COMPOSITES),
        recaptions=entries([inputs.recaptions], tables.CAPTIONS),
        dataset=entries([inputs.dataset], tables.DATASET),
        backbone=entries([inputs.backbone], tables.BACKBONE),
        lora=entries([inputs.lora], tables.LORA),
        losses=read_losses(inputs.lora.folder),
        samples=entries([inputs.samples], tables.SAMPLES),
        scores=entries([inputs.scores], tables.SCORES),
    )


def view(inputs: ReportInputs, settings: ReportSettings, out: Path) -> dict[str, Any]:
    """What the template shows. Copies the videos that the page links to below ``out``."""
    found = read(inputs)
    titles = {show.id: show.title for show in inputs.shows}
    tones = labels.tones(c.name for show in inputs.shows for c in show.characters)
    gallery = Gallery(found.clips, titles, tones, settings, out)
    kept, refused = gallery.cutouts(found.cutouts)
    flows = stage_summary.flows(inputs.records)
    return {
        "title": settings.title or inputs.title,
        "shows": inputs.shows,
        "tones": tones,
        "numbers": stage_summary.key_numbers(
            found.scenes,
            found.clips,
            found.captions,
            found.dataset,
            found.losses,
            found.samples,
        ),
        "flows": flows,
        "total": stage_summary.total([stage.counts for stage in flows]),
        "episodes": timelines.episode_views(
            found.scenes, found.clips, titles, settings.max_episodes_shown
        ),
        "episodes_in_all": len({scene["episode_id"] for scene in found.scenes}),
        "framing": framing(found.overlays, 2 * settings.preview_width, OVERLAYS_SHOWN),
        "clips": gallery.clips(found.captions, found.transcripts),
        "clips_in_all": sum(clip.ok for clip in found.clips),
        "cutouts": kept,
        "cutouts_in_all": sum(cutout.ok for cutout in found.cutouts),
        "refused": refused,
        "refused_in_all": sum(not cutout.ok for cutout in found.cutouts),
        "composites": gallery.composites(found.composites, found.cutouts, found.recaptions),
        "composites_in_all": sum(composite.ok for composite in found.composites),
        "dataset": stage_summary.dataset_view(found.dataset, titles),
        "training": result_views.training_view(found.lora, found.losses),
        "previews": gallery.previews(found.losses.previews),
        "previews_in_all": len({(s.prompt, s.seed) for s in found.losses.previews}),
        "samples": gallery.samples(found.samples),
        "samples_in_all": sum(sample.ok for sample in found.samples),
        "stand_in": result_views.stand_in(found.backbone),
        "scores": result_views.score_views(found.scores),
        "makers": result_views.makers(
            [
                ("overlays", found.overlays, ["backend"]),
                ("transcripts", found.transcripts, ["backend"]),
                ("captions", found.captions, ["backend"]),
                ("cutouts", found.cutouts, ["locator", "backend"]),
                ("recaptions", found.recaptions, ["backend"]),
                ("samples", found.samples, ["backbone"]),
                ("scores", found.scores, ["metric"]),
            ]
        ),
        "components": result_views.components(found.backbone),
        "origins": result_views.origins(_refs(inputs)),
        "preview_frames": settings.preview_frames,
    }


OVERLAYS_SHOWN = 4


def _refs(inputs: ReportInputs) -> list[TableRef]:
    """All tables given, in the order of the way of the data.

    The clips given are those after the duplicates were found: that stage has no table of its own.
    """
    found = []
    for name in labels.STAGES:
        if name not in ReportInputs.model_fields:
            continue
        value = getattr(inputs, name)
        found += sorted(value, key=lambda ref: ref.unit) if isinstance(value, tuple) else [value]
    return found


def render(values: dict[str, Any]) -> str:
    """The page as HTML: style and script inside, every text escaped, no request to anywhere."""
    static = resources.files("mimix_core.stages.report") / "static"
    style = (static / "page.css").read_text(encoding="utf-8")
    script = (static / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    environment = Environment(
        loader=PackageLoader("mimix_core.stages.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # The policy lets the page's own script run and no other, should a text ever slip through.
    return environment.get_template("page.html").render(
        **values, style=Markup(style), script=Markup(script), script_digest=digest
    )
