"""Write the walls of systems for the studio: ``python -m flows.studio_comparison``.

A process of its own, as ``flows/studio_tables.py``: it needs tables and statistics in memory, the
studio's server neither. Reads a ``ComparisonRequest`` from stdin and prints the path of the
comparison file, or an error on stderr.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Sequence
from pathlib import Path

from flows.console import load_settings, module_errors
from flows.studio_tables import collect_newest
from mimix_core.benchmark.promptsets import MIXING_100
from mimix_core.benchmark.systems import System, find_videos, parse_named_path, parse_systems
from mimix_core.benchmark.tables.load_results import BenchmarkResults, load_results
from mimix_core.benchmark.tables.system_ranking import (
    RankedSystem,
    is_higher_better,
    rank_systems,
)
from mimix_core.domain.prompts import read_prompt_file
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.media import UnreadableVideo, open_video
from mimix_core.project.workspace import open_workspace
from mimix_core.studio.comparison_wall import (
    ComparisonFile,
    ComparisonWall,
    RankedColumn,
    ScoreRanking,
    WallColumn,
    WallRow,
    WallVideo,
    file_version,
)
from mimix_core.studio.index_file import FOLDER

OWN_SYSTEM = "ours"
"""Name of the videos of the settings' own run, as the judge of a run names them."""

RETAINED_FILES = 5
"""Comparison files that remain: the newest, which studios that start now may still read."""

_EXPLANATION = (
    "Means over the prompts that all these systems have a value of, with 95 % intervals over "
    "prompts. A system is within noise of the best one if the difference, prompt by prompt, may be "
    "zero (95 % over all systems). Other seeds are not covered."
)


class ComparisonRequest(FrozenModel):
    """What to compare, in the words of ``mimix bench report``.

    ``systems``: NAME=FOLDER each; ``scores``: NAME=TABLE each; ``prompts``: None for those of the
    settings, or of the benchmark.
    """

    settings: Path
    workspace: Path | None
    systems: tuple[str, ...]
    prompts: Path | None
    scores: tuple[str, ...] = ()
    judgements: tuple[Path, ...] = ()


def write_comparison_file(request: ComparisonRequest) -> Path:
    """Write the walls of these systems and of the run's own videos. Raises BadInput."""
    systems = list(parse_systems(request.systems))
    scores: dict[str, list[Path]] = {}
    for text in request.scores:
        name, path = parse_named_path(text, "--scores")
        scores.setdefault(name, []).append(path)
    workspace = open_workspace(load_settings(request.settings, request.workspace))
    refs, _ = collect_newest(workspace)
    own = refs.get("samples", ())
    if own and all(system.name.casefold() != OWN_SYSTEM for system in systems):
        systems.insert(0, System(OWN_SYSTEM, own[0].folder))
        scores[OWN_SYSTEM] = [
            ref.path for stage in ("scores", "character_scores") for ref in refs.get(stage, ())
        ]
    prompts = request.prompts or workspace.config.samples.prompts or MIXING_100
    results = load_results(read_prompt_file(prompts), systems, scores, request.judgements, (), None)
    wall = build_system_wall(results, systems)
    text = ComparisonFile(walls=(wall,)).model_dump_json()
    name = f"comparison-{hashlib.sha256(text.encode()).hexdigest()[:24]}.json"
    path = workspace.config.workspace / FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_bytes(path, text.encode(), durable=False)
    written = sorted(path.parent.glob("comparison-*.json"), key=lambda one: one.stat().st_mtime_ns)
    for older in written[:-RETAINED_FILES]:
        older.unlink(missing_ok=True)
    return path


def build_system_wall(results: BenchmarkResults, systems: Sequence[System]) -> ComparisonWall:
    """Build the wall of these systems: prompts x systems, with scores and rankings."""
    videos = {system.name: find_videos(system, results.prompts.prompts) for system in systems}
    metrics = results.metrics()
    return ComparisonWall(
        id="systems",
        title="Systems",
        noise="",
        columns=tuple(WallColumn(title=system.name) for system in systems),
        rows=tuple(
            WallRow(
                id=prompt.id,
                prompt=prompt.render(),
                category=prompt.category,
                videos=tuple(
                    _describe_video(
                        videos[system.name].get(prompt.id), system.name, prompt.id, results
                    )
                    for system in systems
                ),
            )
            for prompt in results.prompts.prompts
            if any(prompt.id in found for found in videos.values())
        ),
        rankings=tuple(
            _convert_ranking(metric, ranked, [system.name for system in systems])
            for metric in metrics
            if (ranked := rank_systems(results, metric))
        ),
    )


def _describe_video(
    path: Path | None, system: str, prompt_id: str, results: BenchmarkResults
) -> WallVideo | None:
    if path is None:
        return None
    try:
        with open_video(path, threads=1) as video:
            info = video.info
        width, height = info.geometry.width, info.geometry.height
        frames, rate = info.expected_frames, float(info.rate) or 16.0
    except UnreadableVideo:
        # The page says that it cannot be played.
        width = height = frames = 0
        rate = 16.0
    return WallVideo(
        file=path.resolve(),
        digest=file_version(path),
        width=width,
        height=height,
        frames=frames,
        rate=rate,
        scores={
            metric: found[prompt_id]
            for metric in results.metrics()
            if prompt_id in (found := results.values.get((system, metric), {}))
        },
    )


def _convert_ranking(
    metric: str, ranked: Sequence[RankedSystem], systems: Sequence[str]
) -> ScoreRanking:
    return ScoreRanking(
        measure=metric,
        higher_is_better=is_higher_better(metric),
        explanation=_EXPLANATION,
        columns=tuple(
            RankedColumn(
                column=systems.index(one.system),
                value=one.mean.mean,
                low=_finite(one.mean.low),
                high=_finite(one.mean.high),
                n=one.mean.n,
                difference=None if one.difference is None else one.difference.mean,
                difference_low=None if one.difference is None else _finite(one.difference.low),
                difference_high=None if one.difference is None else _finite(one.difference.high),
                within_noise=one.within_noise,
            )
            for one in ranked
        ),
    )


def _finite(value: float) -> float | None:
    """Return a bound; None for the unbounded interval of a single prompt."""
    return value if math.isfinite(value) else None


def main() -> None:
    """Write the comparison that stdin asks for, and print its path."""
    from flows import prefect_environment

    with module_errors():
        request = ComparisonRequest.model_validate_json(sys.stdin.buffer.read())
        prefect_environment.configure_prefect()
        path = write_comparison_file(request)
    sys.stdout.write(f"{path}\n")


if __name__ == "__main__":
    main()
