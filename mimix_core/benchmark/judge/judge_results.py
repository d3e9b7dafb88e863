"""Summarize the judge's tables: mean ratings, win rates and negative controls.

Missing answers are counted separately, never as a low score or a tie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import nan
from statistics import fmean

from mimix_core.benchmark.judge import statistics
from mimix_core.benchmark.judge.negative_controls import CONTROL_ASPECTS, CONTROLS, Control
from mimix_core.benchmark.judge.rubric import ASPECTS, MAX_SCORE, MIN_SCORE, Aspect
from mimix_core.benchmark.judge.statistics import ConfidenceInterval
from mimix_core.settings.judge_settings import JudgeMode
from mimix_core.tables import JudgementRow, PairwiseRow

PAPER_WEIGHTS: Mapping[Aspect, float] = {
    "identity": 0.3,
    "motion": 0.3,
    "style": 0.25,
    "interaction": 0.15,
}
"""Weights of the aspects in the overall score of the paper's authors."""

OVERALL = "overall"
AUTHORS_OVERALL = "overall (authors')"
"""The overall score of mode authors, which also counts videos without answers in some aspects."""

MAX_POSITION_SHARE = 0.75
"""A judge that surely prefers one position in more of its answers than this is unusable."""

MeanRatings = dict[str, dict[str, dict[str, float]]]
"""System -> aspect (or ``overall``) -> prompt id -> mean over samples."""


@dataclass(frozen=True)
class RatingSummary:
    """One system's rating in one aspect, over the same prompts for all systems but in mode authors.

    ``interval`` is None when no prompt has an answer of all systems that have any. ``requested``
    and ``missing`` count answers; for the overall score they count prompts. ``incomplete``: prompts
    in the overall score of mode authors that lack an aspect.
    """

    system: str
    aspect: str
    interval: ConfidenceInterval | None
    requested: int
    missing: int
    incomplete: int = 0


def mean_ratings(rows: Iterable[JudgementRow], mode: JudgeMode) -> MeanRatings:
    """Average samples, and compute the overall score of prompts that have all four aspects.

    In mode authors it is computed as the authors did: an aspect without an answer, which they
    scored 0, is dropped, and the weights of the others add up to 1.
    """
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        if row["mode"] == mode and not row["control"] and row["value"] is not None:
            key = (row["system"], row["aspect"], row["prompt_id"])
            values.setdefault(key, []).append(row["value"])
    means: MeanRatings = {}
    for (system, aspect, prompt_id), samples in sorted(values.items()):
        means.setdefault(system, {}).setdefault(aspect, {})[prompt_id] = fmean(samples)
    for by_aspect in means.values():
        rated = [set(by_aspect.get(aspect, {})) for aspect in ASPECTS]
        prompts = set.union(*rated) if mode == "authors" else set.intersection(*rated)
        by_aspect[OVERALL] = {
            prompt_id: _weighted_mean(
                {a: by_aspect[a][prompt_id] for a in ASPECTS if prompt_id in by_aspect.get(a, {})}
            )
            for prompt_id in sorted(prompts)
        }
    return means


def _weighted_mean(values: Mapping[Aspect, float]) -> float:
    total = sum(PAPER_WEIGHTS[aspect] for aspect in values)
    return sum(PAPER_WEIGHTS[aspect] * value for aspect, value in values.items()) / total


def _common_prompts(means: MeanRatings, aspect: str) -> set[str]:
    """Return the prompts of which all systems with any value in an aspect have one."""
    rated = [set(values) for by_aspect in means.values() if (values := by_aspect.get(aspect))]
    return set.intersection(*rated) if rated else set()


