"""``mimix bench judge``: let a model rate and compare systems' videos, and check the model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, get_args

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from flows.console import FAILED, console, print_line, user_errors
from mimix_core import tables
from mimix_core.benchmark.judge import agreement as human_agreement
from mimix_core.benchmark.judge import judge_results
from mimix_core.benchmark.judge.authors_mode import RETIRED_NOTE
from mimix_core.benchmark.judge.external_videos import (
    load_judge_inputs,
    load_judge_settings,
    open_judge_store,
)
from mimix_core.benchmark.judge.judge_client import require_judge_vlm
from mimix_core.benchmark.judge.judge_cost import estimate_judge_cost
from mimix_core.benchmark.judge.judge_retries import with_comparison_retries, with_rating_retries
from mimix_core.benchmark.judge.pairwise import STAGE as DUELS_STAGE
from mimix_core.benchmark.judge.stage import STAGE
from mimix_core.benchmark.judge.statistics import ConfidenceInterval
from mimix_core.benchmark.judge.strengths import BradleyTerryStrength, estimate_strengths
from mimix_core.benchmark.tables.pairwise_tables import (
    DISCONNECTED_NOTE,
    judge_bias_notes,
    position_bias_notes,
)
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.engine.progress import progress_listener
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings.judge_settings import JudgeMode
from mimix_core.tables import JudgementRow, PairwiseRow
from mimix_core.tables.judge_tables import DUELS, JUDGEMENTS
from mimix_core.vlm import CostEstimate, model_price, read_api_key
from mimix_core.vlm.failure_policy import JUDGE_FAILURES

Systems = Annotated[
    list[str],
    typer.Option(
        "--system", help="A system as NAME=FOLDER with its videos <prompt id>.mp4; repeatable."
    ),
]
Prompts = Annotated[Path, typer.Option(help="Prompt file (YAML).")]
Library = Annotated[
    Path, typer.Option(help="library.yaml with the characters and their reference images.")
]
JudgeFile = Annotated[Path, typer.Option(help="Settings file with the section `judge`.")]
Work = Annotated[
    Path, typer.Option(help="Folder for answers and results; stored answers are never paid twice.")
]


def judge(
    system: Systems,
    prompts: Prompts,
    library: Library,
    settings: JudgeFile,
    out: Annotated[Path, typer.Option(help="Table of ratings to write.")] = Path(
        "judgements.parquet"
    ),
    duels: Annotated[
        Path | None,
        typer.Option(help="Mode strict: also compare the systems in pairs, and write this table."),
    ] = None,
    work: Work = Path("judging"),
) -> None:
    """Rate every system's videos in four aspects; mode strict can also compare the systems.

    If most ratings or most comparisons failed, the last line says so and the exit code is 1.
    """
    with user_errors():
        judge_settings = load_judge_settings(settings)
        vlm = require_judge_vlm(judge_settings)
        read_api_key(vlm)
        model_price(vlm)
        inputs = load_judge_inputs(system, prompts, library, judge_settings, work)
        if duels is not None and (judge_settings.mode != "strict" or len(inputs.systems) < 2):
            raise BadInput("comparisons need mode strict and two systems or more", where="--duels")
        store = open_judge_store(work)
        with _progress("judging"):
            asked = with_rating_retries(inputs, judge_settings, work)
            ref = run_stage(store, STAGE, asked, judge_settings).ref
        _copy_table(ref, out)
        refs = [ref]
        rows = tables.read(ref.path, JUDGEMENTS)
        _print_ratings(rows, judge_settings.mode)
        if len(inputs.systems) > 1:
            first = inputs.systems[0].name
            differences = judge_results.summarize_differences(rows, judge_settings.mode, first)
            _print_differences(differences)
        _print_controls(judge_results.summarize_controls(rows))
        if duels is not None:
            with _progress("comparing"):
                asked = with_comparison_retries(inputs, judge_settings, work)
                ref = run_stage(store, DUELS_STAGE, asked, judge_settings).ref
            _copy_table(ref, duels)
            refs.append(ref)
            comparisons = tables.read(ref.path, DUELS)
            _print_pairs(comparisons)
            _print_strengths(estimate_strengths(comparisons))
        _fail_if_most_rows_failed(store, refs)


def _fail_if_most_rows_failed(store: Store, refs: Sequence[TableRef]) -> None:
    """Say so and exit with 1 when more than half of a table's rows failed."""
    mostly_failed = [ref for ref in refs if 2 * ref.counts.failed > ref.counts.rows_in]
    for ref in mostly_failed:
        reasons = store.record(ref).reasons
        listed = ", ".join(f"{reason} {count}" for reason, count in reasons.items())
        retryable = not reasons.keys().isdisjoint(JUDGE_FAILURES.names())
        print_line(
            f"[bold red]failed[/bold red] {ref.stage}: {ref.counts.failed} of {ref.counts.rows_in} "
            f"answers failed: {listed}"
            + (". `mimix bench judge-retry` asks for them again" if retryable else "")
        )
    if mostly_failed:
        raise typer.Exit(FAILED)


