"""How far the judge agrees with people: quadratic kappa and Spearman, from an imported CSV."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from statistics import fmean

from mimix_core.benchmark.judge import statistics
from mimix_core.benchmark.judge.judge_results import Mode, ratings
from mimix_core.benchmark.judge.rubric import ASPECTS, HIGHEST, LOWEST
from mimix_core.errors import BadInput
from mimix_core.tables import Row

COLUMNS = ("system", "prompt_id", "aspect", "rating")

Video = tuple[str, str, str]
"""System, prompt id, aspect."""


@dataclass(frozen=True)
class Agreement:
    """In one aspect, over the ``videos`` that both people and the judge have rated.

    ``unjudged``: rated by people only, the judge's answer is missing. ``kappa``: quadratic, of the
    mean ratings rounded to steps of the scale; ``spearman``: of the mean ratings. Both are None
    where they are not defined: with no or one video, or ratings that are all the same.
    """

    aspect: str
    videos: int
    unjudged: int
    kappa: float | None
    spearman: float | None


def read_ratings(path: Path) -> dict[Video, list[float]]:
    """People's ratings: a CSV with the columns system, prompt_id, aspect and rating (1 to 10).

    Other columns, as who rated, are not looked at; several ratings of one video are several lines.
    Raises BadInput that names the line of whatever is wrong.
    """
    found: dict[Video, list[float]] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            lacking = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
            if lacking:
                raise BadInput(
                    f"has no column {', '.join(lacking)}",
                    where=str(path),
                    fix=f"The first line names the columns: {','.join(COLUMNS)}",
                )
            for row in reader:
                where = f"{path}, line {reader.line_num}"
                key = (row["system"], row["prompt_id"], row["aspect"])
                found.setdefault(key, []).append(_rating(row, where))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(f"is not a readable CSV ({error})", where=str(path)) from error
    if not found:
        raise BadInput("holds no rating", where=str(path))
    return found


def _rating(row: Mapping[str, str | None], where: str) -> float:
    if row["aspect"] not in ASPECTS:
        raise BadInput(
            f"no aspect {row['aspect']!r}", where=where, fix=f"One of {', '.join(ASPECTS)}"
        )
    given = row["rating"] or ""
    try:
        value = float(given)
    except ValueError:
        raise BadInput(f"{given!r} is no number", where=where) from None
    if not LOWEST <= value <= HIGHEST:
        raise BadInput(f"{value:g} is not within {LOWEST} to {HIGHEST}", where=where)
    return value


def agreement(
    rows: Sequence[Row], human: Mapping[Video, Sequence[float]], mode: Mode
) -> list[Agreement]:
    """Judge and people, aspect by aspect. Raises BadInput when people rated what is not there."""
    judged = ratings(rows, mode)
    known = {(row["system"], row["prompt_id"], row["aspect"]) for row in rows if not row["control"]}
    strange = sorted(set(human) - known)
    if strange:
        raise BadInput(
            f"people rated {' / '.join(strange[0])}, which is not among the judgements",
            fix="System and prompt ids must be those of the judgements.",
        )
    found = []
    for aspect in ASPECTS:
        theirs, ours, unjudged = [], [], 0
        for (system, prompt_id, asked), given in sorted(human.items()):
            if asked != aspect:
                continue
            value = judged.get(system, {}).get(aspect, {}).get(prompt_id)
            if value is None:
                unjudged += 1
            else:
                theirs.append(fmean(given))
                ours.append(value)
        found.append(
            Agreement(
                aspect,
                videos=len(ours),
                unjudged=unjudged,
                kappa=statistics.quadratic_kappa(_steps(ours), _steps(theirs), LOWEST, HIGHEST)
                if len(ours) > 1
                else None,
                spearman=statistics.spearman(ours, theirs) if len(ours) > 1 else None,
            )
        )
    return found


def _steps(values: Sequence[float]) -> list[int]:
    """Rounded to whole steps, halves up."""
    return [floor(value + 0.5) for value in values]
