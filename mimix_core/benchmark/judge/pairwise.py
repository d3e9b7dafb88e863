"""Stage ``duels``: any two systems' videos of a prompt side by side, in both orders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

from mimix_core.benchmark.judge import judge_prompts
from mimix_core.benchmark.judge.evaluation_plan import Screen, Subject, desk, subjects
from mimix_core.benchmark.judge.judge_client import Heard, Judge, Wanted, judge_vlm, row_of
from mimix_core.benchmark.judge.judge_inputs import JudgeInputs
from mimix_core.benchmark.judge.judge_prompts import Verdict
from mimix_core.benchmark.judge.rubric import ASPECTS, Aspect, stated_version
from mimix_core.engine import progress
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables import Reason
from mimix_core.tables.judge_tables import DUELS
from mimix_core.vlm import Question


@dataclass(frozen=True)
class Duel:
    """Sample 2j shows the left system's video first, sample 2j + 1 the right one's."""

    left: Subject
    right: Subject
    aspect: Aspect
    sample: int

    @property
    def id(self) -> str:
        pair = f"{self.left.system}~{self.right.system}"
        return f"{self.left.prompt.id}/{pair}/{self.aspect}/{self.sample}"

    @property
    def first(self) -> str:
        return "right" if self.sample % 2 else "left"

    @property
    def absent(self) -> str:
        """Why there is nothing to compare; empty when there is."""
        gone = [one.system for one in (self.left, self.right) if one.video is None]
        return f"no video of {' and '.join(gone)}" if gone else ""

    def winner(self, verdict: Verdict) -> str:
        """Left, right or tie, of what is first and second in the verdict."""
        if verdict.winner == "tie":
            return "tie"
        if verdict.winner == "first":
            return self.first
        return "left" if self.first == "right" else "right"


def duels(inputs: JudgeInputs, settings: JudgeSettings) -> list[Duel]:
    """All that are to be asked; systems in the order of their names, whoever was given first."""
    by_prompt: dict[str, list[Subject]] = {}
    for one in subjects(inputs):
        by_prompt.setdefault(one.prompt.id, []).append(one)
    return [
        Duel(left, right, aspect, sample)
        for videos in by_prompt.values()
        for left, right in combinations(sorted(videos, key=lambda one: one.system), 2)
        for aspect in ASPECTS
        for sample in range(settings.samples_per_question)
    ]


def run(inputs: JudgeInputs, settings: JudgeSettings, out: Path) -> StageReport:
    """One row per prompt, pair of systems, aspect and sample. Writes no files.

    A row without an answer has no winner and a reason. Raises BadInput in mode paper, for a single
    system, and as the stage ``judgements`` does.
    """
    if settings.mode != "strict":
        raise BadInput("mode paper compares no systems", fix="judge.mode: strict")
    if len(inputs.systems) < 2:
        raise BadInput("one system alone has nobody to be compared with", fix="Give two or more.")
    given = desk(inputs, settings, judge_vlm(settings))
    screen = Screen(given, out)
    asked = {duel.id: duel for duel in duels(inputs, settings)}

    def question(duel: Duel) -> Question[Verdict]:
        order = (duel.left, duel.right) if duel.first == "left" else (duel.right, duel.left)
        shown = (screen.shown(order[0]), screen.shown(order[1]))
        return judge_prompts.comparison(
            duel.id, given, duel.left.prompt, shown, duel.aspect, duel.sample
        )

    wanted = [Wanted(d.id, partial(question, d)) for d in asked.values() if not d.absent]
    heard: dict[str, Heard[Verdict]] = {
        name: Heard(None, Reason.NO_VIDEO, duel.absent)
        for name, duel in asked.items()
        if duel.absent
    } | Judge(settings, inputs.answers).hear(wanted, progress.report_progress)
    version = stated_version(given.rubric, inputs.rubric)
    rows = [
        row_of(
            answer := heard[name],
            "" if answer.value is None else answer.value.analysis,
            version,
            duel_id=name,
            prompt_id=duel.left.prompt.id,
            category=duel.left.prompt.category,
            aspect=duel.aspect,
            left_system=duel.left.system,
            right_system=duel.right.system,
            first=duel.first,
            sample=duel.sample,
            winner=None if answer.value is None else duel.winner(answer.value),
        )
        for name, duel in asked.items()
    ]
    pairs = len(inputs.systems) * (len(inputs.systems) - 1) // 2
    return StageReport(
        rows=rows,
        rows_in=len(inputs.prompts) * pairs * len(ASPECTS) * settings.samples_per_question,
        notes={"missing": sum(one.value is None for one in heard.values())},
    )


STAGE = Stage(
    name="duels",
    title="Pairwise comparisons",
    description="Let a vision-language model compare two systems' videos of each prompt, "
    "in both orders.",
    row_noun="comparisons",
    phase=Phase.EVALUATION,
    resources=frozenset({Resource.CPU, Resource.NETWORK}),
    version=1,
    inputs=JudgeInputs,
    settings=JudgeSettings,
    table=DUELS,
    run=run,
)
