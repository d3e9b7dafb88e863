"""The command line ``mimix``: run the flows in this process, without a Prefect server."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows import (
    bench_cli,
    captions_cli,
    captions_retry_cli,
    captions_veto_cli,
    characters_cli,
    dataset_cli,
    decisions_cli,
    deploy_cli,
    export_cli,
    locate_cli,
    lora_cli,
    plan_cli,
    prefect_environment,
    reasons_cli,
    review_cli,
    settings_cli,
    stages_cli,
    store_cli,
    studio_cli,
    watch_cli,
    why_cli,
    worker_cli,
)
from flows.console import (
    BAD_INPUT,
    FAILED,
    SettingsArgument,
    WorkspaceOption,
    console,
    load_settings,
    make_table,
    print_line,
    user_errors,
)
from flows.run_results import describe_failure, print_results
from mimix_core import __version__
from mimix_core.diagnostics.doctor import drop_repeated, run_checks
from mimix_core.diagnostics.model_requirements import required_models
from mimix_core.diagnostics.preflight import check_before_run
from mimix_core.diagnostics.trial_request import run_trial_requests
from mimix_core.errors import BadInput
from mimix_core.project.templates import write_project_templates
from mimix_core.settings import Config, load_config

if TYPE_CHECKING:
    from mimix_core.engine.store import Store
    from mimix_core.project.quarantine import QuarantinedUnit

app = typer.Typer(
    name="mimix",
    help="Character-mixing video generation: curate, augment, train, generate, score.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
captions_cli.app.command("retry")(captions_retry_cli.retry)
captions_cli.app.command("veto")(captions_veto_cli.veto)
app.add_typer(captions_cli.app)
app.add_typer(dataset_cli.app)
app.add_typer(characters_cli.app)
app.add_typer(decisions_cli.app)
app.add_typer(locate_cli.app)
app.add_typer(lora_cli.app)
app.add_typer(bench_cli.app)
app.add_typer(store_cli.app)
app.command()(deploy_cli.deploy)
app.command()(watch_cli.watch)
app.command()(worker_cli.worker)
app.command()(review_cli.review)
app.command()(stages_cli.stages)
app.command()(reasons_cli.reasons)
app.command()(settings_cli.settings)
app.command()(studio_cli.studio)
app.command()(export_cli.export)
app.command()(plan_cli.plan)
app.command()(why_cli.why)


def _run_flow(settings: Path, workspace: Path | None, flow_name: str) -> None:
    with user_errors():
        config = load_settings(settings, workspace)
        check_before_run(config, flow_name)
        prefect_environment.configure_prefect()
        with console.status("Starting Prefect"):
            from flows.shutdown import install_signal_handlers, start_ephemeral_server

            flow = _import_flow(flow_name)
            install_signal_handlers()
            start_ephemeral_server()
        console.print(f"[bold]{flow_name}[/bold] with {escape(str(settings))}", highlight=False)
        summary = flow(config)
    if summary.computed == 0:
        console.print("Nothing to compute: every stage was cached.")
    print_results(settings, summary)
    if summary.rows_with_reasons:
        print_line(f"Why rows were left out: mimix why {shlex.quote(str(settings))} \\[STAGE]")
    page = config.workspace / "report" / "index.html"
    if flow_name == "mimix":
        print_line(f"Report: {escape(str(page))}")
    else:
        print_line(f"Report of the results so far: mimix report {shlex.quote(str(settings))}")
    if summary.mostly_failed:
        for totals in summary.mostly_failed:
            print_line(describe_failure(totals))
        raise typer.Exit(FAILED)


def _import_flow(name: str) -> Any:
    if name == "mimix":
        from flows.mimix import mimix

        return mimix
    if name == "curate":
        from flows.curate import curate

        return curate
    if name == "augment":
        from flows.augment import augment

        return augment
    if name == "train":
        from flows.train import train

        return train
    from flows import benchmark

    return getattr(benchmark, name)


@app.command()
def run(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """Run the complete pipeline: curate, augment, train, generate, score, report."""
    _run_flow(settings, workspace, "mimix")


@app.command()
def curate(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """Turn episodes into captioned clips: scenes, overlays, clips, transcripts, captions."""
    _run_flow(settings, workspace, "curate")


@app.command()
def augment(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """Run everything up to the training set, including cutouts, composites and dataset."""
    _run_flow(settings, workspace, "augment")


@app.command()
def train(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """Run everything up to the LoRA, including latents, embeddings and training."""
    _run_flow(settings, workspace, "train")


@app.command()
def generate(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """Run everything up to the generated videos of the prompts."""
    _run_flow(settings, workspace, "generate")


@app.command()
def score(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """Run everything up to the scores of the generated videos."""
    _run_flow(settings, workspace, "benchmark")


@app.command()
def report(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """Write the report of the stages that have run so far; nothing else is computed."""
    with user_errors():
        prefect_environment.configure_prefect()
        from flows.cached_results import collect_cached_results
        from tasks.report import write_report_so_far

        results = collect_cached_results(settings, workspace)
        if not results.run.refs:
            raise results.stopped_at or BadInput("no results")
        page = write_report_so_far(results.run, **results.report_tables())
    if results.stopped_at is not None:
        print_line(f"Later stages have not run: {escape(str(results.stopped_at))}")
    print_line(f"Report: {escape(str(page))}")


@app.command()
def models(settings: SettingsArgument) -> None:
    """List the models that the settings require, where they were looked up, and how to get them."""
    with user_errors():
        config = load_config(settings)
    table = make_table("model", "stage", "state", "location", "how to get it")
    models_needed = required_models(config, "mimix")
    for model in models_needed:
        state = "[green]found[/green]" if model.available else "[red]missing[/red]"
        fix = "" if model.available else model.fix
        table.add_row(model.name, model.stage, state, escape(model.location), escape(fix))
    console.print(table)
    if any(not model.available for model in models_needed):
        raise typer.Exit(BAD_INPUT)


@app.command()
def doctor(
    settings: Annotated[Path | None, typer.Argument(help="Settings file to check as well.")] = None,
    ask: Annotated[
        bool,
        typer.Option("--ask", help="Send one trial request to each vision-language model, paid."),
    ] = False,
) -> None:
    """Check what this machine can run, and how to fix what it cannot."""
    config: Config | None = None
    with user_errors():
        if settings is not None:
            config = load_config(settings)
    table = make_table("check", "state", "finding", "how to fix it")
    colors = {"ok": "green", "limited": "yellow", "no": "red"}
    checks = run_checks(config)
    if ask:
        with user_errors():
            if config is None:
                raise BadInput("--ask needs a settings file", fix="mimix doctor mimix.yaml --ask")
            checks += run_trial_requests(config)
    if config is not None:
        prefect_environment.configure_prefect()
        from flows.library_checks import check_library

        checks += check_library(config)
    checks = drop_repeated(checks)
    for check in checks:
        table.add_row(
            check.name,
            f"[{colors[check.state]}]{check.state}[/]",
            escape(check.finding),
            escape(check.fix),
        )
    console.print(table)
    failed = [check for check in checks if check.state == "no"]
    # Once more in whole lines: the table breaks paths and commands where the terminal is narrow.
    for check in failed:
        if check.fix:
            print_line(f"[red]{check.name}[/red]: {escape(check.fix)}")
    if failed:
        raise typer.Exit(FAILED)


@app.command()
def ingest(
    settings: SettingsArgument,
    sources: Annotated[
        list[str], typer.Argument(help="Video files, glob patterns or folders to ingest.")
    ],
    show: Annotated[str, typer.Option(help="Id of the show that the episodes belong to.")],
    move: Annotated[
        bool, typer.Option("--move", help="Move the files instead of copying them.")
    ] = False,
    link: Annotated[
        bool, typer.Option("--link", help="Create symbolic links instead of copies.")
    ] = False,
    rename: Annotated[
        bool, typer.Option("--rename", help="Choose a new file name if the name is taken.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done without doing it.")
    ] = False,
) -> None:
    """Add new episodes to a show's folder: only complete videos, and each only once."""
    from mimix_core.inbox import IngestOutcome, IngestResult, TransferMode
    from mimix_core.inbox import ingest as ingest_files

    colors = {
        IngestOutcome.ADDED: "green",
        IngestOutcome.DUPLICATE: "default",
        IngestOutcome.INCOMPLETE: "yellow",
        IngestOutcome.REJECTED: "red",
    }

    def print_arrival(arrival: IngestResult) -> None:
        color = colors[arrival.outcome]
        text = escape(f"{arrival.path.name}  {arrival.detail}".rstrip())
        line = f"  [{color}]{arrival.outcome:<10}[/] {text}"
        console.print(line, highlight=False, soft_wrap=True)

    with user_errors():
        if move and link:
            raise BadInput("--move and --link exclude each other", fix="Use only one of them.")
        how = TransferMode.MOVE if move else TransferMode.LINK if link else TransferMode.COPY
        arrivals = ingest_files(
            load_config(settings),
            show,
            sources,
            mode=how,
            rename=rename,
            dry_run=dry_run,
            on_result=print_arrival,
        )
    counts = [
        f"{sum(a.outcome is outcome for a in arrivals)} {outcome.value}"
        for outcome in IngestOutcome
    ]
    console.print(f"{escape(show)}: {', '.join(counts)}" + (" (dry run)" if dry_run else ""))
    not_ingested = (IngestOutcome.INCOMPLETE, IngestOutcome.REJECTED)
    if any(arrival.outcome in not_ingested for arrival in arrivals):
        raise typer.Exit(FAILED)


