"""Tables of the study: what share of each arm's videos keeps the characters, with intervals.

    python -m miniature.study.figures VIDEOS.json ... [--record --gpu-minutes 100 --card NAME]

prints them as Markdown. ``--record`` also writes perf/results/miniature_videos.csv, one line for
each video, and the figures to perf/results/miniature.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimix_core.errors import BadInput
from miniature.study.arms import ARMS
from miniature.study.paper_comparison import compare_tables, comparison_markdown
from miniature.study.scoring import VideoRow
from miniature.study.statistics import (
    Estimate,
    Value,
    gain,
    grid,
    product_of_parts,
    share,
    shared_videos,
)

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "perf" / "results"
BASELINE, REFERENCE = "composites-0", "composites-10"
LAST_CHECKPOINT = "checkpoint-24"
"""The reference itself, on the prompts of the checkpoints."""

SEEDS = 3

Condition = Callable[[VideoRow], bool]


@dataclass(frozen=True)
class ArmFigures:
    """Shares of one arm; None where it has no such videos.

    ``gain``: of ``all_kept`` against the arm without composites; ``over_reference``: against that
    with 10 % of composites and both tags; ``presence_over_reference``: of both being there. They
    are of the prompts and seeds that the arms share.
    """

    arm: str
    videos: int
    seeds: int
    all_kept: Estimate | None
    cartoon_scene: Estimate | None
    realistic_scene: Estimate | None
    composited_pairs: Estimate | None
    held_out_pairs: Estimate | None
    gain: Estimate | None
    over_reference: Estimate | None
    presence_over_reference: Estimate | None
    product_of_parts: float
    both_present: float
    same_show: Estimate | None
    same_show_right: Estimate | None
    single: Estimate | None
    all_right: Estimate | None


def all_kept(row: VideoRow) -> float:
    return row["all_kept"]


def all_right(row: VideoRow) -> float:
    return row["all_right"]


def both_present(row: VideoRow) -> float:
    return all(row["present"])


def is_cross(row: VideoRow) -> bool:
    return row["kind"] == "cross-style"


def arm_names(rows: Sequence[VideoRow]) -> list[str]:
    """Return the arms that have videos, in the order of ``ARMS``."""
    found = {row["arm"] for row in rows}
    return [arm.name for arm in ARMS if arm.name in found]


def with_last_checkpoint(rows: Sequence[VideoRow]) -> list[VideoRow]:
    """Add the reference's videos of the checkpoints' prompts and seeds as an arm of its own."""
    shorter = {arm.name for arm in ARMS if arm.epochs is not None}
    asked = {(row["prompt_id"], row["seed"]) for row in rows if row["arm"] in shorter}
    last = [
        VideoRow(**{**row, "arm": LAST_CHECKPOINT})
        for row in rows
        if row["arm"] == REFERENCE and (row["prompt_id"], row["seed"]) in asked
    ]
    return [*rows, *last]


def arm_figures(rows: Sequence[VideoRow], arm: str) -> ArmFigures:
    """Compute the figures of one arm; it has videos of two shows."""
    ours = [row for row in rows if row["arm"] == arm]

    def of(condition: Condition, source: Sequence[VideoRow] = ours) -> list[VideoRow]:
        return [row for row in source if condition(row)]

    def against(other: str, value: Value = all_kept) -> Estimate | None:
        ours_too, theirs = shared_videos(
            cross, of(is_cross, [r for r in rows if r["arm"] == other])
        )
        return gain(ours_too, theirs, value) if theirs else None

    cross = of(is_cross)
    same_show = of(lambda row: row["kind"] == "same-show")
    return ArmFigures(
        arm=arm,
        videos=len(ours),
        seeds=len({row["seed"] for row in ours}),
        all_kept=share(cross, all_kept),
        cartoon_scene=share(of(lambda row: row["scene_style"] == "cartoon", cross), all_kept),
        realistic_scene=share(of(lambda row: row["scene_style"] == "realistic", cross), all_kept),
        composited_pairs=share(of(lambda row: not row["held_out"], cross), all_kept),
        held_out_pairs=share(of(lambda row: row["held_out"], cross), all_kept),
        gain=against(BASELINE),
        over_reference=against(REFERENCE),
        presence_over_reference=against(REFERENCE, both_present),
        product_of_parts=product_of_parts(cross),
        both_present=float(grid(cross, both_present).mean()),
        same_show=share(same_show, all_kept),
        same_show_right=share(same_show, all_right),
        single=share(of(lambda row: row["kind"] == "single"), all_kept),
        all_right=share(cross, all_right),
    )


def all_figures(rows: Sequence[VideoRow]) -> list[ArmFigures]:
    """Compute the figures of every arm that has videos."""
    rows = with_last_checkpoint(rows)
    names = [*arm_names(rows), LAST_CHECKPOINT]
    found = {row["arm"] for row in rows}
    return [arm_figures(rows, name) for name in names if name in found]


COLUMNS: tuple[tuple[str, str], ...] = (
    ("seeds", "seeds"),
    ("all_kept", "two shows: all kept"),
    ("gain", "gain over 0 %"),
    ("over_reference", "difference to 10 %, both tags"),
    ("composited_pairs", "composited pairs"),
    ("held_out_pairs", "never composited"),
    ("cartoon_scene", "cartoon scene"),
    ("realistic_scene", "realistic scene"),
    ("both_present", "both present"),
    ("presence_over_reference", "both present: difference to 10 %"),
    ("product_of_parts", "product of parts"),
    ("all_right", "two shows: and actions right"),
    ("same_show", "one show: all kept"),
    ("same_show_right", "one show: and actions right"),
    ("single", "one character"),
)
"""The fields of ``ArmFigures`` that are shown, with their titles."""

_CHECKPOINTS = tuple(arm.name for arm in ARMS if arm.epochs is not None)

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Share of composites",
        tuple(arm.name for arm in ARMS if arm.name.startswith("composites-")),
    ),
    ("Tags, at 10 %", ("no-tags", "character-tag", "scene-style-tag", REFERENCE)),
    (
        "In place of composites, as many",
        (REFERENCE, "own-segmenter", "same-style-composites", "joint-renders", "joint-meetings"),
    ),
    (
        "Looking at the characters, at 10 %",
        (REFERENCE, "region-10", "cutout-start-50", "cutout-start-100"),
    ),
    (
        "25 steps with guidance, or 4 without, at 10 %",
        (REFERENCE, "few-steps", "few-steps-distilled"),
    ),
    (
        "Tokens that skip the middle blocks in training, at 10 %",
        (REFERENCE, *(arm.name for arm in ARMS if arm.routed_tokens)),
    ),
    ("Epochs of training, at 10 %", (*_CHECKPOINTS, LAST_CHECKPOINT)),
)
"""The tables of the study: a title, and the arms that are compared."""


@dataclass(frozen=True)
class FiguresTable:
    """One table: its title, its arms that have videos, and those that have none."""

    title: str
    figures: list[ArmFigures]
    missing: list[str]


def tables_of(figures: Sequence[ArmFigures]) -> list[FiguresTable]:
    """Arrange figures as the tables of the study; without those in which nothing was measured."""
    by_name = {one.arm: one for one in figures}
    tables = []
    for title, names in GROUPS:
        there = [by_name[name] for name in names if name in by_name]
        missing = [name for name in names if name not in by_name]
        tables.append(FiguresTable(title, there, missing))
    return tables


def missing_text(figures: Sequence[ArmFigures]) -> str:
    """Say which arms have no videos yet, and which have fewer seeds; empty if none."""
    names = {one.arm for one in figures}
    absent = [arm.name for arm in ARMS if arm.name not in names]
    fewer = [
        f"{one.arm} ({one.seeds})"
        for one in figures
        if one.seeds < SEEDS and one.arm != LAST_CHECKPOINT
    ]
    texts = []
    if absent:
        texts.append(f"Not run: {', '.join(absent)}.")
    if fewer:
        texts.append(f"With fewer than {SEEDS} seeds: {', '.join(fewer)}.")
    return " ".join(texts)


def format_value(value: Estimate | float | None) -> str:
    """Format a cell; a dash where nothing was measured."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def markdown(figures: Sequence[ArmFigures]) -> str:
    """Format the figures as Markdown tables, one column for each arm; then what is missing."""
    parts = []
    for table in tables_of(figures):
        if not {one.arm for one in table.figures} - {REFERENCE}:
            continue
        lines = [
            f"| {table.title} | {' | '.join(one.arm for one in table.figures)} |",
            f"| --- | {' | '.join('---:' for _ in table.figures)} |",
        ]
        for field, title in COLUMNS:
            cells = (format_value(getattr(one, field)) for one in table.figures)
            lines.append(f"| {title} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, missing_text(figures)]).strip() + "\n"


def write_csv(rows: Sequence[VideoRow], path: Path) -> None:
    """Write a line for each video; lists have one sign for each character, 1 or 0."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = [name for name in VideoRow.__annotations__ if name != "file"]
        writer.writerow(names)
        for row in rows:
            writer.writerow(_cell(value) for name, value in row.items() if name in names)


def _cell(value: object) -> str:
    if isinstance(value, list):
        texts = [_cell(item) for item in value]
        return (" " if any(len(text) > 1 for text in texts) else "").join(texts)
    return str(int(value)) if isinstance(value, bool) else str(value)


def read_csv(path: Path) -> list[VideoRow]:
    """Read what ``write_csv`` wrote; the videos themselves are not there."""
    rows: list[VideoRow] = []
    with path.open(newline="") as file:
        for line in csv.DictReader(file):
            flags = {
                name: [sign == "1" for sign in line[name]]
                for name in ("present", "style_kept", "action_right")
            }
            names = ("held_out", "background_right", "background_style_right", "contact")
            truths = {name: line[name] == "1" for name in (*names, "all_kept", "all_right")}
            rows.append(
                VideoRow(
                    arm=line["arm"],
                    seed=int(line["seed"]),
                    prompt_id=line["prompt_id"],
                    kind=line["kind"],
                    held_out=truths["held_out"],
                    scene_style=line["scene_style"],
                    characters=line["characters"].split(" "),
                    file="",
                    present=flags["present"],
                    style_kept=flags["style_kept"],
                    action_right=flags["action_right"],
                    background_right=truths["background_right"],
                    background_style_right=truths["background_style_right"],
                    contact=truths["contact"],
                    all_kept=truths["all_kept"],
                    all_right=truths["all_right"],
                )
            )
    return rows


def read_rows(paths: Sequence[Path]) -> list[VideoRow]:
    """Read rows from several files, ``videos.json`` or recorded ones; no video may come twice."""
    rows: list[VideoRow] = []
    for path in paths:
        rows += read_csv(path) if path.suffix == ".csv" else json.loads(path.read_text())
    counts = Counter((row["arm"], row["seed"], row["prompt_id"]) for row in rows)
    for (arm, seed, prompt_id), count in counts.items():
        if count > 1:
            raise BadInput(
                f"{arm}, seed {seed}: {count} videos of {prompt_id}", where=str(paths[-1])
            )
    return rows


def recorded_figures(figures: Sequence[ArmFigures]) -> dict[str, float]:
    """Return the figures by the names of perf/results/miniature.json."""
    found: dict[str, float | None] = {}
    for one in figures:
        name = one.arm.removeprefix("composites-").replace("-", "_")
        found |= {
            f"all_kept_{name}": _mean(one.all_kept),
            f"same_show_kept_{name}": _mean(one.same_show),
            f"held_out_kept_{name}": _mean(one.held_out_pairs),
        }
        if one.arm.startswith("composites-"):
            found[f"gain_{name}_low"] = one.gain.low if one.gain else None
        elif one.over_reference is not None:
            found |= {
                f"difference_{name}": one.over_reference.mean,
                f"difference_{name}_low": one.over_reference.low,
                f"difference_{name}_high": one.over_reference.high,
            }
    return {name: round(value, 4) for name, value in found.items() if value is not None}


def _mean(value: Estimate | None) -> float | None:
    return None if value is None else value.mean


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and record the figures if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+", help="videos.json, or a recorded .csv")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--gpu-minutes", type=float, help="in all, to be recorded")
    parser.add_argument("--card", default="", help="the GPU's name, to be recorded")
    options = parser.parse_args(arguments)
    rows = read_rows(options.videos)
    figures = all_figures(rows)
    sys.stdout.write(f"{markdown(figures)}\n{comparison_markdown(compare_tables(rows))}")
    if options.record:
        write_csv(rows, RESULTS / "miniature_videos.csv")
        path = RESULTS / "miniature.json"
        record = json.loads(path.read_text())
        found = recorded_figures(figures)
        record["figures"] |= found
        record["units"] |= dict.fromkeys(found, "share of videos")
        record["units"] |= {
            name: "share of videos, 95 %" for name in found if name.endswith(("_low", "_high"))
        }
        if options.gpu_minutes:
            record["figures"]["gpu_minutes"] = options.gpu_minutes
        record["study"] = {"videos": len(rows), "card": options.card}
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
