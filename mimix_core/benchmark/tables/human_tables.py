"""Build the tables of what people said about pairs of videos, with the judge beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mimix_core.benchmark.human.preferences import (
    Preferences,
    agreement_of_people,
    agreement_with_judge,
    human_preferences,
    human_strengths,
    human_win_rates,
    judge_comparisons,
    judge_rating_differences,
)
from mimix_core.benchmark.human.rater_reliability import assess_raters, usable_ratings
from mimix_core.benchmark.judge.judge_results import mean_ratings
from mimix_core.benchmark.judge.statistics import ConfidenceInterval
from mimix_core.benchmark.judge.strengths import BradleyTerryStrength, estimate_strengths
from mimix_core.benchmark.tables.metric_columns import MetricColumn
from mimix_core.benchmark.tables.table_model import ResultTable, TableCell, TableRow
from mimix_core.project.pair_ratings import PairRating
from mimix_core.settings.judge_settings import JudgeMode
from mimix_core.tables import JudgementRow, PairwiseRow

COMPARISONS, RATINGS = "judge's comparisons", "judge's ratings"


def build_human_tables(
    ratings: Sequence[PairRating],
    comparisons: Sequence[PairwiseRow],
    judgements: Sequence[JudgementRow],
    mode: JudgeMode | None,
) -> tuple[ResultTable, ...]:
    """Build the tables of people's ratings; none without any.

    ``mode``: of the judgements to compare with, None without any.
    """
    if not ratings:
        return ()
    raters = build_rater_table(ratings)
    answers = human_preferences(usable_ratings(ratings))
    judges: dict[str, Preferences] = {COMPARISONS: judge_comparisons(comparisons)}
    if mode is not None:
        judges[RATINGS] = judge_rating_differences(mean_ratings(judgements, mode))
    return (
        _strength_table(human_strengths(answers), estimate_strengths(comparisons), raters.notes),
        _win_rate_table(answers),
        _agreement_table(answers, judges),
        raters,
    )


def unusable_notes(ratings: Sequence[PairRating]) -> tuple[str, ...]:
    """Name each rater whose ratings do not count, and why."""
    return tuple(
        f"Unusable: {one.rater} {'; '.join(one.problems)}. These ratings do not count."
        for one in assess_raters(ratings)
        if one.problems
    )


def build_rater_table(ratings: Sequence[PairRating]) -> ResultTable:
    """Build the table of raters: what they rated, and whether they looked."""
    columns = (
        _column("pairs", "Pairs", 0),
        _column("controls", "Noise noticed"),
        _column("repeats", "Same when asked again"),
        _column("left", "Left side chosen"),
        _column("seconds", "Seconds a pair", 1),
    )
    rows = tuple(
        TableRow(
            (one.rater, "usable" if one.is_usable else "unusable"),
            (
                TableCell(one.pairs),
                _share_cell(one.controls),
                _share_cell(one.repeats),
                _share_cell(one.left),
                TableCell(one.seconds),
            ),
        )
        for one in assess_raters(ratings)
    )
    return ResultTable(
        key="raters",
        title="Raters",
        description="Noise noticed: controls in which a video was preferred to noise. Same when "
        "asked again: pairs that were shown twice, with the sides exchanged. Left side chosen: "
        "0.50 for a person who goes by the videos. Intervals are Wilson's.",
        label_headers=("Rater", "Ratings"),
        columns=columns,
        rows=rows,
        notes=unusable_notes(ratings),
        highlight_best=False,
    )


def _strength_table(
    people: Sequence[BradleyTerryStrength],
    judge: Sequence[BradleyTerryStrength],
    notes: Sequence[str],
) -> ResultTable:
    judged = {(one.system, one.aspect): one for one in judge}
    columns = [_column("people", "People"), _column("people-rank", "People's rank", 0)]
    if judged:
        columns += [_column("judge", "Judge"), _column("judge-rank", "Judge's rank", 0)]
    rows = []
    for one in people:
        found = judged.get((one.system, one.aspect))
        cells = [*_strength_cells(one), *(_strength_cells(found) if judged else ())]
        rows.append(TableRow((one.system, one.aspect), tuple(cells)))
    return ResultTable(
        key="people",
        title="People's preferences",
        description="Bradley-Terry strengths of people's answers (log odds, mean zero; a "
        "difference of 1 means 73 wins of 100, a tie is half a win) and ranks, with bootstrap "
        "intervals over prompts; they do not cover other people.",
        label_headers=("System", "Aspect"),
        columns=tuple(columns),
        rows=tuple(rows),
        notes=(
            *notes,
            *(
                ("The answers do not connect all systems: no strength can be estimated.",)
                if any(one.strength is None for one in people)
                else ()
            ),
        ),
        highlight_best=False,
    )


def _win_rate_table(answers: Mapping[tuple[str, str, str, str], Mapping[str, int]]) -> ResultTable:
    return ResultTable(
        key="people-pairs",
        title="People's choices, pair by pair",
        description="Share of answers that prefer the system to the other one, a tie being half; "
        "with intervals over prompts.",
        label_headers=("System", "against", "Aspect"),
        columns=(_column("rate", "Win rate"), _column("answers", "Answers", 0)),
        rows=tuple(
            TableRow(
                (one.system, one.other, one.aspect),
                (_share_cell(one.rate), TableCell(one.answers)),
            )
            for one in human_win_rates(answers)
        ),
        highlight_best=False,
    )


def _agreement_table(
    answers: Mapping[tuple[str, str, str, str], Mapping[str, int]],
    judges: Mapping[str, Preferences],
) -> ResultTable:
    lines = [*agreement_of_people(answers)]
    for name, preferences in judges.items():
        lines += agreement_with_judge(answers, preferences, name)
    rows = []
    for one in lines:
        low, high = one.bounds or (None, None)
        rows.append(
            TableRow(
                (one.between, one.aspect),
                (
                    TableCell(one.kappa, low, high),
                    TableCell(one.same),
                    TableCell(one.questions),
                ),
            )
        )
    return ResultTable(
        key="people-agreement",
        title="Agreement of people and judge",
        description="Cohen's kappa with quadratic weights over better, tie and worse, of any two "
        "people, and of the judge and a person, for the same pairs of videos; with bootstrap "
        "intervals over prompts. What people reach among themselves is the most that a judge can "
        "be expected to reach.",
        label_headers=("Between", "Aspect"),
        columns=(
            _column("kappa", "Kappa"),
            _column("same", "Same answer"),
            _column("questions", "Pairs", 0),
        ),
        rows=tuple(rows),
        highlight_best=False,
    )


def _column(key: str, title: str, decimals: int = 2) -> MetricColumn:
    return MetricColumn(key, title, f"people/{key}", "Duel", decimals, 0, 0)


def _share_cell(share: ConfidenceInterval | None) -> TableCell:
    if share is None:
        return TableCell(None)
    return TableCell(share.mean, share.low, share.high, share.n, share.n)


def _strength_cells(one: BradleyTerryStrength | None) -> tuple[TableCell, TableCell]:
    if one is None:
        return TableCell(None), TableCell(None)
    return (
        TableCell(one.strength, one.low, one.high),
        TableCell(one.rank, one.rank_low, one.rank_high),
    )
