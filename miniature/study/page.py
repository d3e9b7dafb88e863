"""Write the study's page: the tables, the curve, and the same prompts side by side over the arms.

python -m miniature.study.page VIDEOS.json ... PAGE.html
"""

from __future__ import annotations

import argparse
import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from mimix_core.html.page_renderer import SHARED_STYLE, render_page
from mimix_core.html.svg_charts import LineSeries, draw_line_chart
from miniature.study.figures import (
    COLUMNS,
    ArmFigures,
    all_figures,
    arm_names,
    missing_text,
    read_rows,
    tables_of,
)
from miniature.study.paper_comparison import ASPECTS, compare_tables
from miniature.study.prompts import StudyPrompt, study_prompts
from miniature.study.scoring import VideoRow

KINDS = (
    ("cross-style", "Two shows"),
    ("same-show", "One show"),
    ("single", "One character"),
)
PROMPTS_SHOWN = {"cross-style": 32, "same-show": 8, "single": 4}


@dataclass(frozen=True)
class ShownVideo:
    """A video of one arm. ``problem``: what the judge misses; empty if nothing."""

    arm: str
    source: Markup
    problem: str


@dataclass(frozen=True)
class ShownPrompt:
    """A prompt with its video in each arm."""

    text: str
    held_out: bool
    videos: tuple[ShownVideo, ...]


def write_page(
    rows: Sequence[VideoRow], figures: Sequence[ArmFigures], path: Path, note: str = ""
) -> None:
    """Write the page with its videos inside, whose files must exist; ``figures`` may be empty."""
    page = render_page(
        "miniature.study",
        "study.html",
        {
            "title": "The miniature: what composites do",
            "note": note,
            "tables": [table for table in tables_of(figures) if table.figures],
            "missing": missing_text(figures) if figures else "",
            "compared": compare_tables(rows) if figures else [],
            "aspects": ASPECTS,
            "columns": COLUMNS,
            "kinds": KINDS,
            "chart": _chart(figures),
            "checkpoints": _checkpoint_chart(figures),
            "prompts": _shown_prompts(rows, arm_names(rows)),
        },
        styles=(SHARED_STYLE, ("miniature.study", "study.css")),
        script="study.js",
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page)


def _chart(figures: Sequence[ArmFigures]) -> Markup | None:
    """Draw the shares over the share of composites; None unless several arms have one."""
    return _curve(figures, "composites-", "composites in the dataset (%)", "Shares over composites")


def _checkpoint_chart(figures: Sequence[ArmFigures]) -> Markup | None:
    """Draw the shares over the epochs of training; None unless several checkpoints have one."""
    return _curve(figures, "checkpoint-", "epochs of training", "Shares over epochs")


def _curve(figures: Sequence[ArmFigures], prefix: str, x_label: str, label: str) -> Markup | None:
    """Draw the shares of the arms whose names begin with ``prefix`` over the number after it."""
    curve = sorted(
        (
            (float(one.arm.removeprefix(prefix)), one)
            for one in figures
            if one.arm.startswith(prefix)
        ),
        key=lambda point: point[0],
    )
    if len(curve) < 2:
        return None
    series = []
    for field, title, css_class in (
        ("all_kept", "two shows: all kept", "kept"),
        ("same_show", "one show: all kept", "same"),
    ):
        shares = [(x, getattr(one, field)) for x, one in curve]
        points = [(x, value.mean) for x, value in shares if value is not None]
        series.append(LineSeries(title, css_class, points))
    return draw_line_chart(series, x_label, "share of videos", label)


def _shown_prompts(rows: Sequence[VideoRow], arms: Sequence[str]) -> dict[str, list[ShownPrompt]]:
    first_seed = min(row["seed"] for row in rows)
    found = {(row["arm"], row["prompt_id"]): row for row in rows if row["seed"] == first_seed}
    shown: dict[str, list[ShownPrompt]] = {}
    for kind, count in PROMPTS_SHOWN.items():
        asked = {prompt_id for _, prompt_id in found}
        prompts = [p for p in study_prompts() if p.kind == kind and p.id in asked]
        # An odd step, so that scenes, pairs and variations all come.
        step = max(1, len(prompts) // count - 1)
        shown[kind] = [_show(p, arms, found) for p in prompts[::step][:count]]
    return shown


def _show(
    prompt: StudyPrompt, arms: Sequence[str], found: dict[tuple[str, str], VideoRow]
) -> ShownPrompt:
    videos = []
    for arm in arms:
        row = found.get((arm, prompt.id))
        if row is None:  # A checkpoint is evaluated on fewer prompts, an arm with fewer seeds.
            continue
        data = base64.b64encode(Path(row["file"]).read_bytes()).decode()
        videos.append(ShownVideo(arm, Markup("data:video/mp4;base64," + data), describe(row)))
    return ShownPrompt(prompt.as_prompt().render(), prompt.held_out, tuple(videos))


def describe(row: VideoRow) -> str:
    """Say what the judge misses in a video; empty if all is kept."""
    problems = []
    for name, present, style in zip(
        row["characters"], row["present"], row["style_kept"], strict=True
    ):
        if not present:
            problems.append(f"no {name}")
        elif not style:
            problems.append(f"{name} in the other style")
    if not row["background_style_right"]:
        problems.append("background in the other style")
    return ", ".join(problems)


def main() -> None:
    """Write the page that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("page", type=Path)
    parser.add_argument("--note", default="")
    options = parser.parse_args()
    rows = read_rows(options.videos)
    write_page(rows, all_figures(rows), options.page, options.note)


if __name__ == "__main__":
    main()
