"""The held-out losses of the arms in which tokens skip blocks, beside the arm with all tokens.

    python -m miniature.study.held_out_figures TRAININGS.json ... [--record]

prints a table as Markdown; ``--record`` writes its figures to perf/results/miniature.json. All
losses are of the same held-out clips, noise and levels for one seed, computed with all tokens.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from miniature.study.addition_figures import read_trainings
from miniature.study.additions import TrainingRow
from miniature.study.arms import ARMS
from miniature.study.figures import REFERENCE, RESULTS

COMPARED = (REFERENCE, *(arm.name for arm in ARMS if arm.routed_tokens))


@dataclass(frozen=True)
class HeldOutFigures:
    """Means over the seeds of one arm.

    ``change``: of ``last`` against the reference's, of the seeds that both have, with the smallest
    and the largest of a seed; None if they share none.
    """

    arm: str
    seeds: int
    steps: float
    first: float
    last: float
    change: tuple[float, float, float] | None


def held_out_figures(trainings: Sequence[TrainingRow]) -> list[HeldOutFigures]:
    """Compute the figures of the compared arms that have held-out losses."""
    losses: dict[str, dict[int, TrainingRow]] = {}
    for row in trainings:
        if row.arm in COMPARED and row.held_out_loss is not None:
            losses.setdefault(row.arm, {})[row.seed] = row
    reference = _last_losses(losses.get(REFERENCE, {}))
    return [_figures(arm, losses[arm], reference) for arm in COMPARED if arm in losses]


def _last_losses(rows: dict[int, TrainingRow]) -> dict[int, float]:
    return {seed: row.held_out_loss for seed, row in rows.items() if row.held_out_loss is not None}


def _figures(arm: str, rows: dict[int, TrainingRow], reference: dict[int, float]) -> HeldOutFigures:
    last = _last_losses(rows)
    first = [
        row.held_out_loss_first for row in rows.values() if row.held_out_loss_first is not None
    ]
    changes = [last[seed] / reference[seed] - 1 for seed in sorted(last.keys() & reference.keys())]
    return HeldOutFigures(
        arm=arm,
        seeds=len(rows),
        steps=statistics.fmean(row.steps for row in rows.values()),
        first=statistics.fmean(first),
        last=statistics.fmean(last.values()),
        change=(statistics.fmean(changes), min(changes), max(changes)) if changes else None,
    )


def markdown(figures: Sequence[HeldOutFigures]) -> str:
    """Format the figures as a table."""
    lines = [
        f"| Held-out loss, all tokens | {' | '.join(one.arm for one in figures)} |",
        f"| --- | {' | '.join('---:' for _ in figures)} |",
    ]
    for title, cells in (
        ("seeds", [str(one.seeds) for one in figures]),
        ("optimizer steps", [f"{one.steps:.0f}" for one in figures]),
        ("before the first step", [f"{one.first:.4f}" for one in figures]),
        ("after the last", [f"{one.last:.4f}" for one in figures]),
        (f"change against {REFERENCE} (seeds)", [_change(one) for one in figures]),
    ):
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _change(one: HeldOutFigures) -> str:
    if one.change is None:
        return "–"
    mean, low, high = one.change
    return f"{mean:+.1%} ({low:+.1%} to {high:+.1%})"


def recorded_figures(figures: Sequence[HeldOutFigures]) -> dict[str, tuple[float, str]]:
    """Return the figures and their units by the names of perf/results/miniature.json."""
    found: dict[str, tuple[float, str]] = {}
    for one in figures:
        name = one.arm.replace("-", "_")
        found[f"held_out_loss_{name}"] = (round(one.last, 6), "mean squared error")
        if one.change is not None and one.arm != REFERENCE:
            unit = f"of {REFERENCE}'s held-out loss"
            found[f"held_out_change_{name}"] = (round(one.change[0], 6), unit)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and record its figures if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("trainings", type=Path, nargs="+", help="trainings.json")
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args(arguments)
    figures = held_out_figures(read_trainings(options.trainings))
    sys.stdout.write(markdown(figures))
    if options.record:
        path = RESULTS / "miniature.json"
        record = json.loads(path.read_text())
        for name, (value, unit) in recorded_figures(figures).items():
            record["figures"][name], record["units"][name] = value, unit
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
