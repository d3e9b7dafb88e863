"""Build the tables of the judge's comparisons and of its negative controls."""

from __future__ import annotations

from collections.abc import Sequence

from mimix_core.benchmark.judge.judge_results import (
    PairSummary,
    first_position_share,
    is_position_biased,
    summarize_controls,
    summarize_pairs,
)
from mimix_core.benchmark.judge.strengths import estimate_strengths
from mimix_core.benchmark.tables.load_results import BenchmarkResults
from mimix_core.benchmark.tables.metric_columns import MetricColumn
from mimix_core.benchmark.tables.table_model import ResultTable, TableCell, TableRow
from mimix_core.tables import PairwiseRow

DISCONNECTED_NOTE = (
    "The answered comparisons do not connect all systems: no strength can be estimated"
)


def position_bias_notes(summaries: Sequence[PairSummary]) -> list[str]:
    """Return a note on each pair that the judge decided by the order of the videos."""
    return [
        f"Unusable: for {summary.left} against {summary.right} in {summary.aspect}, the judge "
        f"chose by the order of the videos (the first one in {summary.first_position_share:.0%} of "
        "its answers)."
        for summary in summaries
        if summary.position_biased
    ]


def judge_bias_notes(comparisons: Sequence[PairwiseRow]) -> list[str]:
    """Return a note on a judge that went by the order of the videos, over all its comparisons.

    Also if each pair of systems alone has too few answers to say so.
    """
    share = first_position_share(comparisons)
    if share is None or not is_position_biased(share):
        return []
    return [
        "Unusable: over all comparisons the judge chose by the order of the videos (the first one "
        f"in {share.mean:.0%} of {share.n} answers)."
    ]


def build_win_rate_table(results: BenchmarkResults) -> ResultTable:
    """Build the table of how often the judge preferred one of two systems."""
    rate = MetricColumn("rate", "Win rate", "duel/rate", "Duel", 2, 0, 1)
    same = MetricColumn("same", "Same in both orders", "duel/same", "Duel", 2, 0, 1)
    first = MetricColumn("first", "First shown won", "duel/first", "Duel", 2, 0, 1)
    rows = []
    summaries = summarize_pairs(results.comparisons)
    for summary in summaries:
        expected_count = summary.compared + summary.missing
        win_rate = summary.win_rate
        rows.append(
            TableRow(
                (summary.left, summary.right, summary.aspect),
                (
                    TableCell(None, n=0, expected=expected_count)
                    if win_rate is None
                    else TableCell(
                        win_rate.mean,
                        win_rate.low,
                        win_rate.high,
                        n=summary.compared,
                        expected=expected_count,
                    ),
                    TableCell(summary.consistent / summary.compared if summary.compared else None),
                    TableCell(summary.first_position_share),
                ),
            )
        )
    return ResultTable(
        key="duels",
        title="Pairwise comparisons",
        description="The judge compared both videos of a prompt, in both orders. A tie is half a "
        "win; comparisons with a missing answer in either order are excluded, but counted.",
        label_headers=("System", "against", "Aspect"),
        columns=(rate, same, first),
        rows=tuple(rows),
        notes=(
            "First shown won: share of the answers with a winner; 0.50 for a judge without "
            "position bias.",
            *judge_bias_notes(results.comparisons),
            *position_bias_notes(summaries),
        ),
        highlight_best=False,
    )


def build_strength_table(results: BenchmarkResults) -> ResultTable:
    """Build the table of Bradley-Terry strengths estimated from all comparisons."""
    column = MetricColumn("strength", "Strength", "duel/strength", "Duel", 2, 0, 0)
    strengths = estimate_strengths(results.comparisons)
    disconnected = sorted({strength.aspect for strength in strengths if strength.strength is None})
    return ResultTable(
        key="strengths",
        title="Strengths",
        description="Bradley-Terry strengths from all comparisons (log odds, mean zero): a "
        "difference of 1 means 73 wins of 100.",
        label_headers=("System", "Aspect"),
        columns=(column,),
        rows=tuple(
            TableRow(
                (strength.system, strength.aspect),
                (TableCell(strength.strength, strength.low, strength.high),),
            )
            for strength in strengths
        ),
        notes=(f"{DISCONNECTED_NOTE}: {', '.join(disconnected)}.",) if disconnected else (),
        highlight_best=False,
        signed=True,
    )


def build_control_table(results: BenchmarkResults) -> ResultTable:
    """Build the table of how often the judge detects a corrupted video."""
    column = MetricColumn("below", "Rated below", "duel/control", "Duel", 2, 0, 1)
    return ResultTable(
        key="judge",
        title="Negative controls of the judge",
        description="Videos were corrupted on purpose: a reliable judge rates them below the "
        "original.",
        label_headers=("Control", "Aspect"),
        columns=(column,),
        rows=tuple(
            TableRow(
                (summary.control, summary.aspect),
                (
                    TableCell(None, n=0, expected=summary.missing)
                    if summary.share is None
                    else TableCell(
                        summary.share.mean,
                        summary.share.low,
                        summary.share.high,
                        n=summary.share.n,
                        expected=summary.share.n + summary.missing,
                    ),
                ),
            )
            for summary in summarize_controls(results.judgements)
        ),
        highlight_best=False,
    )
