"""``mimix bench report``: compare systems from their videos and score tables alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.console import console, user_errors
from mimix_core.errors import BadInput
from mimix_core.settings.judge_settings import JudgeMode


def report(
    system: Annotated[
        list[str],
        typer.Option(
            "--system", help="A system as NAME=FOLDER with its videos <prompt id>.mp4; repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the comparison to write.")],
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Prompt file (YAML). Default: the 100 prompts for the paper's benchmark."
        ),
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option(
            "--scores",
            help="Scores as NAME=TABLE, written by `mimix bench vbench` or `mimix bench "
            "characters`; repeatable.",
        ),
    ] = None,
    judgements: Annotated[
        list[Path] | None,
        typer.Option(
            "--judgements", help="Table written by `mimix bench judge --out`; repeatable."
        ),
    ] = None,
    duels: Annotated[
        list[Path] | None,
        typer.Option("--duels", help="Table written by `mimix bench judge --duels`; repeatable."),
    ] = None,
    ratings: Annotated[
        list[Path] | None,
        typer.Option("--ratings", help="Ratings of people, by `mimix bench rate`; repeatable."),
    ] = None,
    mode: Annotated[
        JudgeMode | None,
        typer.Option(help="Mode of the judgements to use, if the tables contain several."),
    ] = None,
    caption_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Row of Table 2 as FORMAT=NAME, e.g. no-tags=plain. Formats: no-tags, character, "
            "scene-style, both.",
        ),
    ] = None,
    ratio: Annotated[
        list[str] | None,
        typer.Option("--ratio", help="Row of Table 3 as SHARE=NAME, e.g. 10%=ours."),
    ] = None,
) -> None:
    """Write the paper's tables for these systems, charts, and their videos next to each other."""
    from mimix_core.benchmark.comparison.comparison_page import write_comparison
    from mimix_core.benchmark.promptsets import MIXING_100
    from mimix_core.benchmark.systems import parse_systems
    from mimix_core.benchmark.tables.all_tables import build_all_tables
    from mimix_core.benchmark.tables.load_results import load_results
    from mimix_core.domain.prompts import read_prompt_file

    with user_errors():
        systems = parse_systems(system)
        results = load_results(
            read_prompt_file(prompts or MIXING_100),
            systems,
            _parse_score_tables(scores or []),
            judgements or [],
            duels or [],
            mode,
            ratings or [],
        )
        result_tables = build_all_tables(
            results,
            _parse_assignments(caption_format or [], "--format"),
            _parse_assignments(ratio or [], "--ratio"),
        )
        page = write_comparison(results, systems, result_tables, out)
    counts = (
        (sum(map(len, results.missing_videos.values())), "videos missing"),
        (len(results.missing_values), "values missing"),
        (sum(map(len, results.unmatched_videos.values())), "videos that match no prompt"),
    )
    missing = "".join(f", {count} {what}" for count, what in counts if count)
    console.print(
        f"{len(systems)} systems, {len(results.prompts.prompts)} prompts{missing}: "
        f"{escape(str(page))}",
        highlight=False,
        soft_wrap=True,
    )


def register(app: typer.Typer) -> None:
    """Add the command to ``mimix bench``."""
    app.command()(report)


def _parse_score_tables(texts: Sequence[str]) -> dict[str, list[Path]]:
    from mimix_core.benchmark.systems import parse_named_path

    paths: dict[str, list[Path]] = {}
    for text in texts:
        name, path = parse_named_path(text, "--scores")
        paths.setdefault(name, []).append(path)
    return paths


def _parse_assignments(texts: Sequence[str], option: str) -> dict[str, str]:
    assignments: dict[str, str] = {}
    for text in texts:
        key, equals, name = text.partition("=")
        if not (key and equals and name):
            raise BadInput(f"{text!r} is not KEY=NAME", where=option)
        if assignments.setdefault(key, name) != name:
            raise BadInput(f"{key} is assigned twice", where=option)
    return assignments
