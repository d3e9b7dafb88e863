"""``mimix bench prompts``: write the benchmark's prompts, or generate a set for any library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows.console import console, user_errors
from mimix_core.errors import BadInput


def prompts(
    out: Annotated[Path, typer.Option(help="Prompts file (YAML) to create.")],
    library: Annotated[
        Path | None,
        typer.Option(
            help="library.yaml with the characters to generate prompts for. Without it, the "
            "benchmark's 100 prompts for the paper's ten characters are written."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Random seed of the generated set.")] = 0,
    singles: Annotated[int, typer.Option(min=0, help="Number of prompts with one character.")] = 50,
    multis: Annotated[
        int, typer.Option(min=0, help="Number of prompts with two or three characters.")
    ] = 50,
) -> None:
    """Write a prompts file; see docs/benchmark.md."""
    from mimix_core.benchmark.promptsets import MIXING_100
    from mimix_core.benchmark.promptsets.prompt_generator import generate_prompts, prompts_to_yaml
    from mimix_core.domain.library import parse_library

    with user_errors():
        if out.exists():
            fix = "Choose another file name, e.g. --out benchmark-prompts.yaml."
            raise BadInput("already exists", where=str(out), fix=fix)
        if library is None:
            text = MIXING_100.read_text(encoding="utf-8")
        else:
            generated = generate_prompts(
                parse_library(library), seed=seed, singles=singles, multis=multis
            )
            text = prompts_to_yaml(generated)
        out.write_text(text, encoding="utf-8")
    console.print(f"Wrote {escape(str(out))}", highlight=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the command to ``mimix bench``."""
    app.command()(prompts)
