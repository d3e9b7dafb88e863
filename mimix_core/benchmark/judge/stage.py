"""Stage ``judgements``: each system's video of each prompt, rated in four aspects by a model."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from mimix_core.benchmark.judge import judge_prompts
from mimix_core.benchmark.judge.evaluation_plan import Screen, Subject, controls, desk, subjects
from mimix_core.benchmark.judge.judge_client import Heard, Judge, Wanted, judge_vlm, row_of
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.benchmark.judge.judge_prompts import Rating
from mimix_core.benchmark.judge.rubric import ASPECTS, Aspect, stated_version
from mimix_core.engine import progress
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables import Reason
from mimix_core.tables.judge_tables import JUDGEMENTS
from mimix_core.vlm import Question

FOLDER = "controls"

Asked = tuple[Subject, Aspect, int]


def run(inputs: JudgeInputs, settings: JudgeSettings, out: Path) -> StageReport:
    """One row per video, aspect and sample; a row without an answer has no value and a reason.

    In mode strict some videos are judged in spoilt versions, too (``controls``), which are written
    below ``out``. Notes: how many answers are missing. Raises BadInput when nothing judges, a
    reference or the rubric is not readable, or the budget is spent; Transient in an outage.
    """
    given = desk(inputs, settings, judge_vlm(settings))
    spoilt = controls(inputs, settings)
    asked = {
        f"{one.id}/{settings.mode}/{aspect}/{sample}": (one, aspect, sample)
        for one in (*subjects(inputs), *spoilt)
        for aspect in one.aspects
        for sample in range(settings.effective_samples)
    }
    screen = Screen(given, out / FOLDER)

    def question(name: str, one: Subject, aspect: Aspect, sample: int) -> Question[Rating]:
        return judge_prompts.rating(name, given, one.prompt, screen.shown(one), aspect, sample)

    heard = hear(asked, question, Judge(settings, inputs.answers))
    version = stated_version(given.rubric, inputs.rubric)
    rows = [
        row_of(
            answer := heard[name],
            "" if answer.value is None else answer.value.analysis,
            version,
            judgement_id=name,
            system=one.system,
            video_id=one.id,
            prompt_id=one.prompt.id,
            category=one.prompt.category,
            control=one.control or "",
            mode=settings.mode,
            aspect=aspect,
            sample=sample,
            value=None if answer.value is None else float(answer.value.score),
        )
        for name, (one, aspect, sample) in asked.items()
    ]
    videos = len(inputs.prompts) * len(inputs.systems)
    return StageReport(
        rows=rows,
        rows_in=(videos * len(ASPECTS) + len(spoilt)) * settings.effective_samples,
        notes={"missing": sum(one.value is None for one in heard.values())},
    )


def hear(
    asked: dict[str, Asked],
    question: Callable[[str, Subject, Aspect, int], Question[Rating]],
    judge: Judge,
) -> dict[str, Heard[Rating]]:
    """The answers to all that can be asked, and the reason of what cannot be."""
    absent: dict[str, Heard[Rating]] = {
        name: Heard(None, Reason.NO_VIDEO, one.absent)
        for name, (one, _, _) in asked.items()
        if one.video is None
    }
    wanted = [
        Wanted(name, partial(question, name, *rest))
        for name, rest in asked.items()
        if name not in absent
    ]
    return absent | judge.hear(wanted, progress.report_progress)


STAGE = Stage(
    name="judgements",
    title="Ratings",
    description="Let a vision-language model rate each video on four aspects.",
    row_noun="ratings",
    phase=Phase.EVALUATION,
    upstream=("samples",),
    resources=frozenset({Resource.CPU, Resource.NETWORK}),
    version=2,
    inputs=JudgeInputs,
    settings=JudgeSettings,
    table=JUDGEMENTS,
    run=run,
)
