"""``mimix bench judge``: systems' videos rated and compared by a model, and how far to trust it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from flows.console import console, user_errors
from mimix_core import tables
from mimix_core.benchmark.judge import agreement as human_agreement
from mimix_core.benchmark.judge import judge_results
from mimix_core.benchmark.judge.external_videos import (
    load_judge_inputs,
    load_judge_settings,
    open_judge_store,
)
from mimix_core.benchmark.judge.judge_client import require_judge_vlm
from mimix_core.benchmark.judge.judge_cost import estimate_judge_cost
from mimix_core.benchmark.judge.pairwise import STAGE as DUELS_STAGE
from mimix_core.benchmark.judge.stage import STAGE
from mimix_core.benchmark.judge.statistics import ConfidenceInterval
from mimix_core.benchmark.tables.pairwise_tables import APART
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.progress import progress_listener
from mimix_core.engine.stage import run_stage
from mimix_core.errors import BadInput
from mimix_core.tables.judge_tables import DUELS, JUDGEMENTS
from mimix_core.vlm import Estimate, api_key, price_of

Systems = Annotated[
    list[str], typer.Option("--system", help="NAME=FOLDER with a video <prompt id>.mp4 each.")
]
Prompts = Annotated[Path, typer.Option(help="The prompts file (YAML).")]
Library = Annotated[Path, typer.Option(help="library.yaml: what the characters look like.")]
JudgeFile = Annotated[Path, typer.Option(help="A settings file with the key `judge`.")]
Work = Annotated[
    Path, typer.Option(help="Where answers and results are kept; none of them is paid twice.")
]


def judge(
    system: Systems,
    prompts: Prompts,
    library: Library,
    settings: JudgeFile,
    out: Annotated[Path, typer.Option(help="The table of ratings to write.")] = Path(
        "judgements.parquet"
    ),
    duels: Annotated[
        Path | None,
        typer.Option(help="Mode strict: also compare the systems in pairs, into this table."),
    ] = None,
    work: Work = Path("judging"),
) -> None:
    """Rate every system's videos in four aspects; in mode strict compare the systems, too."""
    with user_errors():
        chosen = load_judge_settings(settings)
        vlm = require_judge_vlm(chosen)
        api_key(vlm)
        price_of(vlm)
        inputs = load_judge_inputs(system, prompts, library, chosen, work)
        if duels is not None and (chosen.mode == "paper" or len(inputs.systems) < 2):
            raise BadInput(
                "comparisons are made in mode strict, of two systems or more", where="--duels"
            )
        store = open_judge_store(work)
        with _progress("judging"):
            ref = run_stage(store, STAGE, inputs, chosen).ref
        _hand_over(ref, out)
        rows = tables.read(ref.path, JUDGEMENTS)
        _print_ratings(judge_results.summarize_ratings(rows, chosen.mode))
        _print_card(judge_results.summarize_controls(rows))
        if duels is not None:
            with _progress("comparing"):
                ref = run_stage(store, DUELS_STAGE, inputs, chosen).ref
            _hand_over(ref, duels)
            rows = tables.read(ref.path, DUELS)
            _print_pairs(judge_results.summarize_pairs(rows))
            _print_strengths(judge_results.estimate_strengths(rows))


def judge_cost(
    system: Systems,
    prompts: Prompts,
    library: Library,
    settings: JudgeFile,
    work: Work = Path("judging"),
) -> None:
    """Requests, tokens and dollars of judging, before anything is sent."""
    with user_errors():
        chosen = load_judge_settings(settings)
        vlm = require_judge_vlm(chosen)
        cost = estimate_judge_cost(load_judge_inputs(system, prompts, library, chosen, work), chosen)
    table = Table(title=f"{vlm.model} by {vlm.backend}, mode {chosen.mode}")
    for name in ("", "requests", "input tokens", "output tokens", "dollars", "at most"):
        table.add_column(name, justify="right" if name else "left")
    for label, takes in (("ratings", cost.ratings), ("comparisons", cost.comparisons)):
        if takes is not None:
            table.add_row(label, *_estimate(takes))
    console.print(table)
    console.print(
        "Without what is answered already; `judge.vlm.budget_usd` sets a ceiling.",
        highlight=False,
        soft_wrap=True,
    )


