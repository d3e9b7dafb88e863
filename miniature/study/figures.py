"""Tables of the study: what share of each arm's videos keeps the characters, with intervals.

    python -m miniature.study.figures VIDEOS.json [--record --gpu-minutes 100 --card NAME]

prints them as Markdown. ``--record`` also writes perf/results/miniature_videos.csv, one line for
each video, and the figures to perf/results/miniature.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from miniature.study.arms import ARMS
from miniature.study.scoring import VideoRow
from miniature.study.statistics import Estimate, gain, grid, product_of_parts, share

ROOT = Path(__file__).resolve().parent.parent.parent
RESULTS = ROOT / "perf" / "results"
BASELINE = "composites-0"

Condition = Callable[[VideoRow], bool]


@dataclass(frozen=True)
class ArmFigures:
    """Shares of one arm. ``gain``: of ``all_kept`` against the arm without composites."""

    arm: str
    videos: int
    all_kept: Estimate
    cartoon_scene: Estimate
    realistic_scene: Estimate
    composited_pairs: Estimate
    held_out_pairs: Estimate
    gain: Estimate
    product_of_parts: float
    both_present: float
    same_show: Estimate
    same_show_right: Estimate
    single: Estimate
    all_right: Estimate


def all_kept(row: VideoRow) -> float:
    return row["all_kept"]


def all_right(row: VideoRow) -> float:
    return row["all_right"]


def arm_names(rows: Sequence[VideoRow]) -> list[str]:
    """Return the arms in the order of ``ARMS``."""
    found = {row["arm"] for row in rows}
    return [arm.name for arm in ARMS if arm.name in found]


def arm_figures(rows: Sequence[VideoRow], arm: str) -> ArmFigures:
    """Compute the figures of one arm; the rows of the arm without composites must be there too."""
    ours = [row for row in rows if row["arm"] == arm]

    def of(condition: Condition, source: Sequence[VideoRow] = ours) -> list[VideoRow]:
        return [row for row in source if condition(row)]

    def is_cross(row: VideoRow) -> bool:
        return row["kind"] == "cross-style"

    cross = of(is_cross)
    seeds = {row["seed"] for row in ours}
    baseline = [row for row in rows if row["arm"] == BASELINE and row["seed"] in seeds]
    same_show = of(lambda row: row["kind"] == "same-show")
    return ArmFigures(
        arm=arm,
        videos=len(ours),
        all_kept=share(cross, all_kept),
        cartoon_scene=share(of(lambda row: row["scene_style"] == "cartoon", cross), all_kept),
        realistic_scene=share(of(lambda row: row["scene_style"] == "realistic", cross), all_kept),
        composited_pairs=share(of(lambda row: not row["held_out"], cross), all_kept),
        held_out_pairs=share(of(lambda row: row["held_out"], cross), all_kept),
        gain=gain(cross, of(is_cross, baseline), all_kept),
        product_of_parts=product_of_parts(cross),
        both_present=float(grid(cross, lambda row: all(row["present"])).mean()),
        same_show=share(same_show, all_kept),
        same_show_right=share(same_show, all_right),
        single=share(of(lambda row: row["kind"] == "single"), all_kept),
        all_right=share(cross, all_right),
    )


COLUMNS: tuple[tuple[str, str], ...] = (
    ("all_kept", "two shows: all kept"),
    ("gain", "gain over 0 %"),
    ("composited_pairs", "composited pairs"),
    ("held_out_pairs", "never composited"),
    ("cartoon_scene", "cartoon scene"),
    ("realistic_scene", "realistic scene"),
    ("both_present", "both present"),
    ("product_of_parts", "product of parts"),
    ("all_right", "two shows: and actions right"),
    ("same_show", "one show: all kept"),
    ("same_show_right", "one show: and actions right"),
    ("single", "one character"),
)
"""The fields of ``ArmFigures`` that are shown, with their titles."""


def markdown(figures: Sequence[ArmFigures]) -> str:
    """Format the figures as a Markdown table, one column for each arm."""
    lines = [
        f"| | {' | '.join(one.arm for one in figures)} |",
        f"| --- | {' | '.join('---:' for _ in figures)} |",
    ]
    for field, title in COLUMNS:
        values = (getattr(one, field) for one in figures)
        cells = (f"{v:.3f}" if isinstance(v, float) else str(v) for v in values)
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


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


def recorded_figures(figures: Sequence[ArmFigures]) -> dict[str, float]:
    """Return the figures by the names of perf/results/miniature.json."""
    found: dict[str, float] = {}
    for one in figures:
        if one.arm.startswith("composites-"):
            number = one.arm.removeprefix("composites-")
            found |= {
                f"all_kept_{number}": one.all_kept.mean,
                f"same_show_kept_{number}": one.same_show.mean,
                f"held_out_kept_{number}": one.held_out_pairs.mean,
                f"gain_{number}_low": one.gain.low,
            }
        else:
            found[f"all_kept_{one.arm.replace('-', '_')}"] = one.all_kept.mean
    return {name: round(value, 4) for name, value in found.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables, and record the figures if asked."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--gpu-minutes", type=float, help="in all, to be recorded")
    parser.add_argument("--card", default="", help="the GPU's name, to be recorded")
    options = parser.parse_args(arguments)
    rows: list[VideoRow] = json.loads(options.videos.read_text())
    figures = [arm_figures(rows, arm) for arm in arm_names(rows)]
    sys.stdout.write(markdown(figures))
    if options.record:
        write_csv(rows, RESULTS / "miniature_videos.csv")
        path = RESULTS / "miniature.json"
        record = json.loads(path.read_text())
        found = recorded_figures(figures)
        record["figures"] |= found
        record["units"] |= dict.fromkeys(found, "share of videos")
        record["units"] |= {name: "share of videos, 95 %" for name in found if "gain" in name}
        if options.gpu_minutes:
            record["figures"]["gpu_minutes"] = options.gpu_minutes
        record["study"] = {"videos": len(rows), "card": options.card}
        path.write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
