"""The videos of each prompt side by side: which there are, and copies that the page can play."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mimix_core.benchmark.comparison.comparison_charts import tone
from mimix_core.benchmark.systems import System, find_videos
from mimix_core.benchmark.tables.load_results import Evidence
from mimix_core.benchmark.tables.metric_columns import Measure
from mimix_core.domain.character_names import slug
from mimix_core.domain.prompts import Prompt

FOLDER = "videos"


@dataclass(frozen=True)
class Side:
    """A system's video of a prompt. ``file`` is relative to the page, empty where there is none."""

    system: str
    tone: int
    file: str
    figures: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Match:
    """One prompt and every system's video of it."""

    prompt: Prompt
    sides: tuple[Side, ...]


def matches(
    evidence: Evidence, systems: Sequence[System], columns: Sequence[Measure], out: Path
) -> tuple[Match, ...]:
    """Every prompt with its videos, copied below ``out``; ``columns`` are told beside each."""
    found = {system.name: find_videos(system, evidence.prompts.prompts) for system in systems}
    return tuple(
        Match(
            prompt,
            tuple(
                Side(
                    system.name,
                    tone(number),
                    _copied(found[system.name].get(prompt.id), slug(system.name), out),
                    tuple(
                        (column.title, f"{values[prompt.id]:.{min(2, column.decimals)}f}")
                        for column in columns
                        if prompt.id
                        in (values := evidence.values.get((system.name, column.metric), {}))
                    ),
                )
                for number, system in enumerate(systems)
            ),
        )
        for prompt in evidence.prompts.prompts
    )


def _copied(video: Path | None, system: str, out: Path) -> str:
    """The copy's name relative to the page, which outlives the folders it was made of."""
    if video is None:
        return ""
    name = f"{FOLDER}/{system}/{video.stem}{video.suffix.lower()}"
    target = out / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(video, target)
    return name
