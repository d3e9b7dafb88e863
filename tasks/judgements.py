"""Task ``judgements``: let a vision-language model rate the run's own videos."""

from __future__ import annotations

from mimix_core import tables
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs, SystemVideos, build_cast
from mimix_core.benchmark.judge.judge_retries import with_rating_retries
from mimix_core.benchmark.judge.rubric import find_rubric
from mimix_core.domain.prompts import load_prompts
from mimix_core.engine.artifacts import FileRef, TableRef
from mimix_core.errors import BadInput
from mimix_core.project.workspace import Workspace
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables import SAMPLES, Status
from tasks.base import Run, stage_task
from tasks.prefect_secrets import load_api_key

OWN_SYSTEM = "ours"
"""Name of the run's own videos in the table."""

judgements_task = stage_task("judgements")


def load_judge_key(settings: JudgeSettings) -> None:
    """Load the judge's API key before any work, if a judge is configured. Raises BadInput."""
    if settings.vlm is not None:
        load_api_key(settings.vlm, settings.vlm_secret, "judge.vlm_secret")


def judge_samples(run: Run, samples: TableRef) -> TableRef | None:
    """Rate every sample; None if the settings configure no judge."""
    workspace, settings = run.workspace, run.workspace.config.judge
    if settings.vlm is None:
        return None
    load_judge_key(settings)
    inputs = build_judge_inputs(workspace, samples)
    inputs = with_rating_retries(inputs, settings, workspace.config.workspace)
    return run.run_single(judgements_task, inputs, settings)


def build_judge_inputs(workspace: Workspace, samples: TableRef) -> JudgeInputs:
    """Build the judge's inputs: the run's videos, their prompts and the library's characters.

    Raises BadInput if the settings name no prompts, or a file cannot be read.
    """
    prompts = workspace.file_ref(workspace.config.samples.prompts, "samples.prompts")
    if prompts is None:
        raise BadInput("no prompts to judge by", where="settings, key samples.prompts")
    library = workspace.library
    return JudgeInputs(
        prompts=load_prompts(prompts.path, [one.name for one in library.characters()]),
        cast=build_cast(library.shows, workspace.store.source_ref),
        systems=(collect_sample_videos(samples),),
        rubric=workspace.store.source_ref(find_rubric(workspace.config.judge)),
        response_cache=workspace.config.workspace / "answers",
    )


def collect_sample_videos(samples: TableRef) -> SystemVideos:
    """Collect the run's videos as a system; a failed sample counts as absent."""
    videos: dict[str, FileRef] = {}
    absent: dict[str, str] = {}
    for row in tables.read(samples.path, SAMPLES):
        if row["status"] == Status.OK:
            path = samples.folder / row["file"]
            size = path.stat().st_size
            videos[row["prompt_id"]] = FileRef(path=path, sha256=row["sha256"], size=size)
        else:
            absent[row["prompt_id"]] = f"{row['reason']}: {row['detail']}"
    return SystemVideos(name=OWN_SYSTEM, videos=videos, missing=absent)
