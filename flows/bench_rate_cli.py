"""``mimix bench rate``: people rate pairs of videos, without knowing whose they are."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.console import console, print_line, user_errors
from flows.studio_cli import is_local, listen, page_address, serve_app
from mimix_core.benchmark.tables.table_model import ResultTable
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.errors import BadInput
from mimix_core.settings.judge_settings import JudgeMode

RatingsFile = Annotated[
    Path, typer.Option(help="File of ratings to write or to continue (JSON lines).")
]


def rate(
    system: Annotated[
        list[str],
        typer.Option(
            "--system", help="A system as NAME=FOLDER with its videos <prompt id>.mp4; repeatable."
        ),
    ],
    ratings: RatingsFile = Path("ratings.jsonl"),
    prompts: Annotated[
        Path | None,
        typer.Option(
            help="Prompt file (YAML). Default: the 100 prompts for the paper's benchmark."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the order of pairs and sides.")] = 0,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on. Any other than 127.0.0.1 can be opened from other machines "
            "with the token that is printed."
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0: any that is free.")
    ] = 8766,
) -> None:
    """Open a page on which people say which of two videos is better, aspect by aspect.

    Names of systems and files are never shown. `mimix bench ratings` reads what was saved.
    """
    from mimix_core.benchmark.human.rating_setup import prepare_ratings
    from mimix_core.benchmark.promptsets import MIXING_100
    from mimix_core.benchmark.systems import parse_systems
    from mimix_core.domain.prompts import read_prompt_file
    from mimix_core.project.pair_ratings import RatingLog
    from mimix_core.studio.rating_server import create_rating_app

    with user_errors():
        log = RatingLog(ratings.resolve())
        log.refresh()
        listener = listen(host, port)
        with console.status("Preparing the pairs"):
            setup = prepare_ratings(
                read_prompt_file(prompts or MIXING_100),
                parse_systems(system),
                seed,
                ratings.resolve().with_name(f"{ratings.stem}-controls"),
            )
        for name, prompt_id, reason in setup.left_out:
            print_line(f"[yellow]{escape(f'left out: {name}, {prompt_id}: {reason}')}[/yellow]")
        token = None if is_local(host) else secrets.token_urlsafe(24)
        pairs = len(setup.plan.pairs())
        address = escape(page_address(host, listener, token))
        print_line(f"{pairs} {'pair' if pairs == 1 else 'pairs'} to rate: {address}")
        print_line(f"Ratings are saved in {escape(str(ratings))}. Ctrl+C ends.")
        serve_app(create_rating_app(setup.plan, log, token), listener)


def ratings(
    files: Annotated[list[Path], typer.Argument(help="Files of ratings, by `mimix bench rate`.")],
    duels: Annotated[
        list[Path] | None,
        typer.Option("--duels", help="Table written by `mimix bench judge --duels`; repeatable."),
    ] = None,
    judgements: Annotated[
        list[Path] | None,
        typer.Option(
            "--judgements", help="Table written by `mimix bench judge --out`; repeatable."
        ),
    ] = None,
    mode: Annotated[JudgeMode, typer.Option(help="Mode of the judgements to use.")] = "strict",
    csv: Annotated[Path | None, typer.Option(help="Folder to write the tables to, as CSV.")] = None,
) -> None:
    """Print what people prefer, how far they and the judge agree, and who rated without looking."""
    from mimix_core import tables
    from mimix_core.benchmark.tables.human_tables import build_human_tables
    from mimix_core.benchmark.tables.table_export import to_csv
    from mimix_core.project.pair_ratings import read_pair_ratings
    from mimix_core.tables.judge_tables import DUELS, JUDGEMENTS

    with user_errors():
        found = read_pair_ratings(files)
        if not found:
            raise BadInput("contains no ratings", where=str(files[0]))
        result_tables = build_human_tables(
            found,
            [row for path in duels or [] for row in tables.read(path, DUELS)],
            [row for path in judgements or [] for row in tables.read(path, JUDGEMENTS)],
            mode if judgements else None,
        )
        if csv is not None:
            csv.mkdir(parents=True, exist_ok=True)
            for one in result_tables:
                atomic_write_bytes(csv / f"{one.key}.csv", to_csv(one).encode())
    notes: dict[str, None] = {}
    for one in result_tables:
        console.print(_terminal_table(one))
        notes |= dict.fromkeys(one.notes)
    for note in notes:
        console.print(escape(note), style="red", highlight=False, soft_wrap=True)


def _terminal_table(table: ResultTable) -> Table:
    shown = Table(title=table.title)
    for header in table.label_headers:
        shown.add_column(header, overflow="fold")
    for column in table.columns:
        shown.add_column(column.title, justify="right")
    for row in table.rows:
        cells = []
        for cell, column in zip(row.cells, table.columns, strict=True):
            interval = cell.format_interval(column.decimals)
            value = cell.format_value(column.decimals)
            cells.append(f"{value} ({interval})" if interval else value)
        shown.add_row(*map(escape, row.labels), *cells)
    return shown


def register(app: typer.Typer) -> None:
    """Add the commands to ``mimix bench``."""
    app.command()(rate)
    app.command()(ratings)