def judge_cost(
    system: Systems,
    prompts: Prompts,
    library: Library,
    settings: JudgeFile,
    work: Work = Path("judging"),
) -> None:
    """Estimate requests, tokens and cost of judging before any request is sent."""
    with user_errors():
        judge_settings = load_judge_settings(settings)
        vlm = require_judge_vlm(judge_settings)
        cost = estimate_judge_cost(
            load_judge_inputs(system, prompts, library, judge_settings, work), judge_settings
        )
    table = Table(title=f"{vlm.model} by {vlm.backend}, mode {judge_settings.mode}")
    for name in ("", "requests", "input tokens", "output tokens", "dollars", "at most"):
        table.add_column(name, justify="right" if name else "left")
    for label, takes in (("ratings", cost.ratings), ("comparisons", cost.comparisons)):
        if takes is not None:
            table.add_row(label, *_format_estimate(takes))
    console.print(table)
    console.print(
        "Cached answers are not subtracted; `judge.vlm.budget_usd` limits the cost.",
        highlight=False,
        soft_wrap=True,
    )


def judge_agreement(
    judgements: Annotated[Path, typer.Option(help="Table written by `mimix bench judge`.")],
    human: Annotated[
        Path, typer.Option(help="CSV with the columns system, prompt_id, aspect, rating.")
    ],
) -> None:
    """Compute the agreement of judge and people in each aspect."""
    with user_errors():
        rows = tables.read(judgements, JUDGEMENTS)
        ratings = human_agreement.load_human_ratings(human)
        modes: tuple[JudgeMode, ...] = get_args(JudgeMode)
        agreements = {
            mode: human_agreement.compute_agreement(rows, ratings, mode)
            for mode in modes
            if any(row["mode"] == mode for row in rows)
        }
    table = Table(title="Agreement with people")
    for name in ("mode", "aspect"):
        table.add_column(name)
    for name in ("videos", "not judged", "quadratic kappa", "Spearman"):
        table.add_column(name, justify="right")
    for mode, lines in agreements.items():
        for line in lines:
            figures = (
                _format_bounded(line.kappa, line.kappa_bounds),
                _format_bounded(line.spearman, line.spearman_bounds),
            )
            table.add_row(mode, line.aspect, str(line.videos), str(line.unjudged), *figures)
    console.print(table)


def register(app: typer.Typer) -> None:
    """Add the commands of this module to ``mimix bench``."""
    app.command()(judge)
    app.command()(judge_cost)
    app.command()(judge_agreement)


