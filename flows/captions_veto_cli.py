"""``mimix captions veto``: leave clips or composites out, and take them back."""

from __future__ import annotations

from typing import Annotated

import typer

from flows.caption_results import open_caption_run, require_overrides_file, rows_before_import
from flows.composite_captions import load_composite_captions
from flows.console import SettingsArgument, WorkspaceOption, console, user_errors
from mimix_core.errors import BadInput
from mimix_core.stages.captions.overrides import read_overrides, write_overrides


def veto(
    settings: SettingsArgument,
    ids: Annotated[list[str], typer.Argument(help="Ids of clips or composites.")],
    undo: Annotated[bool, typer.Option("--undo", help="Take them back.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Leave clips or composites out of the dataset; the next run replaces a composite.

    The decision is an empty caption in the file that `captions.overrides` names.
    """
    with user_errors():
        run = open_caption_run(settings, workspace)
        path = require_overrides_file(run, settings)
        existing = read_overrides(path) if path.is_file() else {}
        if undo:
            unknown = [name for name in ids if existing.get(name) != ""]
            problem, fix = "not left out by hand", f"See {path} for those that are"
        else:
            known = {*rows_before_import(run), *load_composite_captions(run).captions, *existing}
            unknown = [name for name in ids if name not in known]
            problem, fix = "no such clip or composite", "`mimix captions export` lists the ids"
        if unknown:
            raise BadInput(f"{problem}: {', '.join(unknown)}", where="ids", fix=fix)
        if undo:
            remaining = {name: text for name, text in existing.items() if name not in ids}
        else:
            remaining = existing | dict.fromkeys(ids, "")
        write_overrides(path, remaining)
    what = "taken back" if undo else "left out"
    console.print(f"{len(ids)} {what}; see {path}", highlight=False, soft_wrap=True)
