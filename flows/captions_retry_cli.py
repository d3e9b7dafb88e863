"""``mimix captions retry``: let the next run ask the model again for captions that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from flows.caption_results import curated_tables, open_caption_run
from flows.console import SettingsArgument, WorkspaceOption, user_errors
from flows.retry_decisions import choose_reasons, record_retries, select_failed_rows
from mimix_core import tables
from mimix_core.errors import BadInput
from mimix_core.tables import CaptionRow, Reason
from mimix_core.vlm.failure_policy import CAPTION_FAILURES

if TYPE_CHECKING:
    from tasks.cached_run import ReadOnlyRun

RETRYABLE = (*CAPTION_FAILURES.names(), Reason.CAPTION_CHECK_FAILED.value)
"""Reasons of failed captions for which another response of the model may help."""


def retry(
    settings: SettingsArgument,
    clips: Annotated[
        list[str] | None,
        typer.Argument(help="Ids of clips or composites. Default: all with one of the reasons."),
    ] = None,
    reason: Annotated[
        list[str] | None,
        typer.Option(help=f"Reason of a failed row, repeatable. Default: {', '.join(RETRYABLE)}."),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Let the next run ask the model again for captions that failed.

    Responses that failed are kept and paid for once: a run does not ask again by itself. Do so
    after the server, the prompt or the settings were corrected.
    """
    with user_errors():
        reasons = choose_reasons(reason, RETRYABLE)
        run = open_caption_run(settings, workspace)
        rows = {
            stage: {row["clip_id"]: row["reason"] for row in captions}
            for stage, captions in _model_caption_rows(run).items()
        }
        failed = select_failed_rows(
            rows,
            reasons,
            clips,
            noun="caption",
            argument="clips",
            fix="See `mimix captions check` for the captions and their reasons",
        )
        record_retries(run.workspace.config.workspace, failed, "`mimix run`")


def _model_caption_rows(run: ReadOnlyRun) -> dict[str, list[CaptionRow]]:
    """Return the rows of captions and recaptions, as far as these stages have results.

    Raises BadInput when the captions are not made by a model.
    """
    from flows.augment import augment_stages
    from tasks.cached_run import MissingResult

    captions = run.workspace.config.captions
    if captions.backend != "vlm":
        raise BadInput(f"captions.backend is {captions.backend}: no model is asked")
    curated = curated_tables(run)
    found = {
        "captions": [
            row for ref in curated.captions for row in tables.read(ref.path, tables.CAPTIONS)
        ]
    }
    try:
        ref = augment_stages(run, curated).recaptions
        found["recaptions"] = tables.read(ref.path, tables.CAPTIONS)
    except MissingResult:
        found["recaptions"] = []  # composites are made later
    return found
