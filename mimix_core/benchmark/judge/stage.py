"""Stage ``judgements``: let a model rate each system's video of each prompt in four aspects."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from mimix_core.benchmark.judge import judge_prompts
from mimix_core.benchmark.judge.authors_mode import build_authors_question, build_authors_video
from mimix_core.benchmark.judge.evaluation_plan import (
    EvaluationItem,
    JudgeVideoLoader,
    RatingTask,
    list_control_items,
    list_rating_tasks,
    load_prompt_context,
    validate_judge_inputs,
)
from mimix_core.benchmark.judge.judge_client import (
    JudgeClient,
    Judgement,
    JudgeRequest,
    build_answer_row,
    require_judge_vlm,
)
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.benchmark.judge.rubric import (
    ASPECTS,
    Aspect,
    load_authors_rubric,
    rubric_version,
)
from mimix_core.engine import progress
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables import Reason
from mimix_core.tables.judge_tables import JUDGEMENTS
from mimix_core.vlm import VlmRequest

CONTROLS_FOLDER = "controls"

QuestionBuilder = Callable[[str, EvaluationItem, Aspect, int], VlmRequest[Any]]
"""Builds the question of a rating from its id and its task."""


def run(inputs: JudgeInputs, settings: JudgeSettings, out: Path) -> StageReport:
    """Rate all videos: one row per video, aspect and sample.

    A row without an answer has no value but a reason. Mode strict also rates negative controls of
    some videos, written to ``controls`` below ``out``. Notes: number of missing answers. Raises
    BadInput when no judge model is configured, a reference image or the rubric is unreadable, the
    budget is spent or every request is rejected; Transient in an outage.
    """
    require_judge_vlm(settings)
    build_question, version = _question_builder(inputs, settings, out)
    tasks = list_rating_tasks(inputs, settings)
    client = JudgeClient(settings, inputs.response_cache)
    judgements = collect_ratings(tasks, build_question, client, inputs.retries)
    rows = [
        build_answer_row(
            judgement := judgements[name],
            "" if judgement.value is None else judgement.value.analysis,
            version,
            judgement_id=name,
            system=item.system,
            video_id=item.id,
            prompt_id=item.prompt.id,
            category=item.prompt.category,
            control=item.control or "",
            mode=settings.mode,
            aspect=aspect,
            sample=sample,
            value=None if judgement.value is None else float(judgement.value.score),
        )
        for name, (item, aspect, sample) in tasks.items()
    ]
    videos = len(inputs.prompts) * len(inputs.systems)
    controls = len(list_control_items(inputs, settings))
    return StageReport(
        rows=rows,
        rows_in=(videos * len(ASPECTS) + controls) * settings.effective_samples,
        notes={"missing": sum(judgement.value is None for judgement in judgements.values())},
    )


def _question_builder(
    inputs: JudgeInputs, settings: JudgeSettings, out: Path
) -> tuple[QuestionBuilder, str]:
    """Return what builds the questions of the mode, and the version of their texts."""
    vlm = require_judge_vlm(settings)
    if settings.mode == "authors":
        validate_judge_inputs(inputs)
        rubric = load_authors_rubric(inputs.rubric.path)

        def build_as_the_authors(
            name: str, item: EvaluationItem, aspect: Aspect, _sample: int
        ) -> VlmRequest[Any]:
            assert item.video is not None
            video = build_authors_video(item.video)
            return build_authors_question(name, rubric, vlm, item.prompt, video, aspect)

        return build_as_the_authors, rubric_version(rubric, inputs.rubric)
    context = load_prompt_context(inputs, settings, vlm)
    loader = JudgeVideoLoader(context, out / CONTROLS_FOLDER)

    def build_question(
        name: str, item: EvaluationItem, aspect: Aspect, sample: int
    ) -> VlmRequest[Any]:
        return judge_prompts.build_rating_question(
            name, context, item.prompt, loader.load_parts(item), aspect, sample
        )

    return build_question, rubric_version(context.rubric, inputs.rubric)


def collect_ratings(
    tasks: Mapping[str, RatingTask],
    build_question: QuestionBuilder,
    client: JudgeClient,
    retries: Mapping[str, int],
) -> dict[str, Judgement[Any]]:
    """Collect the ratings of existing videos, and failures for missing videos."""
    failures: dict[str, Judgement[Any]] = {
        name: Judgement(None, Reason.NO_VIDEO, item.missing_reason)
        for name, (item, _, _) in tasks.items()
        if item.video is None
    }
    requests = [
        JudgeRequest(name, partial(build_question, name, *task), retries.get(name, 0))
        for name, task in tasks.items()
        if name not in failures
    ]
    return failures | client.evaluate(requests, progress.report_progress)


STAGE = Stage(
    name="judgements",
    title="Ratings",
    description="Let a vision-language model rate each video on four aspects.",
    row_noun="ratings",
    phase=Phase.EVALUATION,
    upstream=("samples",),
    resources=frozenset({Resource.CPU, Resource.NETWORK}),
    version=5,
    inputs=JudgeInputs,
    settings=JudgeSettings,
    table=JUDGEMENTS,
    run=run,
)
