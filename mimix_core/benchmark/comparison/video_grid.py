"""Build the grid of the videos of each prompt, and copy them next to the page."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mimix_core.benchmark.comparison.comparison_charts import system_color
from mimix_core.benchmark.systems import System, find_videos
from mimix_core.benchmark.tables.load_results import BenchmarkResults
from mimix_core.benchmark.tables.metric_columns import MetricColumn
from mimix_core.domain.character_names import slugify
from mimix_core.domain.prompts import VideoPrompt

VIDEOS_FOLDER = "videos"


@dataclass(frozen=True)
class GridVideo:
    """A system's video of a prompt. ``file``: relative to the page, empty if missing."""

    system: str
    color: int
    file: str
    scores: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class GridRow:
    """One prompt and the video of each system."""

    prompt: VideoPrompt
    videos: tuple[GridVideo, ...]


def build_video_grid(
    results: BenchmarkResults, systems: Sequence[System], columns: Sequence[MetricColumn], out: Path
) -> tuple[GridRow, ...]:
    """Build the grid; copies videos below ``out``. ``columns``: the scores shown per video."""
    videos = {system.name: find_videos(system, results.prompts.prompts) for system in systems}
    return tuple(
        GridRow(
            prompt,
            tuple(
                GridVideo(
                    system.name,
                    system_color(number),
                    _copy_video(videos[system.name].get(prompt.id), slugify(system.name), out),
                    tuple(
                        (column.title, f"{values[prompt.id]:.{min(2, column.decimals)}f}")
                        for column in columns
                        if prompt.id
                        in (values := results.values.get((system.name, column.metric), {}))
                    ),
                )
                for number, system in enumerate(systems)
            ),
        )
        for prompt in results.prompts.prompts
    )


def _copy_video(video: Path | None, system: str, out: Path) -> str:
    """Copy a video below ``out``, and return its path relative to the page."""
    if video is None:
        return ""
    name = f"{VIDEOS_FOLDER}/{system}/{video.stem}{video.suffix.lower()}"
    target = out / name
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(video, target)
    return name
