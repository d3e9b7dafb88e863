"""``mimix bench characters``: score each asked-for character of a system's videos."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows import prefect_environment
from flows.console import SettingsArgument, WorkspaceOption, console, load_settings, user_errors
from mimix_core.errors import BadInput


def characters(
    settings: SettingsArgument,
    system: Annotated[
        str, typer.Option(help="A system as NAME=FOLDER with its videos <prompt id>.mp4.")
    ],
    prompts: Annotated[Path, typer.Option(help="Prompt file (YAML).")],
    out: Annotated[Path, typer.Option(help="Table of scores to write (Parquet).")],
    workspace: WorkspaceOption = None,
) -> None:
    """Score each asked-for character of a system's videos, whoever made them.

    It is compared with the project's clips and cutouts, which must be there already; see
    docs/character-scores.md.
    """
    with user_errors():
        prefect_environment.configure_prefect()
        from flows.augment import augment_stages
        from flows.curate import curate_stages
        from mimix_core import tables
        from mimix_core.benchmark.characters.character_scores_stage import STAGE
        from mimix_core.benchmark.judge.judge_inputs import load_system_videos
        from mimix_core.benchmark.systems import parse_system
        from mimix_core.domain.prompts import load_prompts
        from mimix_core.engine import progress
        from mimix_core.engine.atomic_io import atomic_write_bytes
        from mimix_core.engine.stage import run_stage
        from mimix_core.project.workspace import open_workspace
        from tasks.cached_run import ReadOnlyRun
        from tasks.character_scores import build_character_score_inputs

        config = load_settings(settings, workspace)
        if config.character_scores.backend == "none":
            raise BadInput(
                "character_scores.backend is none",
                where=str(settings),
                fix="Set it to efficientnet-lite0, or to dinov2 with weights.",
            )
        opened = open_workspace(config)
        roster = [character.name for character in opened.library.characters()]
        asked = load_prompts(prompts, roster)
        run = ReadOnlyRun(opened)
        curated = curate_stages(run)
        augmented = augment_stages(run, curated)
        inputs = build_character_score_inputs(
            opened,
            asked,
            load_system_videos(parse_system(system), asked, opened.store.source_ref),
            curated.clips,
            augmented.cutouts,
        )
        with console.status("Scoring") as status:

            def on_progress(done: int, total: int, note: str) -> None:
                status.update(f"Scoring {escape(note) or 'done'} ({done} of {total})")

            with progress.progress_listener(on_progress):
                ref = run_stage(opened.store, STAGE, inputs, config.character_scores).ref
        atomic_write_bytes(out, ref.path.read_bytes())
        rows = tables.read(ref.path, tables.CHARACTER_SCORES)
    counts = Counter((row["character"], row["identity"] or str(row["reason"])) for row in rows)
    states = sorted({state for _, state in counts})
    table = Table("character", *states)
    for name in sorted({name for name, _ in counts}):
        table.add_row(escape(name), *(str(counts[name, state]) for state in states))
    console.print(table)
    console.print(f"{len(rows)} characters: {escape(str(out))}", highlight=False, soft_wrap=True)


def register(app: typer.Typer) -> None:
    """Add the command to ``mimix bench``."""
    app.command()(characters)
