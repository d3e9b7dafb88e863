"""The figures of the arms that add a character: what the others lose, and what it costs.

    python -m miniature.study.addition_figures VIDEOS.json ... --trainings TRAININGS.json [--record]

prints a table as Markdown; ``--record`` writes its figures to perf/results/miniature.json. Points
are differences of shares in per cent, of the same prompts and noise.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimix_core.errors import BadInput
from miniature.study.additions import TrainingRow
from miniature.study.arms import ADDED, ARMS
from miniature.study.figures import REFERENCE, RESULTS, all_kept, format_value, read_rows
from miniature.study.scoring import VideoRow
from miniature.study.statistics import Estimate, gain, share, shared_videos

BEFORE = next(arm.name for arm in ARMS if arm.excluded)
ADDITIONS = tuple(arm.name for arm in ARMS if arm.added_to)
COMPARED = (BEFORE, *ADDITIONS, REFERENCE)


@dataclass(frozen=True)
class AdditionFigures:
    """Figures of one arm; None where it has no such videos or no training to compare.

    ``old_*``: of prompts without the added character; ``change``: against the arm before it was
    added. ``new``: of prompts with it; ``to_reference``: against training all again. ``steps``:
    mean over the seeds; ``steps_share``: the largest of a seed, of training all again.
    """

    arm: str
    seeds: int
    old: Estimate | None
    old_two_shows: Estimate | None
    old_one_show: Estimate | None
    old_single: Estimate | None
    change: Estimate | None
    new: Estimate | None
    new_present: float | None
    to_reference: Estimate | None
    steps: float | None
    steps_share: float | None


def addition_figures(
    rows: Sequence[VideoRow], trainings: Sequence[TrainingRow]
) -> list[AdditionFigures]:
    """Compute the figures of the arms that have videos."""
    found = {row["arm"] for row in rows}
    return [_figures(rows, trainings, arm) for arm in COMPARED if arm in found]


def _figures(
    rows: Sequence[VideoRow], trainings: Sequence[TrainingRow], arm: str
) -> AdditionFigures:
    old = _select(rows, arm, lambda row: ADDED not in row["characters"])
    new = _select(rows, arm, lambda row: ADDED in row["characters"])
    own = {row.seed: row.steps for row in trainings if row.arm == arm}
    whole = {row.seed: row.steps for row in trainings if row.arm == REFERENCE}
    shares = [own[seed] / whole[seed] for seed in own.keys() & whole.keys()]
    return AdditionFigures(
        arm=arm,
        seeds=len({row["seed"] for row in old}),
        old=share(old, all_kept),
        old_two_shows=share([r for r in old if r["kind"] == "cross-style"], all_kept),
        old_one_show=share([r for r in old if r["kind"] == "same-show"], all_kept),
        old_single=share([r for r in old if r["kind"] == "single"], all_kept),
        change=_difference(old, [r for r in rows if r["arm"] == BEFORE]),
        new=share(new, all_kept),
        new_present=float(np.mean([_is_present(row) for row in new])) if new else None,
        to_reference=_difference(new, [r for r in rows if r["arm"] == REFERENCE]),
        steps=float(np.mean(list(own.values()))) if own else None,
        steps_share=max(shares) if shares else None,
    )


def _select(
    rows: Sequence[VideoRow], arm: str, condition: Callable[[VideoRow], bool]
) -> list[VideoRow]:
    return [row for row in rows if row["arm"] == arm and condition(row)]


def _is_present(row: VideoRow) -> bool:
    return row["present"][row["characters"].index(ADDED)]


def _difference(ours: Sequence[VideoRow], others: Sequence[VideoRow]) -> Estimate | None:
    mine, theirs = shared_videos(ours, others)
    return gain(mine, theirs, all_kept) if theirs else None


COLUMNS: tuple[tuple[str, str], ...] = (
    ("seeds", "seeds"),
    ("old", "the other seven: all kept"),
    ("old_two_shows", "of two shows"),
    ("old_one_show", "of one show"),
    ("old_single", "one character"),
    ("change", f"change by adding {ADDED}"),
    ("new", f"with {ADDED}: all kept"),
    ("new_present", f"{ADDED} present"),
    ("to_reference", "difference to training all again"),
    ("steps", "optimizer steps"),
    ("steps_share", "of training all again"),
)


def markdown(figures: Sequence[AdditionFigures], trainings: Sequence[TrainingRow]) -> str:
    """Format the figures as a table, then what each training says that old characters lose."""
    lines = [
        f"| {ADDED} is added | {' | '.join(one.arm for one in figures)} |",
        f"| --- | {' | '.join('---:' for _ in figures)} |",
    ]
    for field, title in COLUMNS:
        cells = [getattr(one, field) for one in figures]
        if field == "steps":
            texts = ["–" if value is None else f"{value:.0f}" for value in cells]
        else:
            texts = [format_value(value) for value in cells]
        lines.append(f"| {title} | {' | '.join(texts)} |")
    notes = [
        f"- {row.arm}, seed {row.seed}: held-out loss {row.forgetting}"
        + (f"; the adapter is {row.adapter}" if row.adapter else "")
        for row in trainings
        if row.arm in ADDITIONS and row.forgetting
    ]
    return "\n".join(["\n".join(lines), "", *notes]).strip() + "\n"


def recorded_figures(figures: Sequence[AdditionFigures]) -> dict[str, float]:
    """Return the figures by the names of perf/results/miniature.json."""
    by_arm = {one.arm: one for one in figures}
    found: dict[str, float | None] = {}
    if BEFORE in by_arm:
        before = by_arm[BEFORE].old
        found["added_old_before"] = before.mean if before else None
    for arm in ADDITIONS:
        if arm not in by_arm:
            continue
        one, name = by_arm[arm], arm.replace("-", "_")
        found |= {
            f"{name}_old": one.old.mean if one.old else None,
            f"{name}_new": one.new.mean if one.new else None,
            f"{name}_steps_share": one.steps_share,
        }
        for title, estimate in (("change", one.change), ("difference", one.to_reference)):
            if estimate is not None:
                found |= {
                    f"{name}_{title}": estimate.mean,
                    f"{name}_{title}_low": estimate.low,
                    f"{name}_{title}_high": estimate.high,
                }
    return {name: round(value, 4) for name, value in found.items() if value is not None}


def read_trainings(paths: Sequence[Path]) -> list[TrainingRow]:
    """Read rows of several files that ``miniature.study.run`` wrote; none may come twice."""
    rows = [TrainingRow(**row) for path in paths for row in json.loads(path.read_text())]
    names = [(row.arm, row.seed) for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise BadInput(f"{name[0]}, seed {name[1]} comes twice", where=str(paths[-1]))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, and record its figures if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+", help="videos.json, or a recorded .csv")
    parser.add_argument("--trainings", type=Path, nargs="+", required=True)
    parser.add_argument("--record", action="store_true")
    options = parser.parse_args(arguments)
    trainings = read_trainings(options.trainings)
    figures = addition_figures(read_rows(options.videos), trainings)
    sys.stdout.write(markdown(figures, trainings))
    if options.record:
        path = RESULTS / "miniature.json"
        record = json.loads(path.read_text())
        found = recorded_figures(figures)
        record["figures"] |= found
        record["units"] |= dict.fromkeys(found, "share of videos")
        record["units"] |= {
            name: "share of optimizer steps" for name in found if name.endswith("_steps_share")
        }
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
