"""What the tables of a judge come to: means with intervals, win rates, strengths, score card.

A missing answer is counted and stands for nothing: neither a low score nor a tie.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import Literal

import numpy as np

from mimix_core.benchmark.judge import statistics
from mimix_core.benchmark.judge.negative_controls import BREAKS, CONTROLS, Control
from mimix_core.benchmark.judge.rubric import ASPECTS, LOWEST, Aspect
from mimix_core.benchmark.judge.statistics import Floats, Interval
from mimix_core.tables import Row

Mode = Literal["paper", "strict"]

PAPER_WEIGHTS: Mapping[Aspect, float] = {
    "identity": 0.3,
    "motion": 0.3,
    "style": 0.25,
    "interaction": 0.15,
}
"""Of the aspects in the authors' overall score."""

OVERALL = "overall"

Ratings = dict[str, dict[str, dict[str, float]]]
"""System -> aspect (or ``overall``) -> prompt id -> the mean of its samples."""


@dataclass(frozen=True)
class Line:
    """One system in one aspect. ``interval`` is None when no prompt has an answer.

    ``asked`` and ``missing`` count answers, not prompts; of ``overall`` they count prompts.
    """

    system: str
    aspect: str
    interval: Interval | None
    asked: int
    missing: int


def ratings(rows: Iterable[Row], mode: Mode) -> Ratings:
    """Means over samples, and the overall score of prompts that have all four aspects."""
    values: dict[tuple[str, str, str], list[float]] = {}
    for row in rows:
        if row["mode"] == mode and not row["control"] and row["value"] is not None:
            key = (row["system"], row["aspect"], row["prompt_id"])
            values.setdefault(key, []).append(row["value"])
    found: Ratings = {}
    for (system, aspect, prompt_id), given in sorted(values.items()):
        found.setdefault(system, {}).setdefault(aspect, {})[prompt_id] = fmean(given)
    for by_aspect in found.values():
        whole = set.intersection(*(set(by_aspect.get(aspect, {})) for aspect in ASPECTS))
        by_aspect[OVERALL] = {
            prompt_id: sum(PAPER_WEIGHTS[a] * by_aspect[a][prompt_id] for a in ASPECTS)
            for prompt_id in sorted(whole)
        }
    return found


def lines(rows: Sequence[Row], mode: Mode) -> list[Line]:
    """Each system's mean in each aspect and overall, with its interval over prompts."""
    found = ratings(rows, mode)
    result = []
    own = [row for row in rows if row["mode"] == mode and not row["control"]]
    for system in sorted({row["system"] for row in own}):
        of_system = [row for row in own if row["system"] == system]
        for aspect in ASPECTS:
            asked = [row for row in of_system if row["aspect"] == aspect]
            missing = sum(row["value"] is None for row in asked)
            values = found.get(system, {}).get(aspect, {})
            result.append(Line(system, aspect, _interval(values), len(asked), missing))
        prompts = len({row["prompt_id"] for row in of_system})
        values = found.get(system, {}).get(OVERALL, {})
        result.append(Line(system, OVERALL, _interval(values), prompts, prompts - len(values)))
    return result


def _interval(by_prompt: Mapping[str, float]) -> Interval | None:
    return statistics.interval(list(by_prompt.values())) if by_prompt else None


@dataclass(frozen=True)
class CardLine:
    """How often the judge rated a spoilt version below, with, or above its original.

    ``missing``: pairs of which one or both have no answer. ``no_room``: pairs whose original has
    the lowest rating there is, so that nothing can be below it. ``share``: of ``below`` among all
    other pairs; a tie is no success. None without any.
    """

    control: Control
    aspect: Aspect
    below: int
    tied: int
    above: int
    missing: int
    no_room: int
    share: Interval | None


def score_card(rows: Sequence[Row]) -> list[CardLine]:
    """The judge's own score card: a line for each control that was judged."""
    values: dict[tuple[str, str, str, str], list[float]] = {}
    for row in rows:
        key = (row["system"], row["prompt_id"], row["aspect"], row["control"])
        given = values.setdefault(key, [])
        if row["mode"] == "strict" and row["value"] is not None:
            given.append(row["value"])
    found = []
    for control in CONTROLS:
        aspect = BREAKS[control]
        pairs = [key[:3] for key in sorted(values) if key[2:] == (aspect, control)]
        if not pairs:
            continue
        both = [
            (fmean(spoilt), fmean(original))
            for pair in pairs
            if (spoilt := values[(*pair, control)]) and (original := values.get((*pair, "")))
        ]
        room = [(spoilt, original) for spoilt, original in both if original > LOWEST]
        below = [spoilt < original for spoilt, original in room]
        found.append(
            CardLine(
                control,
                aspect,
                below=sum(below),
                tied=sum(spoilt == original for spoilt, original in room),
                above=sum(spoilt > original for spoilt, original in room),
                missing=len(pairs) - len(both),
                no_room=len(both) - len(room),
                share=statistics.proportion(sum(below), len(below)) if below else None,
            )
        )
    return found


