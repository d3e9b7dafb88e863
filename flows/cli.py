"""The command line: the same flows as the deployments run, in this process, no server needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from flows import (
    bench_cli,
    captions_cli,
    deploy_cli,
    lora_cli,
    prefect_environment,
    review_cli,
    watch_cli,
)
from flows.console import (
    BAD_INPUT,
    FAILED,
    SettingsArgument,
    WorkspaceOption,
    console,
    load_settings,
    user_errors,
)
from mimix_core import __version__
from mimix_core.diagnostics.doctor import run_checks
from mimix_core.diagnostics.model_requirements import required_models
from mimix_core.errors import BadInput
from mimix_core.project.templates import write_project_templates
from mimix_core.settings import Config, load_config

app = typer.Typer(
    name="mimix",
    help="Character-mixing video generation: curate, augment, train, generate, score.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(captions_cli.app)
app.add_typer(lora_cli.app)
app.add_typer(bench_cli.app)
app.command()(deploy_cli.deploy)
app.command()(watch_cli.watch)
app.command()(review_cli.review)


def _run_flow(settings: Path, workspace: Path | None, flow_name: str) -> None:
    with user_errors():
        config = load_settings(settings, workspace)
        problems = [need for need in required_models(config, flow_name) if not need.available]
        if problems:
            raise BadInput("\n".join(need.describe_missing() for need in problems))
        prefect_environment.configure_prefect()
        with console.status("Starting Prefect"):
            from flows.shutdown import install_signal_handlers, start_ephemeral_server

            flow = _import_flow(flow_name)
            install_signal_handlers()
            start_ephemeral_server()
        console.print(f"[bold]{flow_name}[/bold] with {settings}", highlight=False)
        summary = flow(config)
    if summary.computed == 0:
        console.print("Nothing to compute: every stage was cached.")
    page = config.workspace / "report" / "index.html"
    if flow_name == "mimix":
        console.print(f"Report: {page}", highlight=False, soft_wrap=True)


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
    """Everything: curate, augment, train, generate, score, report."""
    _run_flow(settings, workspace, "mimix")


@app.command()
def curate(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """Episodes -> scenes, overlays, clips, transcripts, captions."""
    _run_flow(settings, workspace, "curate")


@app.command()
def augment(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """... -> cutouts, composites, dataset."""
    _run_flow(settings, workspace, "augment")


@app.command()
def train(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """... -> latents, embeddings, LoRA."""
    _run_flow(settings, workspace, "train")


@app.command()
def generate(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """... -> videos of the prompts."""
    _run_flow(settings, workspace, "generate")


@app.command()
def score(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """... -> scores."""
    _run_flow(settings, workspace, "benchmark")


@app.command()
def report(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """The report; computes only what is not there yet."""
    _run_flow(settings, workspace, "mimix")


@app.command()
def models(settings: SettingsArgument) -> None:
    """Each model the settings need, where it was looked for, and how to get it."""
    with user_errors():
        config = load_config(settings)
    table = Table("model", "for", "state", "where", "how to get it")
    needs = required_models(config, "mimix")
    for need in needs:
        state = "[green]found[/green]" if need.available else "[red]missing[/red]"
        table.add_row(need.name, need.stage, state, need.location, "" if need.available else need.fix)
    console.print(table)
    if any(not need.available for need in needs):
        raise typer.Exit(BAD_INPUT)


@app.command()
def doctor(
    settings: Annotated[Path | None, typer.Argument(help="Check against these settings.")] = None,
) -> None:
    """What this machine can and cannot run, and how to mend it."""
    config: Config | None = None
    with user_errors():
        if settings is not None:
            config = load_config(settings)
    table = Table("check", "state", "found", "how to mend it")
    colours = {"ok": "green", "limited": "yellow", "no": "red"}
    checks = run_checks(config)
    for check in checks:
        table.add_row(
            check.name, f"[{colours[check.state]}]{check.state}[/]", check.finding, check.fix
        )
    console.print(table)
    if any(check.state == "no" for check in checks):
        raise typer.Exit(FAILED)


@app.command()
def ingest(
    settings: SettingsArgument,
    sources: Annotated[list[str], typer.Argument(help="Video files, globs or folders.")],
    show: Annotated[str, typer.Option(help="The id of the show they are episodes of.")],
    move: Annotated[bool, typer.Option("--move", help="Move them instead of copying.")] = False,
    link: Annotated[bool, typer.Option("--link", help="Link to them where they lie.")] = False,
    rename: Annotated[
        bool, typer.Option("--rename", help="Give a new name where the name is taken.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
) -> None:
    """Take new episodes into a show's folder: whole, once, and only videos."""
    from mimix_core.inbox import Arrival, How, Outcome
    from mimix_core.inbox import ingest as take

    colours = {
        Outcome.TAKEN: "green",
        Outcome.KNOWN: "default",
        Outcome.BUSY: "yellow",
        Outcome.REFUSED: "red",
    }

    def say(arrival: Arrival) -> None:
        colour = colours[arrival.outcome]
        line = (
            f"{arrival.path.name!r}" if not arrival.path.name.isprintable() else arrival.path.name
        )
        said = f"  [{colour}]{arrival.outcome:<8}[/] {escape(f'{line}  {arrival.detail}'.rstrip())}"
        console.print(said, highlight=False, soft_wrap=True)

    with user_errors():
        if move and link:
            raise BadInput("--move and --link exclude each other", fix="Give one of them.")
        how = How.MOVE if move else How.LINK if link else How.COPY
        arrivals = take(
            load_config(settings), show, sources, how=how, rename=rename, dry_run=dry_run, hear=say
        )
    counts = [
        f"{sum(a.outcome is outcome for a in arrivals)} {outcome.value}" for outcome in Outcome
    ]
    console.print(f"{show}: {', '.join(counts)}" + (" (dry run)" if dry_run else ""))
    if any(arrival.outcome in (Outcome.BUSY, Outcome.REFUSED) for arrival in arrivals):
        raise typer.Exit(FAILED)


