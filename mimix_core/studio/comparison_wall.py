"""Model a wall of videos: one row per prompt, one column per checkpoint or system, and who is best.

The server reads walls from files: of training runs (``checkpoint_walls.py``), and of systems from
a file that a separate process writes (``flows/studio_comparison.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from mimix_core.engine.artifacts import FrozenModel


class WallVideo(FrozenModel):
    """A video of a wall. ``digest``: changes with the file; ``scores``: by measure."""

    file: Path
    digest: str
    width: int = 0
    height: int = 0
    frames: int = 0
    rate: float = 16.0
    scores: dict[str, float] = Field(default_factory=dict)


class WallColumn(FrozenModel):
    """A checkpoint or a system. ``note``: its own measure in words; may be empty."""

    title: str
    note: str = ""


class WallRow(FrozenModel):
    """A prompt and its videos, one per column; None where there is none."""

    id: str
    prompt: str
    category: str = ""
    videos: tuple[WallVideo | None, ...]


class RankedColumn(FrozenModel):
    """A column's mean of a measure with its 95 % interval, and how it differs from the best one.

    ``n``: prompts or held-out samples behind it; 0 if unknown. ``difference``, ``difference_low``
    and ``difference_high``: the column minus the best, over what both have; None where it is not
    known. ``within_noise``: the measure does not tell it from the best one; None where that is not
    known.
    """

    column: int
    value: float
    low: float | None = None
    high: float | None = None
    n: int = 0
    difference: float | None = None
    difference_low: float | None = None
    difference_high: float | None = None
    within_noise: bool | None = None


class ScoreRanking(FrozenModel):
    """The columns by one measure, the best first. ``explanation``: what its intervals mean."""

    measure: str
    higher_is_better: bool
    explanation: str
    columns: tuple[RankedColumn, ...]


class ComparisonWall(FrozenModel):
    """A wall of videos. ``noise``: whether the videos of a row start from the same noise."""

    id: str
    title: str
    noise: str
    columns: tuple[WallColumn, ...]
    rows: tuple[WallRow, ...]
    rankings: tuple[ScoreRanking, ...] = ()

    @property
    def version(self) -> str:
        """Return a text that changes when videos or values do."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]

    def video(self, row: int, column: int) -> WallVideo | None:
        """Return the video of a cell; None where there is none."""
        if not (0 <= row < len(self.rows) and 0 <= column < len(self.columns)):
            return None
        return self.rows[row].videos[column]

    def describe(self) -> dict[str, Any]:
        """Return what the page shows: everything but the places of files."""
        shown = self.model_dump(mode="json") | {"version": self.version}
        for row in shown["rows"]:
            for video in row["videos"]:
                if video is not None:
                    del video["file"]
                    video["digest"] = video["digest"][:16]
        return shown


class ComparisonFile(FrozenModel):
    """The walls of systems, as ``flows/studio_comparison.py`` writes them."""

    walls: tuple[ComparisonWall, ...]


def file_version(path: Path) -> str:
    """Return a digest of a file's path, size and time: it names previews and is not a checksum."""
    stats = path.stat()
    text = f"{path.resolve()}\n{stats.st_size}\n{stats.st_mtime_ns}"
    return hashlib.sha256(text.encode()).hexdigest()


def rank_by_intervals(
    measure: str,
    values: Iterable[tuple[int, float, tuple[float, float] | None]],
    explanation: str,
) -> ScoreRanking:
    """Rank columns by a measure of which less is better, when nothing but intervals is known.

    ``values``: column, value and interval. A column is within noise if the intervals overlap.
    """
    ordered = sorted(values, key=lambda one: (one[1], one[0]))
    best = ordered[0][2] if ordered else None
    ranked = []
    for column, value, interval in ordered:
        low, high = interval or (None, None)
        overlaps = None if low is None or best is None else low <= best[1]
        ranked.append(
            RankedColumn(column=column, value=value, low=low, high=high, within_noise=overlaps)
        )
    return ScoreRanking(
        measure=measure, higher_is_better=False, explanation=explanation, columns=tuple(ranked)
    )
