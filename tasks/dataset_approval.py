"""Require the user's approval of the dataset before training.

A decision applies to the content of the dataset, by its stage key: no run asks again for the same
dataset, and a changed dataset needs a new decision.
"""

from __future__ import annotations

import itertools
import time
from typing import Any

from prefect.artifacts import create_markdown_artifact
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext
from prefect.exceptions import ObjectNotFound
from prefect.flow_runs import suspend_flow_run
from prefect.input import RunInput
from prefect.input.actions import read_flow_run_input
from prefect.input.run_input import keyset_from_base_key
from pydantic import Field, ValidationError

from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.text_escaping import escape_markdown
from mimix_core.errors import BadInput
from mimix_core.project.composite_review import CONFIDENCE, review_composites
from mimix_core.project.dataset_review import (
    DatasetDecision,
    load_decision,
    load_decisions,
    save_decision,
)
from mimix_core.project.item_decisions import read_item_decisions
from mimix_core.tables import DATASET, read, usable
from tasks.base import Run
from tasks.prefect_artifacts import report_link
from tasks.server_connection import best_effort, wait_for_server

SUSPEND_ATTEMPTS = 5
RETRY_SECONDS = 3.0
SERVER_FAILED = "Aborting orchestration due to error"
"""Prefect's words for an error within the server, of which it makes a refusal."""


class DatasetNotApproved(BadInput):
    """The dataset is not approved yet, or was rejected."""


class ApprovalInput(RunInput):
    """Form that the UI shows on Resume."""

    approve: bool | None = Field(
        None,
        description="True: train on this dataset. False: reject it. Without a choice, the run asks "
        "again.",
    )
    note: str = Field("", description="Reason, saved with the decision.")
    reviewer: str = Field("", description="Your name, saved with the decision.")


def require_approval(run: Run, dataset: TableRef) -> None:
    """Return if the dataset is approved, or if the settings do not require approval.

    A run of a deployment is suspended: its process ends, it occupies nothing while it waits, and
    Resume in the UI continues it; a dataset that was rejected before is presented again. The answer
    to this run's own form counts for it, whatever others decided before; if the form has none, the
    run asks again. A run from the shell cannot wait and ends with DatasetNotApproved, which names
    the commands to use. Raises DatasetNotApproved if the dataset is rejected.
    """
    config = run.workspace.config
    if config.run.review_share:
        _require_review(run, dataset)
    if not config.run.require_approval:
        return
    context = FlowRunContext.get()
    flow_run = None if context is None else context.flow_run
    if flow_run is not None and flow_run.deployment_id is not None:
        _ask_in_forms(run, dataset, flow_run)
    decision = load_decision(config.workspace, dataset.key)
    if decision is None:
        raise DatasetNotApproved(
            f"the dataset {dataset.key[:12]} ({_format_counts(dataset)}) waits for approval",
            where="settings, key run.require_approval",
            fix=f"Inspect {dataset.path}, run mimix review SETTINGS --approve (or --reject), then "
            "run the same command again: it continues from here.",
        )
    if not decision.approved:
        raise DatasetNotApproved(
            f"the dataset {dataset.key[:12]} was {decision}"
            + ("" if decision.note else ", no reason given"),
            where="settings, key run.require_approval",
            fix="Change the settings or the library, or approve it: "
            "mimix review SETTINGS --approve",
        )


def _require_review(run: Run, dataset: TableRef) -> None:
    """Raise DatasetNotApproved unless people have looked at all composites that were drawn.

    A run that computes says what their verdicts mean for the others.
    """
    config = run.workspace.config
    videos = {
        row["sample_id"]: row["sha256"]
        for row in usable(read(dataset.path, DATASET))
        if row["kind"] == "composite"
    }
    share = config.run.review_share
    review = review_composites(videos, read_item_decisions(config.decisions), share)
    if review.missing:
        count = len(review.missing)
        raise DatasetNotApproved(
            f"{count} of the composites drawn for review {'was' if count == 1 else 'were'} not "
            f"looked at yet, first: {review.missing[0]}",
            where="settings, key run.review_share",
            fix="Approve or reject them in `mimix studio SETTINGS` (Composites, filter Review), "
            "then run the same command again.",
        )
    if run.computes and review.approved + review.rejected:
        run.console.warn(
            f"review: people have looked at {review.approved + review.rejected} composites (share "
            f"{share}) and rejected {review.rejected}: with {CONFIDENCE:.0%} confidence they would "
            f"reject at most {review.bound:.1%} of those that nobody has looked at"
        )


