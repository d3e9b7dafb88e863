"""``mimix dataset``: export the dataset for other programs, and import clips of others."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows import prefect_environment
from flows.console import SettingsArgument, WorkspaceOption, console, load_settings, user_errors
from flows.dataset_import_cli import import_dataset
from mimix_core.domain.splits import Split
from mimix_core.engine.folder_export import FileTransfer, check_export_folder
from mimix_core.stages.dataset.dataset_export import export_dataset
from mimix_core.stages.dataset.trainer_layouts import ExportFormat, SampleKind

app = typer.Typer(
    name="dataset",
    help="Exchange the dataset with other programs.",
    no_args_is_help=True,
)


app.command("import")(import_dataset)


@app.command()
def export(
    export_format: Annotated[
        ExportFormat, typer.Argument(metavar="FORMAT", help="Program that will read the folder.")
    ],
    settings: SettingsArgument,
    folder: Annotated[Path, typer.Argument(help="Folder to write: a new or an empty one.")],
    split: Annotated[
        list[Split] | None, typer.Option(help="Split to export; repeatable. Default: all.")
    ] = None,
    kind: Annotated[
        list[SampleKind] | None,
        typer.Option(help="Kind of samples to export; repeatable. Default: both."),
    ] = None,
    videos: Annotated[
        FileTransfer,
        typer.Option(help="copy, or hard links to the store: no space, but the same disk."),
    ] = FileTransfer.COPY,
    workspace: WorkspaceOption = None,
) -> None:
    """Write videos and captions of the dataset as another trainer reads them."""
    with user_errors():
        check_export_folder(folder)
        prefect_environment.configure_prefect()
        config = load_settings(settings, workspace)
        from flows.augment import augment_stages
        from flows.curate import curate_stages
        from mimix_core.project.workspace import open_workspace
        from tasks.cached_run import ReadOnlyRun

        run = ReadOnlyRun(open_workspace(config))
        manifest = augment_stages(run, curate_stages(run)).dataset
        made = export_dataset(
            manifest,
            run.workspace.store.root,
            folder,
            export_format=export_format,
            transfer=videos,
            splits=split or list(Split),
            kinds=kind or list(SampleKind),
        )
    for (name, kind_name), count in sorted(made.counts.items()):
        console.print(f"  {name:<6} {kind_name:<10} {count}", highlight=False)
    console.print(
        f"{made.videos} videos ({made.size / 1e9:.1f} GB) for {export_format} in {folder}; "
        "README.md there says how to start",
        highlight=False,
        soft_wrap=True,
    )
