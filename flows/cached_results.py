"""Collect the results that earlier runs have computed with these settings, stage by stage."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from flows import prefect_environment
from flows.augment import augment_stages
from flows.console import load_settings
from flows.curate import curate_stages
from flows.train import train_stages
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.stage import Phase
from mimix_core.errors import BadInput
from mimix_core.project.workspace import open_workspace
from mimix_core.stages.duplicates.stage import deduplicated_clip_tables
from mimix_core.stages.report.report_inputs import ReportInputs
from tasks.base import Run
from tasks.cached_run import ReadOnlyRun
from tasks.character_scores import score_characters_of_samples
from tasks.evaluation import generate_samples, score_samples
from tasks.judgements import judge_samples


@dataclass(frozen=True)
class CachedResults:
    """The results of all stages up to the first one with a missing result.

    ``run.refs``: all tables found, by stage in pipeline order. ``stopped_at``: why later stages
    were not looked up, None if all of them were.
    """

    run: ReadOnlyRun
    stopped_at: BadInput | None

    def report_tables(self) -> dict[str, TableRef | Sequence[TableRef]]:
        """Return the tables found, as the arguments of ``tasks.report.write_report``."""
        refs = dict(self.run.refs)
        if "duplicates" in refs:
            refs["clips"] = deduplicated_clip_tables(refs["duplicates"][0], refs["clips"])
        found: dict[str, TableRef | Sequence[TableRef]] = {}
        for name, field in ReportInputs.model_fields.items():
            if name in refs:
                found[name] = refs[name] if field.default == () else refs[name][0]
        if "lora" in refs:
            found["other_lora"] = refs["lora"][1:]
        return found


def collect_cached_results(settings: Path, workspace: Path | None) -> CachedResults:
    """Look up the results of every stage; computes nothing. Raises BadInput."""
    prefect_environment.configure_prefect()
    run = ReadOnlyRun(open_workspace(load_settings(settings, workspace)))
    try:
        walk_stages(run)
    except BadInput as error:
        return CachedResults(run, error)
    return CachedResults(run, None)


def walk_stages(run: Run, phases: Collection[Phase] = tuple(Phase)) -> None:
    """Go through the stages of these phases in order, except publishing and the report."""
    curated = curate_stages(run)
    if Phase.AUGMENTATION not in phases:
        return
    augmented = augment_stages(run, curated)
    if Phase.TRAINING not in phases:
        return
    trained = train_stages(run, curated, augmented)
    if Phase.GENERATION not in phases:
        return
    samples = generate_samples(run, trained.backbone, trained.lora, trained.layout_sources)
    if Phase.EVALUATION not in phases:
        return
    score_samples(run, samples, curated.clips)
    score_characters_of_samples(run, samples, trained.layout_sources)
    judge_samples(run, samples)