def summarize_ratings(rows: Sequence[JudgementRow], mode: JudgeMode) -> list[RatingSummary]:
    """Compute each system's mean in each aspect and overall, with intervals over prompts.

    All systems are compared by the same prompts; mode authors averages what each system has, as the
    authors did.
    """
    means = mean_ratings(rows, mode)

    def summarize(system: str, aspect: str) -> ConfidenceInterval | None:
        values = means.get(system, {}).get(aspect, {})
        if mode == "authors":
            return _interval(values)
        common = _common_prompts(means, aspect)
        return _interval({prompt: value for prompt, value in values.items() if prompt in common})

    summaries = []
    selected = [row for row in rows if row["mode"] == mode and not row["control"]]
    for system in sorted({row["system"] for row in selected}):
        system_rows = [row for row in selected if row["system"] == system]
        for aspect in ASPECTS:
            requested = [row for row in system_rows if row["aspect"] == aspect]
            missing = sum(row["value"] is None for row in requested)
            summaries.append(
                RatingSummary(system, aspect, summarize(system, aspect), len(requested), missing)
            )
        prompts = len({row["prompt_id"] for row in system_rows})
        by_aspect = means.get(system, {})
        values = by_aspect.get(OVERALL, {})
        summaries.append(
            RatingSummary(
                system,
                AUTHORS_OVERALL if mode == "authors" else OVERALL,
                summarize(system, OVERALL),
                prompts,
                prompts - len(values),
                incomplete=sum(
                    any(prompt not in by_aspect.get(aspect, {}) for aspect in ASPECTS)
                    for prompt in values
                ),
            )
        )
    return summaries


@dataclass(frozen=True)
class RatingDifference:
    """The mean of ``system - other`` in one aspect, over the prompts that have both ratings.

    ``interval`` is None when there is no such prompt.
    """

    system: str
    other: str
    aspect: str
    interval: ConfidenceInterval | None


def summarize_differences(
    rows: Sequence[JudgementRow], mode: JudgeMode, other: str
) -> list[RatingDifference]:
    """Compute how each system differs from ``other``, prompt by prompt, with intervals."""
    means = mean_ratings(rows, mode)
    scale = MAX_SCORE - MIN_SCORE
    differences = []
    for system in sorted(set(means) - {other}):
        for aspect in (*ASPECTS, OVERALL):
            values = means[system].get(aspect, {})
            others = means.get(other, {}).get(aspect, {})
            paired = {name: values[name] - others[name] for name in values if name in others}
            label = AUTHORS_OVERALL if (mode, aspect) == ("authors", OVERALL) else aspect
            interval = _interval(paired, (-scale, scale))
            differences.append(RatingDifference(system, other, label, interval))
    return differences


def _interval(
    by_prompt: Mapping[str, float], bounds: tuple[float, float] = (MIN_SCORE, MAX_SCORE)
) -> ConfidenceInterval | None:
    """Return the mean over prompts; its interval ends at the ends of the scale."""
    if not by_prompt:
        return None
    found = statistics.mean_interval(list(by_prompt.values()))
    low, high = max(found.low, bounds[0]), min(found.high, bounds[1])
    return ConfidenceInterval(found.mean, low, high, found.n)


@dataclass(frozen=True)
class ControlSummary:
    """How often the judge rated a negative control below, equal to or above its original.

    ``missing``: pairs without both answers. ``at_floor``: pairs whose original has the lowest
    possible rating; they are excluded. ``share``: share of ``below`` among the remaining pairs
    (ties are failures), None without any.
    """

    control: Control
    aspect: Aspect
    below: int
    tied: int
    above: int
    missing: int
    at_floor: int
    share: ConfidenceInterval | None


def summarize_controls(rows: Sequence[JudgementRow]) -> list[ControlSummary]:
    """Summarize how reliably the judge detects each kind of negative control."""
    values: dict[tuple[str, str, str, str], list[float]] = {}
    for row in rows:
        key = (row["system"], row["prompt_id"], row["aspect"], row["control"])
        samples = values.setdefault(key, [])
        if row["mode"] == "strict" and row["value"] is not None:
            samples.append(row["value"])
    summaries = []
    for control in CONTROLS:
        aspect = CONTROL_ASPECTS[control]
        pairs = [key[:3] for key in sorted(values) if key[2:] == (aspect, control)]
        if not pairs:
            continue
        rated = [
            (fmean(control_values), fmean(original_values))
            for pair in pairs
            if (control_values := values[(*pair, control)])
            and (original_values := values.get((*pair, "")))
        ]
        eligible = [(corrupted, original) for corrupted, original in rated if original > MIN_SCORE]
        below = [corrupted < original for corrupted, original in eligible]
        summaries.append(
            ControlSummary(
                control,
                aspect,
                below=sum(below),
                tied=sum(corrupted == original for corrupted, original in eligible),
                above=sum(corrupted > original for corrupted, original in eligible),
                missing=len(pairs) - len(rated),
                at_floor=len(rated) - len(eligible),
                share=statistics.wilson_interval(sum(below), len(below)) if below else None,
            )
        )
    return summaries


