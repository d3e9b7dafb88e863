"""``mimix captions retry``: let the next run ask the model again for captions that failed."""

from __future__ import annotations

import datetime
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from flows.caption_results import curated_tables, open_caption_run
from flows.console import SettingsArgument, WorkspaceOption, console, user_errors
from mimix_core import tables
from mimix_core.errors import BadInput
from mimix_core.tables import CaptionRow, Reason
from mimix_core.vlm.retries import Retry, add_retries

if TYPE_CHECKING:
    from tasks.cached_run import ReadOnlyRun

RETRYABLE = tuple(
    reason.value
    for reason in (
        Reason.CAPTION_REFUSED,
        Reason.CAPTION_TRUNCATED,
        Reason.CAPTION_INVALID,
        Reason.CAPTION_REJECTED,
        Reason.CAPTION_UNAVAILABLE,
        Reason.CAPTION_CHECK_FAILED,
    )
)
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
        reasons = reason or list(RETRYABLE)
        if unknown := sorted(set(reasons) - set(RETRYABLE)):
            raise BadInput(
                f"no model is asked again for {', '.join(unknown)}",
                where="--reason",
                fix=f"Use one of {', '.join(RETRYABLE)}",
            )
        run = open_caption_run(settings, workspace)
        failed = {
            stage: [
                row
                for row in rows
                if row["reason"] in reasons and (not clips or row["clip_id"] in clips)
            ]
            for stage, rows in _model_caption_rows(run).items()
        }
        found = {row["clip_id"] for rows in failed.values() for row in rows}
        if missing := sorted(set(clips or ()) - found):
            raise BadInput(
                f"no failed caption of {', '.join(missing)} with reason {', '.join(reasons)}",
                where="clips",
                fix="See `mimix captions check` for the captions and their reasons",
            )
        now = datetime.datetime.now(datetime.UTC)
        add_retries(
            run.workspace.config.workspace,
            [
                Retry(stage=stage, id=row["clip_id"], reason=row["reason"] or "", at=now)
                for stage, rows in failed.items()
                for row in rows
            ],
        )
    for stage, rows in failed.items():
        counts = Counter(row["reason"] for row in rows)
        listed = ", ".join(f"{name} {count}" for name, count in counts.most_common())
        console.print(
            f"{stage}: {len(rows)} to ask again" + (f" ({listed})" if rows else ""),
            highlight=False,
            soft_wrap=True,
        )
    if found:
        console.print(
            "The next `mimix run` sends these requests once more, at their full price.",
            highlight=False,
            soft_wrap=True,
        )


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