@dataclass(frozen=True)
class PairLine:
    """Two systems in one aspect. ``rate``: the left one's share of wins, a tie being half of one.

    ``compared``: duels in both orders that have both answers; ``missing``: those that have not.
    ``consistent``: of the compared, how many say the same in either order. ``first_share``: how
    often the video shown first won, of single answers that name a winner; 0.5 is a judge without a
    preference for a place, None when no answer names one.
    """

    aspect: str
    left: str
    right: str
    rate: Interval | None
    compared: int
    missing: int
    consistent: int
    first_share: float | None


@dataclass(frozen=True)
class Strength:
    """A system's Bradley-Terry strength (log, mean zero over the systems) in one aspect.

    All three are None where the duels that have both of their answers do not connect all systems:
    nothing then says how one group of them stands to the other. The bounds are None where they hang
    together by so few prompts that no resampling connects them.
    """

    aspect: str
    system: str
    strength: float | None
    low: float | None
    high: float | None


def pair_lines(duels: Sequence[Row]) -> list[PairLine]:
    """Win rates of each pair of systems in each aspect, with intervals over prompts.

    A duel counts in both of its orders or not at all, so that a preference for the first place
    cancels out.
    """
    found = []
    ordered = sorted(duels, key=_pair)
    for (aspect, left, right), group in groupby(ordered, key=_pair):
        rows = list(group)
        whole = _whole(rows)
        shares: dict[str, list[float]] = {}
        for one, other in whole:
            shares.setdefault(one["prompt_id"], []).append(fmean([_won(one), _won(other)]))
        decided = [row for row in rows if row["winner"] in ("left", "right")]
        found.append(
            PairLine(
                aspect,
                left,
                right,
                rate=_interval({prompt: fmean(given) for prompt, given in shares.items()}),
                compared=len(whole),
                missing=len(rows) // 2 - len(whole),
                consistent=sum(one["winner"] == other["winner"] for one, other in whole),
                first_share=fmean(row["winner"] == row["first"] for row in decided)
                if decided
                else None,
            )
        )
    return found


def strengths(duels: Sequence[Row]) -> list[Strength]:
    """Bradley-Terry strengths of all systems in each aspect, with bootstrap bounds over prompts.

    An aspect that no duel asked about has no line.
    """
    found = []
    for aspect in ASPECTS:
        rows = sorted((row for row in duels if row["aspect"] == aspect), key=_pair)
        systems = sorted({row[side] for row in rows for side in ("left_system", "right_system")})
        if not rows:
            continue
        wins_PNN = _wins(rows, systems)
        try:
            point = statistics.bradley_terry(wins_PNN.sum(0))
        except ValueError:
            found += [Strength(aspect, system, None, None, None) for system in systems]
            continue
        draws = _strength_draws(wins_PNN)
        for number, system in enumerate(systems):
            low, high = statistics.bounds(draws[:, number]) if len(draws) else (None, None)
            found.append(Strength(aspect, system, float(point[number]), low, high))
    return found


STRENGTH_DRAWS = 500


def _strength_draws(wins_PNN: Floats) -> Floats:
    """Strengths [draws, N] of resampled prompts, of draws that connect all systems."""
    found = []
    for chosen in statistics.resampled(len(wins_PNN), draws=STRENGTH_DRAWS):
        try:
            found.append(statistics.bradley_terry(wins_PNN[chosen].sum(0)))
        except ValueError:
            continue
    return np.reshape(found, (-1, wins_PNN.shape[1]))


def _wins(rows: Sequence[Row], systems: Sequence[str]) -> Floats:
    """How often each beat each, by prompt: [prompts, N, N]. Only duels whole in both orders."""
    prompts = sorted({row["prompt_id"] for row in rows})
    wins_PNN = np.zeros((len(prompts), len(systems), len(systems)))
    for pair in _whole(rows):
        for row in pair:
            prompt = prompts.index(row["prompt_id"])
            left, right = (systems.index(row[s]) for s in ("left_system", "right_system"))
            wins_PNN[prompt, left, right] += _won(row)
            wins_PNN[prompt, right, left] += 1 - _won(row)
    return wins_PNN


def _whole(rows: Sequence[Row]) -> list[tuple[Row, Row]]:
    """The two orders of each duel of which both have an answer."""
    halves: dict[tuple[str, str, str, str, int], dict[int, Row]] = {}
    for row in rows:
        if row["winner"] is not None:
            key = (row["prompt_id"], *_pair(row), row["sample"] // 2)
            halves.setdefault(key, {})[row["sample"] % 2] = row
    return [(both[0], both[1]) for both in halves.values() if len(both) == 2]


def _won(row: Row) -> float:
    return {"left": 1.0, "tie": 0.5, "right": 0.0}[row["winner"]]


def _pair(row: Row) -> tuple[str, str, str]:
    return row["aspect"], row["left_system"], row["right_system"]
