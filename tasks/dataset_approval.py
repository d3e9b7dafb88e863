"""Require the user's approval of the dataset before training.

A decision applies to the content of the dataset, by its stage key: no run asks again for the same
dataset, and a changed dataset needs a new decision.
"""

from __future__ import annotations

from prefect.artifacts import create_markdown_artifact
from prefect.context import FlowRunContext
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from pydantic import Field

from mimix_core.engine.artifacts import TableRef
from mimix_core.errors import BadInput
from mimix_core.project.dataset_review import DatasetDecision, load_decision, save_decision
from tasks.base import Run
from tasks.prefect_artifacts import report_link


class DatasetNotApproved(BadInput):
    """The dataset is not approved yet, or was rejected."""


class ApprovalInput(RunInput):
    """Form that the UI shows on Resume."""

    approve: bool = Field(False, description="Train on this dataset.")
    note: str = Field("", description="Reason, saved with the decision.")


def require_approval(run: Run, dataset: TableRef) -> None:
    """Return if the dataset is approved, or if the settings do not require approval.

    A run of a deployment is suspended: its process ends, it occupies nothing while it waits, and
    Resume in the UI continues it; a dataset that was rejected before is presented again. A run from
    the shell cannot wait and ends with DatasetNotApproved, which names the commands to use. Raises
    DatasetNotApproved if the dataset is rejected.
    """
    config = run.workspace.config
    if not config.run.require_approval:
        return
    decision = load_decision(config.workspace, dataset.key)
    context = FlowRunContext.get()
    is_deployed = (
        context is not None and context.flow_run is not None and context.flow_run.deployment_id
    )
    if is_deployed and not (decision is not None and decision.approved):
        decision = _suspend_for_approval(run, dataset)
    if decision is None:
        raise DatasetNotApproved(
            f"the dataset {dataset.key[:12]} ({_format_counts(dataset)}) waits for approval",
            where="settings, key run.require_approval",
            fix=f"Inspect {dataset.path}, run mimix review SETTINGS --approve (or --reject), then "
            "run the same command again: it continues from here.",
        )
    if not decision.approved:
        raise DatasetNotApproved(
            f"the dataset {dataset.key[:12]} was rejected: {decision.note or 'no reason given'}",
            where="settings, key run.require_approval",
            fix="Change the settings or the library, or approve it: "
            "mimix review SETTINGS --approve",
        )


def _suspend_for_approval(run: Run, dataset: TableRef) -> DatasetDecision:
    """Suspend the run until the user has decided in the UI, and save the decision."""
    config = run.workspace.config
    text = _approval_page(run, dataset)
    create_markdown_artifact(
        markdown=text,
        key="mimix-review",
        description="Waits for approval: click Resume, then decide.",
    )
    answer = suspend_flow_run(
        wait_for_input=ApprovalInput.with_initial_data(description=text),
        timeout=None,
        key=f"review-{dataset.key[:16]}",
    )
    decision = DatasetDecision(approved=answer.approve, note=answer.note)
    save_decision(config.workspace, dataset.key, decision)
    return decision


def _approval_page(run: Run, dataset: TableRef) -> str:
    record = run.workspace.store.record(dataset)
    notes = [f"| {name} | {value} |" for name, value in record.notes.items()]
    report = run.workspace.config.workspace / "report" / "index.html"
    link = report_link(run.workspace.config)
    seconds = sum(stage.seconds for stage in run.console.finished_stages)
    page = f"[Report of the last complete run]({link})" if report.exists() else "No report yet."
    return "\n".join(
        [
            f"## Dataset {dataset.key[:12]} waits for approval",
            "",
            _format_counts(dataset),
            "",
            "| | |",
            "| --- | --- |",
            *notes,
            "",
            page,
            "",
            f"Rows: `{dataset.path}`",
            "",
            run.summary().markdown("So far", seconds),
        ]
    )


def _format_counts(dataset: TableRef) -> str:
    counts = dataset.counts
    return f"{counts.ok} samples, {counts.rejected} left out, {counts.failed} failed"
