"""Stage ``judgements``: let a model rate each system's video of each prompt in four aspects."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mimix_core.benchmark.judge import judge_prompts
from mimix_core.benchmark.judge.evaluation_plan import (
    EvaluationItem,
    JudgeVideoLoader,
    list_control_items,
    list_evaluation_items,
    load_prompt_context,
)
from mimix_core.benchmark.judge.judge_client import (
    JudgeClient,
    Judgement,
    JudgeRequest,
    build_answer_row,
    require_judge_vlm,
)
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.benchmark.judge.judge_prompts import Rating
from mimix_core.benchmark.judge.rubric import ASPECTS, Aspect, rubric_version
from mimix_core.engine import progress
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables import Reason
from mimix_core.tables.judge_tables import JUDGEMENTS
from mimix_core.vlm import VlmRequest

CONTROLS_FOLDER = "controls"

RatingTask = tuple[EvaluationItem, Aspect, int]
"""Video, aspect and sample number."""


def run(inputs: JudgeInputs, settings: JudgeSettings, out: Path) -> StageReport:
    """Rate all videos: one row per video, aspect and sample.

    A row without an answer has no value but a reason. Mode strict also rates negative controls of
    some videos, written to ``controls`` below ``out``. Notes: number of missing answers. Raises
    BadInput when no judge model is configured, a reference image or the rubric is unreadable, the
    budget is spent or every request is rejected; Transient in an outage.
    """
    context = load_prompt_context(inputs, settings, require_judge_vlm(settings))
    controls = list_control_items(inputs, settings)
    tasks = {
        f"{item.id}/{settings.mode}/{aspect}/{sample}": (item, aspect, sample)
        for item in (*list_evaluation_items(inputs), *controls)
        for aspect in item.aspects
        for sample in range(settings.effective_samples)
    }
    loader = JudgeVideoLoader(context, out / CONTROLS_FOLDER)

    def build_question(
        name: str, item: EvaluationItem, aspect: Aspect, sample: int
    ) -> VlmRequest[Rating]:
        return judge_prompts.build_rating_question(
            name, context, item.prompt, loader.load_parts(item), aspect, sample
        )

    judgements = collect_ratings(
        tasks, build_question, JudgeClient(settings, inputs.response_cache)
    )
    version = rubric_version(context.rubric, inputs.rubric)
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
    return StageReport(
        rows=rows,
        rows_in=(videos * len(ASPECTS) + len(controls)) * settings.effective_samples,
        notes={"missing": sum(judgement.value is None for judgement in judgements.values())},
    )


def collect_ratings(
    tasks: dict[str, RatingTask],
    build_question: Callable[[str, EvaluationItem, Aspect, int], VlmRequest[Rating]],
    client: JudgeClient,
) -> dict[str, Judgement[Rating]]:
    """Collect the ratings of existing videos, and failures for missing videos."""
    failures: dict[str, Judgement[Rating]] = {
        name: Judgement(None, Reason.NO_VIDEO, item.missing_reason)
        for name, (item, _, _) in tasks.items()
        if item.video is None
    }
    requests = [
        JudgeRequest(name, partial(build_question, name, *task))
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
    version=3,
    inputs=JudgeInputs,
    settings=JudgeSettings,
    table=JUDGEMENTS,
    run=run,
)