def _ask_in_forms(run: Run, dataset: TableRef, flow_run: FlowRun) -> None:
    """Show forms until one is answered or the dataset is approved; save the answers.

    Suspends the run for each form that it has not shown yet. Raises DatasetNotApproved if an answer
    to a form of this run is no.
    """
    workspace = run.workspace.config.workspace
    shown = set(flow_run.empirical_policy.pause_keys or ())
    for number in itertools.count():
        form = f"review-{dataset.key[:16]}-{number}"
        answer = _read_answer(run, form)
        if answer is None:
            decision = load_decision(workspace, dataset.key)
            if form not in shown and decision is not None and decision.approved:
                return
            answer = _show_form(run, dataset, form)
        if answer is None or answer.approve is None:
            continue
        decision = DatasetDecision(
            approved=answer.approve,
            note=answer.note,
            reviewer=answer.reviewer,
            source=f"flow run {flow_run.id}, {form}",
        )
        save_decision(workspace, dataset.key, decision)
        if not answer.approve:
            raise DatasetNotApproved(
                f"the dataset {dataset.key[:12]} was {decision}",
                where=f"form of the flow run {flow_run.name}",
                fix="Change the settings or the library, or approve it: "
                "mimix review SETTINGS --approve",
            )
        return


def _read_answer(run: Run, form: str) -> ApprovalInput | None:
    """Return the answer to a form of this run; None if there is none.

    The server may have an answer and have forgotten that the form was shown: it records that apart,
    which fails when its database is busy.
    """
    wait_for_server(run.console.warn)
    answer: Any = read_flow_run_input(keyset_from_base_key(f"suspended-{form}")["response"])
    try:
        return ApprovalInput.model_validate(answer) if answer else None
    except ValidationError:
        return None


def _show_form(run: Run, dataset: TableRef, form: str) -> ApprovalInput | None:
    """Suspend the run until it is resumed, and return the form; None if it was not filled in.

    Does not suspend again a run that was resumed from the same form.
    """
    text = _approval_page(run, dataset)
    wait_for_server(run.console.warn)
    with best_effort("the page of the review", retries=3):
        create_markdown_artifact(
            markdown=text,
            key="mimix-review",
            description="Waits for approval: click Resume, then decide.",
        )
    attempts = 0
    while True:
        attempts += 1
        try:
            return suspend_flow_run(
                wait_for_input=ApprovalInput.with_initial_data(description=text),
                timeout=None,
                key=form,
            )
        except (ObjectNotFound, ValidationError):
            return None
        except RuntimeError as error:
            # The server's own failure, e.g. a busy SQLite, arrives as a refusal.
            if attempts == SUSPEND_ATTEMPTS or SERVER_FAILED not in str(error):
                raise
            time.sleep(RETRY_SECONDS)


def _approval_page(run: Run, dataset: TableRef) -> str:
    record = run.workspace.store.record(dataset)
    notes = [
        f"| {escape_markdown(name)} | {escape_markdown(str(value))} |"
        for name, value in record.notes.items()
    ]
    report = run.workspace.config.workspace / "report" / "index.html"
    link = report_link(run.workspace.config)
    decisions = load_decisions(run.workspace.config.workspace, dataset.key)
    earlier = [f"- {escape_markdown(str(decision))}" for decision in decisions]
    seconds = sum(stage.seconds for stage in run.console.finished_stages)
    page = f"[Report of the last complete run](<{link}>)" if report.exists() else "No report yet."
    return "\n".join(
        [
            f"## Dataset {dataset.key[:12]} waits for approval",
            "",
            _format_counts(dataset),
            "",
            *(["Decisions so far:", "", *earlier, ""] if earlier else []),
            "| | |",
            "| --- | --- |",
            *notes,
            "",
            page,
            "",
            f"Rows: {escape_markdown(str(dataset.path))}",
            "",
            run.summary().markdown("So far", seconds),
        ]
    )


def _format_counts(dataset: TableRef) -> str:
    counts = dataset.counts
    return f"{counts.ok} samples, {counts.rejected} left out, {counts.failed} failed"
