"""Render films in which characters of both shows meet, each in the style of its own show.

    python -m miniature.crossovers FOLDER

adds them to a project of ``miniature.episodes``: true joint scenes, which the study's arms
``joint-renders`` and ``joint-meetings`` train on in place of composites. They are written to
``FOLDER/crossovers``, with all that MiMix takes beside a video, and
``FOLDER/library-joint-renders.yaml`` and ``FOLDER/library-joint-meetings.yaml`` name the episodes
of both shows and these films. Only pairs that composites may show as well are in them.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Iterator
from pathlib import Path

from mimix_core.errors import BadInput
from miniature import episode_files, episodes, scenes
from miniature.episode_plan import Shot, join_scenes
from miniature.episodes import PlannedEpisode
from miniature.figures import NAMED_FIGURES, STYLES, Figure
from miniature.scenes import TOGETHER
from miniature.study.prompts import COMPOSITED_PAIRS

RENDERS, MEETINGS = "joint-renders", "joint-meetings"
KINDS = (RENDERS, MEETINGS)
"""In the first everybody acts alone, as in a composite; in the second one acts on the other."""


def main() -> None:
    """Write the films of the project that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="a project of miniature.episodes")
    parser.add_argument("--films", type=int, default=4, help="of each style and kind")
    parser.add_argument("--shots", type=int, default=24, help="of each film")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="where shots are drawn: cpu or cuda")
    parser.add_argument("--workers", type=int, default=1, help="films drawn at a time")
    options = parser.parse_args()
    write_crossovers(
        options.folder,
        films=options.films,
        shots=options.shots,
        seed=options.seed,
        device=options.device,
        workers=options.workers,
    )


def write_crossovers(
    folder: Path, *, films: int, shots: int, seed: int = 0, device: str = "cpu", workers: int = 1
) -> None:
    """Write ``films`` films of each style and kind, and a library for each kind.

    Raises BadInput if the folder is no project of ``miniature.episodes``, or has films already.
    """
    if not (folder / "library.yaml").exists():
        raise BadInput(f"{folder} has no library.yaml", fix="Run miniature.episodes first.")
    target = folder / "crossovers"
    if target.exists():
        raise BadInput(f"{target} exists already", fix="Remove it to write the films again.")
    target.mkdir()
    planned: list[PlannedEpisode] = []
    libraries: dict[str, dict[Path, str]] = {kind: {} for kind in KINDS}
    for kind, named in libraries.items():
        for style in STYLES:
            plans = plan_crossovers(style, films, shots, seed, meet=kind == MEETINGS)
            for number, plan in enumerate(plans, start=1):
                stem = target / f"{kind}-{style}-{number:02}"
                named[stem.relative_to(folder).with_suffix(".mp4")] = style
                planned.append(PlannedEpisode(stem, plan, device=device))
    for stem in episodes.write_episodes(planned, workers):
        sys.stdout.write(f"{stem}.mp4\n")
    # Last, so that no arm begins with films that are not all there.
    for kind, named in libraries.items():
        episode_files.write_library_with_crossovers(folder / f"library-{kind}.yaml", named)


def plan_crossovers(
    style: str, films: int, shots: int, seed: int, *, meet: bool
) -> Iterator[list[Shot]]:
    """Plan films whose scenes have one style: a character of that show, and then one of the other.

    Pairs come in turn, each once before one comes again. ``meet``: whether one acts on the other,
    or everybody alone.
    """
    pairs = _pairs(random.Random(f"{seed} {style} {meet}"), style)
    for film in range(films):
        rng = random.Random(f"{seed} {style} {meet} {film}")
        yield join_scenes(
            rng, [_draw_scene(rng, style, next(pairs), meet=meet) for _ in range(shots)]
        )


def _pairs(rng: random.Random, style: str) -> Iterator[tuple[Figure, Figure]]:
    """Yield the host and the guest of each composited pair, without end."""
    figures = {figure.name: figure for figure in NAMED_FIGURES}
    couples = [(figures[one], figures[two]) for one, two in COMPOSITED_PAIRS]
    if style != couples[0][0].style:
        couples = [(two, one) for one, two in couples]
    while True:
        rng.shuffle(couples)
        yield from couples


def _draw_scene(
    rng: random.Random, style: str, pair: tuple[Figure, Figure], *, meet: bool
) -> scenes.Scene:
    together = rng.choice(tuple(TOGETHER)) if meet else None
    cast = pair[::-1] if meet and rng.random() < 0.5 else pair
    return scenes.draw_scene(rng, cast, style, together=together, together_share=0)


if __name__ == "__main__":
    main()