def _copy_table(ref: TableRef, out: Path) -> None:
    """Copy a committed table to ``out`` atomically."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_bytes(out, ref.path.read_bytes())
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

        def update(done: int, total: int, _note: str) -> None:
            bar.update(task, completed=done, total=total)

        with progress_listener(update):
            yield


def _print_ratings(rows: Sequence[JudgementRow], mode: JudgeMode) -> None:
    lines = judge_results.summarize_ratings(rows, mode)
    table = Table(title=f"Ratings of mode {mode}, 1 to 10 (95 % interval over prompts)")
    table.add_column("system", overflow="fold")
    table.add_column("aspect")
    for name in ("mean", "prompts", "missing"):
        table.add_column(name, justify="right")
    for line in lines:
        missing = f"{line.missing} of {line.requested}"
        prompts = str(0 if line.interval is None else line.interval.n)
        table.add_row(
            escape(line.system), line.aspect, _format_interval(line.interval), prompts, missing
        )
    console.print(table)
    if mode == "authors":
        print_line(f"[yellow]{RETIRED_NOTE}[/yellow]")
        incomplete = {escape(line.system): line.incomplete for line in lines if line.incomplete}
        listed = ", ".join(f"{count} of {name}" for name, count in incomplete.items())
        print_line(
            f"{judge_results.AUTHORS_OVERALL} is computed as they did: a failed answer was a score "
            "of 0, which was dropped, and the other aspects count for the whole score. Rated "
            f"videos without an answer in an aspect: {listed or 'none'}."
        )
    elif len({line.system for line in lines}) > 1:
        print_line(
            "Means are over the same prompts for all systems with any rating: those that each of "
            "them has. Missing counts a system's own answers."
        )


def _print_differences(lines: Sequence[judge_results.RatingDifference]) -> None:
    table = Table(title="Differences of ratings, prompt by prompt (95 % interval)")
    table.add_column("systems", overflow="fold")
    table.add_column("aspect")
    for name in ("mean", "prompts"):
        table.add_column(name, justify="right")
    for line in lines:
        prompts = str(0 if line.interval is None else line.interval.n)
        systems = escape(f"{line.system} − {line.other}")
        table.add_row(systems, line.aspect, _format_interval(line.interval), prompts)
    console.print(table)


def _print_controls(lines: Sequence[judge_results.ControlSummary]) -> None:
    if not lines:
        return
    table = Table(
        title="Negative controls of the judge: corrupted videos rated below their originals"
    )
    for name in ("control", "aspect", "share"):
        table.add_column(name, no_wrap=True)
    for name in ("below", "tied", "above", "at floor", "missing"):
        table.add_column(name, justify="right")
    for line in lines:
        counts = (str(n) for n in (line.below, line.tied, line.above, line.at_floor, line.missing))
        table.add_row(line.control, line.aspect, _format_interval(line.share), *counts)
    console.print(table)


def _print_pairs(comparisons: Sequence[PairwiseRow]) -> None:
    lines = judge_results.summarize_pairs(comparisons)
    table = Table(title="Win rates, each comparison in both orders")
    table.add_column("aspect", no_wrap=True)
    table.add_column("left", overflow="fold")
    table.add_column("right", overflow="fold")
    table.add_column("left wins", no_wrap=True)
    for name in ("comparisons", "same in both", "missing", "first"):
        table.add_column(name, justify="right")
    for line in lines:
        counts = (str(n) for n in (line.compared, line.consistent, line.missing))
        table.add_row(
            line.aspect,
            escape(line.left),
            escape(line.right),
            _format_interval(line.win_rate),
            *counts,
            _format_number(line.first_position_share),
        )
    console.print(table)
    console.print("first: how often the video shown first wins; 0.5 without position bias.")
    for note in (*judge_bias_notes(comparisons), *position_bias_notes(lines)):
        console.print(escape(note), style="red")


def _print_strengths(lines: Sequence[BradleyTerryStrength]) -> None:
    table = Table(title="Bradley-Terry strengths (log, mean zero)")
    table.add_column("aspect")
    table.add_column("system", overflow="fold")
    table.add_column("strength", justify="right")
    table.add_column("interval", justify="right")
    for line in lines:
        known = line.low is not None and line.high is not None
        bounds = f"{line.low:.2f} to {line.high:.2f}" if known else "-"
        table.add_row(line.aspect, escape(line.system), _format_number(line.strength), bounds)
    console.print(table)
    disconnected = sorted({line.aspect for line in lines if line.strength is None})
    if disconnected:
        console.print(f"{DISCONNECTED_NOTE}: {', '.join(disconnected)}.", style="yellow")


def _format_interval(interval: ConfidenceInterval | None) -> str:
    if interval is None:
        return "-"
    return f"{interval.mean:.2f} ({interval.low:.2f} to {interval.high:.2f})"


def _format_bounded(value: float | None, bounds: tuple[float, float] | None) -> str:
    if value is None or bounds is None:
        return _format_number(value)
    return f"{value:.2f} ({bounds[0]:.2f} to {bounds[1]:.2f})"


def _format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _format_estimate(takes: CostEstimate) -> tuple[str, ...]:
    dollars = ("?" if usd is None else f"{usd:,.2f}" for usd in (takes.cost_usd, takes.max_usd))
    return (
        f"{takes.requests:,}",
        f"{takes.input_tokens:,}",
        f"{takes.output_tokens:,}",
        *dollars,
    )
