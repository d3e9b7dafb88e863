"""Compute the agreement of judge and human ratings: quadratic kappa and Spearman correlation."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.judge import statistics
from mimix_core.benchmark.judge.judge_results import mean_ratings
from mimix_core.benchmark.judge.rubric import ASPECTS, MAX_SCORE, MIN_SCORE
from mimix_core.errors import BadInput
from mimix_core.settings.judge_settings import JudgeMode
from mimix_core.tables import JudgementRow

CSV_COLUMNS = ("system", "prompt_id", "aspect", "rating")

RatingKey = tuple[str, str, str]
"""System, prompt id, aspect."""


@dataclass(frozen=True)
class AspectAgreement:
    """The agreement in one aspect, over the ``videos`` that both people and the judge rated.

    ``unjudged``: videos rated by people only. ``kappa``: quadratic, of the mean ratings rounded to
    steps of the scale; ``spearman``: of the mean ratings. Both are None where they are undefined:
    with fewer than two videos, or when all ratings are equal. The bounds are 95 % bootstrap
    intervals over videos, None for fewer than five videos.
    """

    aspect: str
    videos: int
    unjudged: int
    kappa: float | None
    spearman: float | None
    kappa_bounds: tuple[float, float] | None = None
    spearman_bounds: tuple[float, float] | None = None


def load_human_ratings(path: Path) -> dict[RatingKey, list[float]]:
    """Load human ratings from a CSV with the columns system, prompt_id, aspect, rating (1 to 10).

    Other columns, such as the rater, are ignored; a video rated several times has several lines.
    Raises BadInput that names the invalid line.
    """
    ratings: dict[RatingKey, list[float]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in CSV_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise BadInput(
                    f"has no column {', '.join(missing)}",
                    where=str(path),
                    fix=f"The first line must name the columns: {','.join(CSV_COLUMNS)}",
                )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                key = (row["system"], row["prompt_id"], row["aspect"])
                ratings.setdefault(key, []).append(_parse_rating(row, where))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"is not a readable CSV ({error})", where=str(path)) from error
    if not ratings:
        raise BadInput("contains no ratings", where=str(path))
    return ratings


def _parse_rating(row: Mapping[str, str | None], where: str) -> float:
    if row["aspect"] not in ASPECTS:
        raise BadInput(
            f"unknown aspect {row['aspect']!r}", where=where, fix=f"Use one of {', '.join(ASPECTS)}"
        )
    text = row["rating"] or ""
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"{text!r} is not a number", where=where) from None
    if not MIN_SCORE <= value <= MAX_SCORE:
        raise BadInput(f"{value:g} is not between {MIN_SCORE} and {MAX_SCORE}", where=where)
    return value


def compute_agreement(
    rows: Sequence[JudgementRow], human: Mapping[RatingKey, Sequence[float]], mode: JudgeMode
) -> list[AspectAgreement]:
    """Compare judge and human ratings for each aspect.

    Raises BadInput when people rated a video that is not among the judgements.
    """
    judged = mean_ratings(rows, mode)
    judged_keys = {
        (row["system"], row["prompt_id"], row["aspect"]) for row in rows if not row["control"]
    }
    unknown = sorted(set(human) - judged_keys)
    if unknown:
        raise BadInput(
            f"people rated {' / '.join(unknown[0])}, which is not among the judgements",
            fix="Use the system names and prompt ids of the judgements.",
        )
    agreements = []
    for aspect in ASPECTS:
        human_means, judge_means, unjudged = [], [], 0
        for (system, prompt_id, rated_aspect), values in sorted(human.items()):
            if rated_aspect != aspect:
                continue
            value = judged.get(system, {}).get(aspect, {}).get(prompt_id)
            if value is None:
                unjudged += 1
            else:
                human_means.append(fmean(values))
                judge_means.append(value)
        agreements.append(_aspect_agreement(aspect, unjudged, judge_means, human_means))
    return agreements


def _aspect_agreement(
    aspect: str, unjudged: int, judge_means: Sequence[float], human_means: Sequence[float]
) -> AspectAgreement:
    judge, human = np.asarray(judge_means), np.asarray(human_means)
    count = len(judge)

    def kappa(indices: NDArray[np.int64]) -> float | None:
        steps = _round_half_up(judge[indices]), _round_half_up(human[indices])
        return statistics.quadratic_kappa(*steps, MIN_SCORE, MAX_SCORE)

    def spearman(indices: NDArray[np.int64]) -> float | None:
        return statistics.spearman(judge[indices].tolist(), human[indices].tolist())

    if count < 2:
        return AspectAgreement(aspect, count, unjudged, None, None)
    everything = np.arange(count)
    return AspectAgreement(
        aspect,
        count,
        unjudged,
        kappa(everything),
        spearman(everything),
        statistics.statistic_interval(kappa, count),
        statistics.statistic_interval(spearman, count),
    )


def _round_half_up(values: Iterable[float]) -> list[int]:
    """Round to integers, halves up."""
    return [floor(value + 0.5) for value in values]