@app.command()
def quarantine(settings: SettingsArgument, workspace: WorkspaceOption = None) -> None:
    """Episodes that could not be read, and why."""
    with user_errors():
        _, found = _load_quarantine(settings, workspace)
    table = Table("episode", "stage", "rows", "reason", "detail", "file")
    for one in found:
        table.add_row(
            *(
                escape(cell)
                for cell in (
                    one.unit,
                    one.stage,
                    str(one.rows),
                    one.reason,
                    one.detail,
                    str(one.file),
                )
            )
        )
    if found:
        console.print(table)
        console.print(f"mimix retry {settings} tries them again.", highlight=False, soft_wrap=True)
    else:
        console.print("No episode is in quarantine.")


@app.command()
def retry(
    settings: SettingsArgument,
    units: Annotated[list[str] | None, typer.Argument(help="Episodes; none: all.")] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Forget why quarantined episodes failed, so that the next run tries them again."""
    from mimix_core.project import quarantine as hospital

    with user_errors():
        store, found = _load_quarantine(settings, workspace)
        dropped = hospital.release_units(store, found, units or [])
    for one in dropped:
        console.print(f"  {escape(one.unit)}: {one.stage} will run again", highlight=False)
    console.print(f"{len(dropped)} results dropped.")


def _load_quarantine(settings: Path, workspace: Path | None) -> tuple[Any, list[Any]]:
    from mimix_core.project.quarantine import quarantined_units
    from mimix_core.project.workspace import open_workspace

    opened = open_workspace(load_settings(settings, workspace))
    return opened.store, quarantined_units(opened.store, opened.episodes)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> None:
    """Write a library.yaml and a mimix.yaml to start from."""
    with user_errors():
        written = write_project_templates(folder)
    for path in written:
        console.print(f"wrote {path}", highlight=False)
    console.print(f"Edit them, then: mimix run {folder / 'mimix.yaml'}", highlight=False)


@app.command()
def version() -> None:
    """The version of MiMix."""
    console.print(__version__)


if __name__ == "__main__":
    app()
