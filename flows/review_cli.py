"""``mimix review``: show the dataset that waits for approval, and approve or reject it."""

from __future__ import annotations

from typing import Annotated

import typer

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
from mimix_core.project.dataset_review import DatasetDecision, load_decision, save_decision
from mimix_core.project.workspace import open_workspace


def review(
    settings: SettingsArgument,
    workspace: WorkspaceOption = None,
    approve: Annotated[
        bool, typer.Option("--approve", help="Approve this dataset for training.")
    ] = False,
    reject: Annotated[bool, typer.Option("--reject", help="Reject this dataset.")] = False,
    note: Annotated[str, typer.Option(help="Reason for the decision, saved with it.")] = "",
) -> None:
    """Show the dataset of these settings and the decision on it, or record a decision.

    The exit code is 0 if the dataset is approved, 1 if it is rejected or not decided yet.
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
            save_decision(
                config.workspace, dataset.key, DatasetDecision(approved=approve, note=note)
            )
        decision = load_decision(config.workspace, dataset.key)
    counts = dataset.counts
    console.print(
        f"dataset {dataset.key[:12]}: {counts.ok} samples, {counts.rejected} left out, "
        f"{counts.failed} failed",
        highlight=False,
    )
    console.print(f"rows: {dataset.path}", highlight=False, soft_wrap=True)
    if decision is None:
        console.print("Not decided yet: use --approve or --reject.")
    else:
        verdict = "approved" if decision.approved else "rejected"
        console.print(verdict + (f": {decision.note}" if decision.note else ""), highlight=False)
    if decision is None or not decision.approved:
        raise typer.Exit(FAILED)
