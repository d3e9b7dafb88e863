"""What the judge's comparisons and its negative controls say."""

from __future__ import annotations

from mimix_core.benchmark.judge.judge_results import pair_lines, score_card, strengths
from mimix_core.benchmark.tables.load_results import Evidence
from mimix_core.benchmark.tables.metric_columns import Measure
from mimix_core.benchmark.tables.table_model import Cell, Line, Sheet

APART = "The duels that were answered do not connect all systems, so that none has a strength"


def duel_rates(evidence: Evidence) -> Sheet:
    """How often the judge preferred one of two systems, shown side by side in both orders."""
    rate = Measure("rate", "Win rate", "duel/rate", "Duel", 2, 0, 1)
    same = Measure("same", "Same in both orders", "duel/same", "Duel", 2, 0, 1)
    first = Measure("first", "First shown won", "duel/first", "Duel", 2, 0, 1)
    lines = []
    for line in pair_lines(evidence.duels):
        asked = line.compared + line.missing
        known = line.rate
        lines.append(
            Line(
                (line.left, line.right, line.aspect),
                (
                    Cell(None, n=0, of=asked)
                    if known is None
                    else Cell(known.mean, known.low, known.high, n=line.compared, of=asked),
                    Cell(line.consistent / line.compared if line.compared else None),
                    Cell(line.first_share),
                ),
            )
        )
    return Sheet(
        key="duels",
        title="Duels",
        lead="A judge saw both videos of a prompt, in both orders. A tie is half a win; a "
        "comparison with an answer missing in either order is counted and left out.",
        heads=("System", "against", "Aspect"),
        columns=(rate, same, first),
        lines=tuple(lines),
        notes=(
            "First shown won: of the answers that name a winner; a judge without a preference for "
            "a place has 0.50.",
        ),
        marked=False,
    )


def duel_strengths(evidence: Evidence) -> Sheet:
    """Bradley-Terry strengths: what all duels together say of each system."""
    column = Measure("strength", "Strength", "duel/strength", "Duel", 2, 0, 0)
    found = strengths(evidence.duels)
    apart = sorted({one.aspect for one in found if one.strength is None})
    return Sheet(
        key="strengths",
        title="Strengths",
        lead="Bradley-Terry strengths from all duels (log odds, mean zero): a difference of 1 is "
        "a win in 73 of 100.",
        heads=("System", "Aspect"),
        columns=(column,),
        lines=tuple(
            Line((one.system, one.aspect), (Cell(one.strength, one.low, one.high),))
            for one in found
        ),
        notes=(f"{APART}: {', '.join(apart)}.",) if apart else (),
        marked=False,
        signed=True,
    )


def judge_card(evidence: Evidence) -> Sheet:
    """How often the judge saw that a video was spoilt: what its own figures are worth."""
    column = Measure("below", "Rated below", "duel/control", "Duel", 2, 0, 1)
    return Sheet(
        key="judge",
        title="The judge's own score card",
        lead="Videos were spoilt on purpose; a judge worth listening to rates them below the "
        "original.",
        heads=("Control", "Aspect"),
        columns=(column,),
        lines=tuple(
            Line(
                (line.control, line.aspect),
                (
                    Cell(None, n=0, of=line.missing)
                    if line.share is None
                    else Cell(
                        line.share.mean,
                        line.share.low,
                        line.share.high,
                        n=line.share.n,
                        of=line.share.n + line.missing,
                    ),
                ),
            )
            for line in score_card(evidence.judgements)
        ),
        marked=False,
    )
