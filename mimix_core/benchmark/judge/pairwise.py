"""Stage ``duels``: compare the videos of any two systems for a prompt, in both orders."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

from mimix_core.benchmark.judge import judge_prompts
from mimix_core.benchmark.judge.evaluation_plan import (
    EvaluationItem,
    JudgeVideoLoader,
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
from mimix_core.benchmark.judge.judge_prompts import Verdict
from mimix_core.benchmark.judge.rubric import ASPECTS, Aspect, rubric_version
from mimix_core.engine import progress
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.tables import Reason
from mimix_core.tables.judge_tables import DUELS
from mimix_core.vlm import VlmRequest


@dataclass(frozen=True)
class PairwiseComparison:
    """A comparison of two systems' videos of a prompt in one aspect.

    Even samples show the left system's video first, odd ones the right system's.
    """

    left: EvaluationItem
    right: EvaluationItem
    aspect: Aspect
    sample: int

    @property
    def id(self) -> str:
        pair = f"{self.left.system}~{self.right.system}"
        return f"{self.left.prompt.id}/{pair}/{self.aspect}/{self.sample}"

    @property
    def first_side(self) -> str:
        return "right" if self.sample % 2 else "left"

    @property
    def missing_reason(self) -> str:
        """Which videos are missing; empty when both exist."""
        missing = [item.system for item in (self.left, self.right) if item.video is None]
        return f"no video of {' and '.join(missing)}" if missing else ""

    def winner_side(self, verdict: Verdict) -> str:
        """Convert a verdict's first, second or tie into left, right or tie."""
        if verdict.winner == "tie":
            return "tie"
        if verdict.winner == "first":
            return self.first_side
        return "left" if self.first_side == "right" else "right"


def list_comparisons(inputs: JudgeInputs, settings: JudgeSettings) -> list[PairwiseComparison]:
    """List all comparisons; systems are paired in the order of their names."""
    by_prompt: dict[str, list[EvaluationItem]] = {}
    for item in list_evaluation_items(inputs):
        by_prompt.setdefault(item.prompt.id, []).append(item)
    return [
        PairwiseComparison(left, right, aspect, sample)
        for items in by_prompt.values()
        for left, right in combinations(sorted(items, key=lambda item: item.system), 2)
        for aspect in ASPECTS
        for sample in range(settings.samples_per_question)
    ]


def run(inputs: JudgeInputs, settings: JudgeSettings, out: Path) -> StageReport:
    """Compare all pairs of systems: one row per prompt, pair, aspect and sample. Writes no files.

    A row without an answer has no winner but a reason. Raises BadInput in any mode but strict, for
    a single system, and as the stage ``judgements`` does.
    """
    if settings.mode != "strict":
        raise BadInput(
            f"mode {settings.mode} does not compare systems", fix="Set judge.mode: strict"
        )
    if len(inputs.systems) < 2:
        raise BadInput("a comparison needs two systems or more", fix="Specify another system.")
    context = load_prompt_context(inputs, settings, require_judge_vlm(settings))
    loader = JudgeVideoLoader(context, out)
    comparisons = {comparison.id: comparison for comparison in list_comparisons(inputs, settings)}

    def build_question(comparison: PairwiseComparison) -> VlmRequest[Verdict]:
        order = (
            (comparison.left, comparison.right)
            if comparison.first_side == "left"
            else (comparison.right, comparison.left)
        )
        videos = (loader.load_parts(order[0]), loader.load_parts(order[1]))
        return judge_prompts.build_comparison_question(
            comparison.id,
            context,
            comparison.left.prompt,
            videos,
            comparison.aspect,
            comparison.sample,
        )

    requests = [
        JudgeRequest(name, partial(build_question, comparison), inputs.retries.get(name, 0))
        for name, comparison in comparisons.items()
        if not comparison.missing_reason
    ]
    judgements: dict[str, Judgement[Verdict]] = {
        name: Judgement(None, Reason.NO_VIDEO, comparison.missing_reason)
        for name, comparison in comparisons.items()
        if comparison.missing_reason
    } | JudgeClient(settings, inputs.response_cache).evaluate(requests, progress.report_progress)
    version = rubric_version(context.rubric, inputs.rubric)
    rows = [
        build_answer_row(
            judgement := judgements[name],
            "" if judgement.value is None else judgement.value.analysis,
            version,
            duel_id=name,
            prompt_id=comparison.left.prompt.id,
            category=comparison.left.prompt.category,
            aspect=comparison.aspect,
            left_system=comparison.left.system,
            right_system=comparison.right.system,
            first=comparison.first_side,
            sample=comparison.sample,
            winner=None if judgement.value is None else comparison.winner_side(judgement.value),
        )
        for name, comparison in comparisons.items()
    ]
    pairs = len(inputs.systems) * (len(inputs.systems) - 1) // 2
    return StageReport(
        rows=rows,
        rows_in=len(inputs.prompts) * pairs * len(ASPECTS) * settings.samples_per_question,
        notes={"missing": sum(judgement.value is None for judgement in judgements.values())},
    )


STAGE = Stage(
    name="duels",
    title="Pairwise comparisons",
    description="Let a vision-language model compare two systems' videos of each prompt, "
    "in both orders.",
    row_noun="comparisons",
    phase=Phase.EVALUATION,
    resources=frozenset({Resource.CPU, Resource.NETWORK}),
    version=3,
    inputs=JudgeInputs,
    settings=JudgeSettings,
    table=DUELS,
    run=run,
)
