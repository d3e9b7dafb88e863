"""``mimix bench prompts``: the benchmark's prompts as a file, or such a set for any library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.console import console, user_errors
from mimix_core.errors import BadInput


def prompts(
    out: Annotated[Path, typer.Option(help="The new prompts file (YAML).")],
    library: Annotated[
        Path | None,
        typer.Option(
            help="library.yaml whose characters the prompts are about. Without it: the hundred "
            "prompts over the paper's ten characters."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Another one, another set.")] = 0,
    singles: Annotated[int, typer.Option(min=0, help="Prompts of one character.")] = 50,
    multis: Annotated[int, typer.Option(min=0, help="Prompts of two or three.")] = 50,
) -> None:
    """Write a prompts file; see docs/benchmark.md."""
    from mimix_core.benchmark.promptsets import MIXING_100
    from mimix_core.benchmark.promptsets.prompt_generator import as_yaml, make
    from mimix_core.domain.library import stated

    with user_errors():
        if out.exists():
            raise BadInput("is there already", where=str(out), fix="Name a new file.")
        if library is None:
            text = MIXING_100.read_text(encoding="utf-8")
        else:
            text = as_yaml(make(stated(library), seed=seed, singles=singles, multis=multis))
        out.write_text(text, encoding="utf-8")
    console.print(f"wrote {out}", highlight=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Put the command into ``mimix bench``."""
    app.command()(prompts)
