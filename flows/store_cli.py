"""``mimix store``: check the results in the store, and remove those that are not used any more."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from flows import prefect_environment
from flows.console import (
    FAILED,
    SettingsArgument,
    WorkspaceOption,
    console,
    load_settings,
    user_errors,
)
from mimix_core.engine.store_check import Damage, find_changed_sources, find_damaged_results
from mimix_core.errors import BadInput
from mimix_core.project.workspace import Workspace, open_workspace

if TYPE_CHECKING:
    from tasks.base import Run

app = typer.Typer(
    name="store",
    help="Check stored results, and remove those that are not used any more.",
    no_args_is_help=True,
)


@app.command()
def verify(
    settings: SettingsArgument,
    workspace: WorkspaceOption = None,
    discard: Annotated[
        bool,
        typer.Option("--discard", help="Remove damaged results; the next run computes them again."),
    ] = False,
) -> None:
    """Read every file of every result and compare it with the digest it was stored with.

    Finds what size and time of a file do not show: a disk that returns other bytes. Source files
    of the library and of the model folder are compared with the digest of their first reading. The
    exit code is 1 if anything is damaged.
    """
    with user_errors():
        opened = open_workspace(load_settings(settings, workspace))
        checked: Counter[str] = Counter()
        damages: list[Damage] = []
        with console.status("Reading the store") as status:

            def on_result(stage: str, unit: str) -> None:
                checked[stage] += 1
                status.update(f"Reading {escape(f'{stage} {unit}')}")

            for damage in find_damaged_results(opened.store, on_result):
                damages.append(damage)
                _print_damage(damage)
            for damage in find_changed_sources(opened.store, _sources(opened)):
                damages.append(damage)
                _print_damage(damage)
        results = {(d.stage, d.key) for d in damages if d.key}
        if discard:
            for stage, key in sorted(results):
                opened.store.discard(stage, key)
    _print(
        f"{sum(checked.values())} results read: {len(results)} damaged"
        + (", removed: the next run computes them again" if results and discard else "")
    )
    if results and not discard:
        _print(f"mimix store verify {settings} --discard removes them; the next run repairs that.")
    if any(not damage.key for damage in damages):
        _print("Source files cannot be computed again: restore them from a backup.")
    if damages:
        raise typer.Exit(FAILED)


@app.command()
def prune(
    settings: Annotated[
        list[Path], typer.Argument(help="All settings files that use this workspace.")
    ],
    workspace: WorkspaceOption = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Remove the results; without it they are only listed.")
    ] = False,
) -> None:
    """List the results that no run with these settings uses any more, or remove them.

    Name every settings file whose runs share the workspace. A stage is judged only when all its
    units have results with these settings; results of other stages stay.
    """
    with user_errors():
        prefect_environment.configure_prefect()
        from tasks.used_results import find_unused_results

        configs = [load_settings(path, workspace) for path in settings]
        folders = {config.workspace for config in configs}
        if len(folders) > 1:
            raise BadInput(
                f"the settings have different workspaces: {', '.join(map(str, sorted(folders)))}",
                fix="Name only settings files that share one workspace.",
            )
        [folder] = folders
        opened = [open_workspace(config) for config in configs]
        unused = find_unused_results(opened, _walk_stages, folder / "report")
        removed = 0
        for result in unused.results:
            _print(
                f"  {result.stage} {result.unit} ({result.key[:12]}): {result.reason}, "
                f"{result.size / 1e6:,.1f} MB"
            )
            if delete:
                removed += opened[0].store.discard(result.stage, result.key)
    total = sum(result.size for result in unused.results)
    if unused.undecided:
        _print(f"Not judged: {', '.join(unused.undecided)}. {unused.reason}".strip())
    if delete:
        _print(f"{removed} results removed, {total / 1e6:,.1f} MB.")
    else:
        _print(
            f"{len(unused.results)} unused results, {total / 1e6:,.1f} MB. Nothing was removed: "
            "--delete removes them."
        )


def _walk_stages(run: Run) -> None:
    """Look up every stage of the flows except the report, which a link refers to."""
    from flows.augment import augment_stages
    from flows.curate import curate_stages
    from flows.train import train_stages
    from tasks.character_scores import score_characters_of_samples
    from tasks.evaluation import generate_samples, score_samples
    from tasks.judgements import judge_samples

    curated = curate_stages(run)
    trained = train_stages(run, curated, augment_stages(run, curated))
    samples = generate_samples(run, trained.backbone, trained.lora, trained.layout_sources)
    score_samples(run, samples, curated.clips)
    score_characters_of_samples(run, samples, trained.layout_sources)
    judge_samples(run, samples)


def _sources(workspace: Workspace) -> list[tuple[str, Path]]:
    """List the files of the library and of the model folder."""
    model = workspace.config.backbone.path
    members = sorted(model.rglob("*")) if model is not None else []
    return [("backbone", path.resolve()) for path in members if path.is_file()] + [
        (episode.name, file.path)
        for episode in workspace.episodes
        for file in (
            episode.video,
            episode.subtitles,
            episode.script,
            episode.boxes,
            episode.masks,
        )
        if file is not None
    ]


def _print_damage(damage: Damage) -> None:
    _print(f"  {damage.stage} {damage.unit}: {damage.file} {damage.problem}")


def _print(line: str) -> None:
    console.print(escape(line), highlight=False, soft_wrap=True)