@app.command()
def quarantine(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """List the episodes that could not be read, with the reasons."""
    with user_errors():
        _, quarantined = _load_quarantine(settings, workspace)
    table = make_table("episode", "stage", "rows", "reason", "detail", "file")
    for unit in quarantined:
        cells = (unit.unit, unit.stage, str(unit.rows), unit.reason, unit.detail, str(unit.file))
        table.add_row(*map(escape, cells))
    if quarantined:
        console.print(table)
        console.print(
            f"Run mimix retry {escape(str(settings))} to try them again.",
            highlight=False,
            soft_wrap=True,
        )
    else:
        console.print("No episode is in quarantine.")


@app.command()
def retry(
    settings: SettingsArgument,
    units: Annotated[
        list[str] | None, typer.Argument(help="Episodes to try again. Default: all.")
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Release episodes from quarantine; the next run tries them again."""
    from mimix_core.project.quarantine import release_units

    with user_errors():
        store, quarantined = _load_quarantine(settings, workspace)
        released = release_units(store, quarantined, units or [])
    for unit in released:
        console.print(f"  {escape(unit.unit)}: {unit.stage} will run again", highlight=False)
    console.print(f"{len(released)} results released.")


def _load_quarantine(settings: Path, workspace: Path | None) -> tuple[Store, list[QuarantinedUnit]]:
    from mimix_core.project.quarantine import find_quarantined_units
    from mimix_core.project.workspace import open_workspace

    opened = open_workspace(load_settings(settings, workspace))
    return opened.store, find_quarantined_units(opened.store, opened.episodes)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="New or empty folder.")]) -> None:
    """Create a project: templates of library.yaml, mimix.yaml, prompts.yaml and few-steps.yaml."""
    with user_errors():
        written = write_project_templates(folder)
    for path in written:
        console.print(f"wrote {escape(str(path))}", highlight=False, soft_wrap=True)
    settings = escape(str(folder / "mimix.yaml"))
    print_line(f"Edit them, then see what is missing: mimix doctor {settings}")


@app.command()
def version() -> None:
    """Print the version of MiMix."""
    console.print(__version__)


if __name__ == "__main__":
    app()
