"""Task ``character_scores``: find out of each asked-for character who it became."""

from __future__ import annotations

from collections.abc import Sequence

from mimix_core.benchmark.characters.character_scores_stage import (
    CharacterScoreInputs,
    model_files,
)
from mimix_core.benchmark.judge.judge_inputs import SystemVideos
from mimix_core.domain.prompts import VideoPrompt, load_prompts
from mimix_core.engine.artifacts import TableRef
from mimix_core.errors import BadInput
from mimix_core.project.workspace import Workspace
from tasks.base import Run, stage_task
from tasks.decisions import load_vetoes
from tasks.evaluation import LayoutSources
from tasks.judgements import collect_sample_videos

character_scores_task = stage_task("character_scores")


def score_characters_of_samples(
    run: Run, samples: TableRef, sources: LayoutSources
) -> TableRef | None:
    """Score the characters of every sample; None if ``character_scores.backend`` is none."""
    settings = run.workspace.config.character_scores
    if settings.backend == "none":
        return None
    prompts = run.workspace.file_ref(run.workspace.config.samples.prompts, "samples.prompts")
    if prompts is None:
        raise BadInput("no prompts to score by", where="settings, key samples.prompts")
    roster = [character.name for character in run.workspace.library.characters()]
    inputs = build_character_score_inputs(
        run.workspace,
        load_prompts(prompts.path, roster),
        collect_sample_videos(samples),
        sources.clips,
        sources.cutouts,
    )
    return run.run_single(character_scores_task, inputs, settings)


def build_character_score_inputs(
    workspace: Workspace,
    prompts: Sequence[VideoPrompt],
    system: SystemVideos,
    clips: Sequence[TableRef],
    cutouts: Sequence[TableRef],
) -> CharacterScoreInputs:
    """Build the stage's inputs for a system's videos. Raises BadInput for a missing weights file.

    The clips of shows in which characters are guests have no cutouts.
    """
    settings = workspace.config.character_scores
    files = [workspace.file_ref(path, "character_scores.weights") for path in model_files(settings)]
    return CharacterScoreInputs(
        unit=system.name,
        prompts=tuple(prompts),
        system=system,
        styles={
            character.name: show.style.value
            for show in workspace.library.shows
            for character in show.characters
        },
        clips=tuple(clips),
        cutouts=tuple(cutouts),
        vetoes=load_vetoes(workspace),
        weights=tuple(file for file in files if file is not None),
    )