def judge_agreement(
    judgements: Annotated[Path, typer.Option(help="The table that `mimix bench judge` wrote.")],
    human: Annotated[
        Path, typer.Option(help="CSV with the columns system, prompt_id, aspect, rating.")
    ],
) -> None:
    """How far the judge agrees with people, aspect by aspect."""
    with user_errors():
        rows = tables.read(judgements, JUDGEMENTS)
        given = human_agreement.load_human_ratings(human)
        modes: list[judge_results.JudgeMode] = ["paper", "strict"]
        found = {
            mode: human_agreement.compute_agreement(rows, given, mode)
            for mode in modes
            if any(row["mode"] == mode for row in rows)
        }
    table = Table(title="Agreement with people")
    for name in ("mode", "aspect"):
        table.add_column(name)
    for name in ("videos", "not judged", "quadratic kappa", "Spearman"):
        table.add_column(name, justify="right")
    for mode, lines in found.items():
        for one in lines:
            figures = (_figure(one.kappa), _figure(one.spearman))
            table.add_row(mode, one.aspect, str(one.videos), str(one.unjudged), *figures)
    console.print(table)


def register(app: typer.Typer) -> None:
    """Put the commands of this module into ``mimix bench``."""
    app.command()(judge)
    app.command()(judge_cost)
    app.command()(judge_agreement)


def _hand_over(ref: TableRef, out: Path) -> None:
    """Copy a committed table to where the person wants it, whole or not at all."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        part = out.with_name(f".{out.name}.part")
        part.write_bytes(ref.path.read_bytes())
        part.replace(out)
    except OSError as error:
        raise BadInput(f"cannot be written ({error.strerror})", where=str(out)) from error
    console.print(
        f"{ref.counts.ok} answers, {ref.counts.failed} missing, in {out}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )


@contextmanager
def _progress(what: str) -> Iterator[None]:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(what, total=None)

        def hear(done: int, total: int, _note: str) -> None:
            bar.update(task, completed=done, total=total)

        with progress_listener(hear):
            yield


def _print_ratings(lines: Sequence[judge_results.RatingSummary]) -> None:
    table = Table(title="Ratings, 1 to 10 (95 % interval over prompts)")
    table.add_column("system", overflow="fold")
    table.add_column("aspect")
    for name in ("mean", "prompts", "missing"):
        table.add_column(name, justify="right")
    for one in lines:
        missing = f"{one.missing} of {one.requested}"
        prompts = str(0 if one.interval is None else one.interval.n)
        table.add_row(escape(one.system), one.aspect, _shown(one.interval), prompts, missing)
    console.print(table)


def _print_card(lines: Sequence[judge_results.ControlSummary]) -> None:
    if not lines:
        return
    table = Table(title="The judge's own score card: spoilt versions rated below their originals")
    for name in ("control", "aspect", "share"):
        table.add_column(name, no_wrap=True)
    for name in ("below", "tied", "above", "no room", "missing"):
        table.add_column(name, justify="right")
    for one in lines:
        counts = (str(n) for n in (one.below, one.tied, one.above, one.at_floor, one.missing))
        table.add_row(one.control, one.aspect, _shown(one.share), *counts)
    console.print(table)


def _print_pairs(lines: Sequence[judge_results.PairSummary]) -> None:
    table = Table(title="Win rates, each duel in both orders")
    table.add_column("aspect", no_wrap=True)
    table.add_column("left", overflow="fold")
    table.add_column("right", overflow="fold")
    table.add_column("left wins", no_wrap=True)
    for name in ("duels", "same in both", "missing", "first"):
        table.add_column(name, justify="right")
    for one in lines:
        counts = (str(n) for n in (one.compared, one.consistent, one.missing))
        table.add_row(
            one.aspect,
            escape(one.left),
            escape(one.right),
            _shown(one.win_rate),
            *counts,
            _figure(one.first_position_share),
        )
    console.print(table)
    console.print("first: how often the video shown first wins; 0.5 without a bias.")


def _print_strengths(lines: Sequence[judge_results.BradleyTerryStrength]) -> None:
    table = Table(title="Bradley-Terry strengths (log, mean zero)")
    table.add_column("aspect")
    table.add_column("system", overflow="fold")
    table.add_column("strength", justify="right")
    table.add_column("interval", justify="right")
    for one in lines:
        known = one.low is not None and one.high is not None
        bounds = f"{one.low:.2f} to {one.high:.2f}" if known else "-"
        table.add_row(one.aspect, escape(one.system), _figure(one.strength), bounds)
    console.print(table)
    apart = sorted({one.aspect for one in lines if one.strength is None})
    if apart:
        console.print(f"{APART}: {', '.join(apart)}.", style="yellow")


def _shown(interval: ConfidenceInterval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.mean:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _estimate(takes: Estimate) -> tuple[str, ...]:
    dollars = ("?" if usd is None else f"{usd:,.2f}" for usd in (takes.cost_usd, takes.most_usd))
    return (
        f"{takes.questions:,}",
        f"{takes.input_tokens:,}",
        f"{takes.output_tokens:,}",
        *dollars,
    )
