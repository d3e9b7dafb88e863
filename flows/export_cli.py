"""``mimix export``: hand clips, composites and generated videos to another annotation tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from flows import prefect_environment
from flows.console import (
    SettingsArgument,
    WorkspaceOption,
    load_settings,
    print_line,
    user_errors,
)
from mimix_core.engine.folder_export import (
    ExportedFile,
    FileTransfer,
    check_export_folder,
    export_folder,
)
from mimix_core.errors import BadInput
from mimix_core.studio.tool_layouts import ToolFormat, tool_files
from mimix_core.studio.tool_samples import collect_samples


def export(
    tool: Annotated[
        ToolFormat, typer.Argument(metavar="TOOL", help="Tool that will import the folder.")
    ],
    settings: SettingsArgument,
    folder: Annotated[Path, typer.Argument(help="Folder to write: a new or an empty one.")],
    videos: Annotated[
        FileTransfer,
        typer.Option(help="copy, or hard links to the store: no space, but the same disk."),
    ] = FileTransfer.COPY,
    workspace: WorkspaceOption = None,
) -> None:
    """Write all videos with captions, tags, measures and boxes as another tool imports them."""
    with user_errors():
        check_export_folder(folder)
        prefect_environment.configure_prefect()
        config = load_settings(settings, workspace)
        from flows.studio_tables import collect_newest
        from mimix_core.project.workspace import open_workspace
        from mimix_core.studio.studio_items import ItemReader

        opened = open_workspace(config)
        root = opened.store.root.resolve()
        refs, _ = collect_newest(opened)
        reader = ItemReader(root, refs, frame_rate=config.clips.frame_rate)
        samples = collect_samples(reader.items(), root)
        if not samples:
            raise BadInput(
                "there are no videos yet",
                where=str(config.workspace),
                fix=f"Run them first: mimix curate {settings}",
            )
        folder = folder.absolute()
        files = {sample.file: ExportedFile(sample.video, sample.sha256) for sample in samples}
        size = export_folder(folder, tool, files, tool_files(tool, samples, folder), videos)
    print_line(
        f"{len(samples)} videos ({size / 1e9:.1f} GB) for {tool} in {escape(str(folder))}; "
        "README.md there says how to import them"
    )