@dataclass(frozen=True)
class PairSummary:
    """Two systems in one aspect. ``win_rate``: the left system's share of wins, a tie being 0.5.

    ``compared``: comparisons answered in both orders; ``missing``: the others. ``consistent``:
    compared ones with the same result in both orders. ``first_position_share``: share of single
    answers with a winner that chose the video shown first; 0.5 without position bias, None without
    such answers. ``position_biased``: its 95 % interval is wholly outside of 0.25 to 0.75: the
    judge goes by the order more than by the videos, and its comparisons are unusable.
    """

    aspect: str
    left: str
    right: str
    win_rate: ConfidenceInterval | None
    compared: int
    missing: int
    consistent: int
    first_position_share: float | None
    position_biased: bool = False


def summarize_pairs(comparisons: Sequence[PairwiseRow]) -> list[PairSummary]:
    """Compute win rates of each pair of systems in each aspect, with intervals over prompts.

    Only comparisons answered in both orders count: position bias cancels out.
    """
    summaries = []
    ordered = sorted(comparisons, key=pair_key)
    for (aspect, left, right), group in groupby(ordered, key=pair_key):
        rows = list(group)
        complete = complete_comparisons(rows)
        scores: dict[str, list[float]] = {}
        for one, other in complete:
            score = fmean([left_score(one), left_score(other)])
            scores.setdefault(one["prompt_id"], []).append(score)
        share = first_position_share(rows)
        summaries.append(
            PairSummary(
                aspect,
                left,
                right,
                win_rate=_interval(
                    {prompt: fmean(values) for prompt, values in scores.items()}, (0.0, 1.0)
                ),
                compared=len(complete),
                missing=len(rows) // 2 - len(complete),
                consistent=sum(one["winner"] == other["winner"] for one, other in complete),
                first_position_share=None if share is None else share.mean,
                position_biased=share is not None and is_position_biased(share),
            )
        )
    return summaries


def first_position_share(rows: Iterable[PairwiseRow]) -> ConfidenceInterval | None:
    """Compute the share of answers with a winner that chose the video shown first."""
    decided = [row for row in rows if row["winner"] in ("left", "right")]
    firsts = sum(row["winner"] == row["first"] for row in decided)
    return statistics.wilson_interval(firsts, len(decided)) if decided else None


def is_position_biased(share: ConfidenceInterval) -> bool:
    """Whether a judge with this share of first positions goes by the order of the videos."""
    return share.low > MAX_POSITION_SHARE or share.high < 1 - MAX_POSITION_SHARE


def complete_comparisons(rows: Sequence[PairwiseRow]) -> list[tuple[PairwiseRow, PairwiseRow]]:
    """Pair the two orders of each comparison that is answered in both."""
    orders: dict[tuple[str, str, str, str, int], dict[int, PairwiseRow]] = {}
    for row in rows:
        if row["winner"] is not None:
            key = (row["prompt_id"], *pair_key(row), row["sample"] // 2)
            orders.setdefault(key, {})[row["sample"] % 2] = row
    return [(both[0], both[1]) for both in orders.values() if len(both) == 2]


def left_score(row: PairwiseRow) -> float:
    """Score the left system of an answered comparison: 1 for a win, 0.5 for a tie."""
    return {"left": 1.0, "tie": 0.5, "right": 0.0, None: nan}[row["winner"]]


def pair_key(row: PairwiseRow) -> tuple[str, str, str]:
    """Return aspect and systems of a comparison."""
    return row["aspect"], row["left_system"], row["right_system"]
