"""Tables 2 and 3 of the paper in miniature: its ratings beside the shares of the study."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mimix_core.benchmark.tables.paper_results import load_paper_results
from miniature.study.prompts import study_prompts
from miniature.study.scoring import VideoRow
from miniature.study.statistics import Estimate, Value, share

ASPECTS: tuple[tuple[str, str, str], ...] = (
    ("identity", "Identity", "characters asked for that are there, by all attributes"),
    ("motion-p", "Motion", "characters asked for that do what was asked"),
    ("style", "Style", "characters asked for that are there in their own style"),
    ("interaction", "Interaction", "videos with an action on another in which both do their part"),
)
"""The paper's aspects: its column, the title, and what the study counts for it, in two-show videos.
"""

TableKey = Literal["table-2", "table-3"]

ROWS: dict[TableKey, tuple[tuple[str, str, str], ...]] = {
    "table-2": (
        ("no-tags", "no tag", "no-tags"),
        ("character", "no scene-style", "character-tag"),
        ("scene-style", "no character", "scene-style-tag"),
        ("both", "both", "composites-10"),
    ),
    "table-3": (
        ("5%", "5 %", "composites-5"),
        ("10%", "10 %", "composites-10"),
        ("20%", "20 %", "composites-20"),
    ),
}
"""The rows of each table: the paper's label, ours, and the arm."""

TITLES: dict[TableKey, str] = {
    "table-2": "Table 2 in miniature: tags",
    "table-3": "Table 3 in miniature: share of composites",
}


@dataclass(frozen=True)
class ComparedRow:
    """A row: the paper's ratings (1 to 10), and an arm's shares; None if it was not run."""

    label: str
    paper: tuple[float | None, ...]
    ours: tuple[Estimate | None, ...]


@dataclass(frozen=True)
class ComparedTable:
    """One table of the paper beside the study."""

    title: str
    rows: tuple[ComparedRow, ...]


def compare_tables(rows: Sequence[VideoRow]) -> list[ComparedTable]:
    """Compute both tables from the videos of two shows."""
    return [_compare(key, rows) for key in ROWS]


def _compare(key: TableKey, rows: Sequence[VideoRow]) -> ComparedTable:
    printed = load_paper_results().get_table(key)
    by_label = {
        row.labels[0]: dict(zip(printed.columns, row.values, strict=True)) for row in printed.rows
    }
    compared = []
    for label, title, arm in ROWS[key]:
        cross = [row for row in rows if row["arm"] == arm and row["kind"] == "cross-style"]
        compared.append(
            ComparedRow(
                title,
                tuple(by_label[label][column] for column, _, _ in ASPECTS),
                tuple(_ours(column, cross) for column, _, _ in ASPECTS),
            )
        )
    return ComparedTable(TITLES[key], tuple(compared))


def _ours(aspect: str, cross: Sequence[VideoRow]) -> Estimate | None:
    if aspect == "interaction":
        acting = {prompt.id for prompt in study_prompts() if prompt.scene.together}
        return share(
            [row for row in cross if row["prompt_id"] in acting],
            lambda row: all(row["action_right"]),
        )
    values: dict[str, Value] = {
        "identity": lambda row: _mean(row["present"]),
        "motion-p": lambda row: _mean(row["action_right"]),
        "style": lambda row: _mean(row["style_kept"]),
    }
    return share(cross, values[aspect])


def _mean(flags: Sequence[bool]) -> float:
    return sum(flags) / len(flags)


def comparison_markdown(tables: Sequence[ComparedTable]) -> str:
    """Format the tables as Markdown: the paper's rating, then the study's share."""
    parts = []
    for table in tables:
        titles = [title for _, title, _ in ASPECTS]
        lines = [
            f"| {table.title} | {' | '.join(f'{title}: paper | here' for title in titles)} |",
            f"| --- |{' ---: |' * (2 * len(titles))}",
        ]
        for row in table.rows:
            pairs = zip(row.paper, row.ours, strict=True)
            cells = [text for paper, ours in pairs for text in (format_rating(paper), _share(ours))]
            lines.append(f"| {row.label} | {' | '.join(cells)} |")
        parts.append("\n".join(lines))
    return "\n\n".join(parts) + "\n"


def format_rating(value: float | None) -> str:
    """Format one of the paper's ratings."""
    return "–" if value is None else f"{value:.2f}"


def _share(value: Estimate | None) -> str:
    return "not run" if value is None else str(value)
