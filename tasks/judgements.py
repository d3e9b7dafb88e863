"""The judge's ratings of the run's own videos."""

from __future__ import annotations

from mimix_core import tables
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs, SystemVideos, cast_of
from mimix_core.benchmark.judge.rubric import default_or, read_rubric
from mimix_core.domain.prompts import load_prompts
from mimix_core.engine.artifacts import FileRef, TableRef
from mimix_core.errors import BadInput
from mimix_core.project.workspace import Workspace
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables import SAMPLES, Status
from tasks.base import Run, stage_task
from tasks.prefect_secrets import load_api_key

OWN_SYSTEM = "ours"
"""What the run's own videos go by in the table."""

judgements_task = stage_task("judgements")


def load_judge_key(settings: JudgeSettings) -> None:
    """See to the judge's key before any work, where the settings name a model. Raises BadInput."""
    if settings.vlm is not None:
        load_api_key(settings.vlm, settings.vlm_secret, "judge.vlm_secret")


def judge_samples(run: Run, samples: TableRef) -> TableRef | None:
    """Ratings of every sample; None when the settings name no model that judges."""
    workspace, settings = run.workspace, run.workspace.config.judge
    if settings.vlm is None:
        return None
    load_judge_key(settings)
    return run.run_single(judgements_task, build_judge_inputs(workspace, samples), settings)


def build_judge_inputs(workspace: Workspace, samples: TableRef) -> JudgeInputs:
    """The run's own videos, their prompts and the library's characters.

    Raises BadInput when the settings name no prompts, or what they name cannot be read.
    """
    prompts = workspace.file_ref(workspace.config.samples.prompts, "samples.prompts")
    if prompts is None:
        raise BadInput("no prompts to judge by", where="settings, key samples.prompts")
    library = workspace.library
    return JudgeInputs(
        prompts=load_prompts(prompts.path, [one.name for one in library.characters()]),
        cast=cast_of(library.shows, workspace.store.source_ref),
        systems=(collect_sample_videos(samples),),
        rubric=find_rubric_file(workspace),
        answers=workspace.config.workspace / "answers",
    )


def collect_sample_videos(samples: TableRef) -> SystemVideos:
    """The run's own videos as a system; a sample that failed is a video that is not there."""
    videos: dict[str, FileRef] = {}
    absent: dict[str, str] = {}
    for row in tables.read(samples.path, SAMPLES):
        if row["status"] == Status.OK:
            path = samples.folder / row["file"]
            size = path.stat().st_size
            videos[row["prompt_id"]] = FileRef(path=path, sha256=row["sha256"], size=size)
        else:
            absent[row["prompt_id"]] = f"{row['reason']}: {row['detail']}"
    return SystemVideos(name=OWN_SYSTEM, videos=videos, absent=absent)


def find_rubric_file(workspace: Workspace) -> FileRef:
    """The rubric of the settings, else the one that comes with MiMix; read once to check it."""
    file = workspace.store.source_ref(default_or(workspace.config.judge.rubric))
    read_rubric(file.path)
    return file
