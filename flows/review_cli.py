"""``mimix review``: show the dataset that waits for approval, and approve or reject it."""

from __future__ import annotations

from typing import Annotated

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
from mimix_core.errors import BadInput
from mimix_core.project.dataset_review import (
    DatasetDecision,
    current_user,
    load_decisions,
    save_decision,
)
from mimix_core.project.workspace import open_workspace


def review(
    settings: SettingsArgument,
    workspace: WorkspaceOption = None,
    approve: Annotated[
        bool, typer.Option("--approve", help="Approve this dataset for training.")
    ] = False,
    reject: Annotated[bool, typer.Option("--reject", help="Reject this dataset.")] = False,
    note: Annotated[str, typer.Option(help="Reason for the decision, saved with it.")] = "",
    reviewer: Annotated[
        str, typer.Option(help="Who decides, saved with the decision. Default: your user name.")
    ] = "",
) -> None:
    """Show the dataset of these settings and the decision on it, or record a decision.

    All decisions on it are listed, and the last one counts. The exit
    code is 0 if the dataset is approved, 1 if it is rejected or not decided yet.
    """
    with user_errors():
        if approve and reject:
            raise BadInput("--approve and --reject exclude each other", fix="Use only one of them.")
        config = load_settings(settings, workspace)
        prefect_environment.configure_prefect()
        from flows.augment import augment_stages
        from flows.curate import curate_stages
        from tasks.cached_run import ReadOnlyRun

        cached_run = ReadOnlyRun(open_workspace(config))
        dataset = augment_stages(cached_run, curate_stages(cached_run)).dataset
        if approve or reject:
            decision = DatasetDecision(
                approved=approve, note=note, reviewer=reviewer or current_user()
            )
            save_decision(config.workspace, dataset.key, decision)
        decisions = load_decisions(config.workspace, dataset.key)
    counts = dataset.counts
    console.print(
        f"dataset {dataset.key[:12]}: {counts.ok} samples, {counts.rejected} left out, "
        f"{counts.failed} failed",
        highlight=False,
    )
    console.print(f"rows: {escape(str(dataset.path))}", highlight=False, soft_wrap=True)
    if not decisions:
        console.print("Not decided yet: use --approve or --reject.")
    for decision in decisions:
        console.print(escape(str(decision)), highlight=False, soft_wrap=True)
    if not decisions or not decisions[-1].approved:
        raise typer.Exit(FAILED)
