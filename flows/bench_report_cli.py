"""``mimix bench report``: systems compared, from nothing but their videos and scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

from flows.console import console, user_errors
from mimix_core.errors import BadInput


def report(
    system: Annotated[
        list[str], typer.Option("--system", help="NAME=FOLDER with a video <prompt id>.mp4 each.")
    ],
    out: Annotated[Path, typer.Option(help="The folder of the comparison.")],
    prompts: Annotated[
        Path | None,
        typer.Option(help="The prompts file (YAML). Without it: the paper's hundred."),
    ] = None,
    scores: Annotated[
        list[str] | None,
        typer.Option("--scores", help="NAME=TABLE that `mimix bench vbench` wrote; repeatable."),
    ] = None,
    judgements: Annotated[
        list[Path] | None,
        typer.Option("--judgements", help="What `mimix bench judge --out` wrote; repeatable."),
    ] = None,
    duels: Annotated[
        list[Path] | None,
        typer.Option("--duels", help="What `mimix bench judge --duels` wrote; repeatable."),
    ] = None,
    mode: Annotated[
        Literal["paper", "strict"] | None,
        typer.Option(help="Of the judge, where it was asked in both."),
    ] = None,
    caption_format: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            help="Table 2: VARIANT=NAME, e.g. no-tags=plain. There are no-tags, character, "
            "scene-style and both.",
        ),
    ] = None,
    ratio: Annotated[
        list[str] | None, typer.Option("--ratio", help="Table 3: SHARE=NAME, e.g. 10%=ours.")
    ] = None,
) -> None:
    """The paper's tables for these systems, charts, and their videos side by side."""
    from mimix_core.benchmark.comparison.comparison_page import write
    from mimix_core.benchmark.promptsets import MIXING_100
    from mimix_core.benchmark.systems import parse_systems
    from mimix_core.benchmark.tables.all_tables import all_sheets
    from mimix_core.benchmark.tables.load_results import gather
    from mimix_core.domain.prompts import read_prompt_file

    with user_errors():
        systems = parse_systems(system)
        evidence = gather(
            read_prompt_file(prompts or MIXING_100),
            systems,
            _tables(scores or []),
            judgements or [],
            duels or [],
            mode,
        )
        sheets = all_sheets(
            evidence, _arms(caption_format or [], "--format"), _arms(ratio or [], "--ratio")
        )
        page = write(evidence, systems, sheets, out)
    counts = (
        (sum(map(len, evidence.absent.values())), "videos missing"),
        (len(evidence.missing_values), "values missing"),
        (sum(map(len, evidence.strays.values())), "videos that no prompt names"),
    )
    missing = "".join(f", {count} {what}" for count, what in counts if count)
    console.print(
        f"{len(systems)} systems, {len(evidence.prompts.prompts)} prompts{missing}: {page}",
        highlight=False,
        soft_wrap=True,
    )


def register(app: typer.Typer) -> None:
    """Put the command into ``mimix bench``."""
    app.command()(report)


def _tables(texts: Sequence[str]) -> dict[str, list[Path]]:
    from mimix_core.benchmark.systems import parse_named_path

    found: dict[str, list[Path]] = {}
    for text in texts:
        name, path = parse_named_path(text, "--scores")
        found.setdefault(name, []).append(path)
    return found


def _arms(texts: Sequence[str], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        arm, equals, name = text.partition("=")
        if not (arm and equals and name):
            raise BadInput(f"{text!r} is not ARM=NAME", where=option)
        if found.setdefault(arm, name) != name:
            raise BadInput(f"{arm} stands twice", where=option)
    return found
