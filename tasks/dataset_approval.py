"""A person looks at the dataset before it is trained on.

What was approved is the content of the dataset, by its stage key: the same dataset is not asked for
again, whatever run comes upon it, and another one is.
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
    """A person has not approved the dataset, or has rejected it."""


class ApprovalInput(RunInput):
    """The form that the UI shows on Resume."""

    approve: bool = Field(False, description="Train on this dataset.")
    note: str = Field("", description="Why; kept with the decision.")


def require_approval(run: Run, dataset: TableRef) -> None:
    """Return when the dataset is approved, or when the settings ask for no review.

    A run of a deployment is suspended: its process ends, nothing is held while it waits, and Resume
    in the UI takes it up again; what was rejected once is asked again. A run from the shell has
    nobody to wait for and ends with NotApproved, which says what to do. Raises NotApproved when the
    answer was no.
    """
    config = run.workspace.config
    if not config.run.require_approval:
        return
    decision = load_decision(config.workspace, dataset.key)
    context = FlowRunContext.get()
    asked = context is not None and context.flow_run is not None and context.flow_run.deployment_id
    if asked and not (decision is not None and decision.approved):
        decision = _suspend_for_approval(run, dataset)
    if decision is None:
        raise DatasetNotApproved(
            f"the dataset {dataset.key[:12]} ({_format_counts(dataset)}) waits for approval",
            where="settings, key run.require_approval",
            fix=f"Look at {dataset.path}, then: mimix review SETTINGS --approve (or --reject), and "
            "the same command goes on from here.",
        )
    if not decision.approved:
        raise DatasetNotApproved(
            f"the dataset {dataset.key[:12]} was rejected: {decision.note or 'no reason given'}",
            where="settings, key run.require_approval",
            fix="Change the settings or the library, or approve it after all: "
            "mimix review SETTINGS --approve",
        )


def _suspend_for_approval(run: Run, dataset: TableRef) -> DatasetDecision:
    """Suspend the run until a person has answered, and keep the answer."""
    config = run.workspace.config
    text = _approval_page(run, dataset)
    create_markdown_artifact(
        markdown=text, key="mimix-review", description="Waits for approval: Resume, then answer"
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
    page = f"[Report of the last whole run]({link})" if report.exists() else "No report yet."
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
            f"Its rows: `{dataset.path}`",
            "",
            run.summary().markdown("So far", sum(line.seconds for line in run.console.finished_stages)),
        ]
    )


def _format_counts(dataset: TableRef) -> str:
    counts = dataset.counts
    return f"{counts.ok} samples, {counts.rejected} left out, {counts.failed} failed"
