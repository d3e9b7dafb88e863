"""``mimix bench judge-retry``: let the judge be asked again for answers that failed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.console import WorkspaceOption, load_settings, user_errors
from flows.retry_decisions import choose_reasons, record_retries, select_failed_rows
from mimix_core import tables
from mimix_core.errors import BadInput
from mimix_core.tables.judge_tables import DUELS, JUDGEMENTS
from mimix_core.vlm.failure_policy import JUDGE_FAILURES

RETRYABLE = JUDGE_FAILURES.names()


def judge_retry(
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            help="Ids of ratings or comparisons (columns judgement_id, duel_id). Default: all with "
            "one of the reasons."
        ),
    ] = None,
    judgements: Annotated[
        Path | None, typer.Option(help="Table of ratings that `mimix bench judge` wrote.")
    ] = None,
    duels: Annotated[
        Path | None, typer.Option(help="Table of comparisons that `mimix bench judge` wrote.")
    ] = None,
    work: Annotated[Path, typer.Option(help="Folder --work of `mimix bench judge`.")] = Path(
        "judging"
    ),
    settings: Annotated[
        Path | None,
        typer.Option(
            help="Settings file of a run that judged its own videos, instead of the tables."
        ),
    ] = None,
    reason: Annotated[
        list[str] | None,
        typer.Option(help=f"Reason of a failed row, repeatable. Default: {', '.join(RETRYABLE)}."),
    ] = None,
    workspace: WorkspaceOption = None,
) -> None:
    """Let the judge be asked again for answers that failed, by the next run or `bench judge`.

    Answers that failed are kept and paid for once: no command asks again by itself. Do so after the
    server or the settings were corrected.
    """
    with user_errors():
        reasons = choose_reasons(reason, RETRYABLE)
        given = [path for path in (judgements, duels) if path is not None]
        if bool(given) == (settings is not None):
            raise BadInput(
                "name the tables of `mimix bench judge`, or the settings of a run",
                where="--judgements, --duels, --settings",
                fix="E.g. --judgements judgements.parquet --work judging",
            )
        rows: dict[str, dict[str, str | None]] = {}
        if judgements is not None:
            rows["judgements"] = _rating_reasons(judgements)
        if duels is not None:
            rows["duels"] = {row["duel_id"]: row["reason"] for row in tables.read(duels, DUELS)}
        folder = work
        if settings is None:
            if not work.is_dir():
                raise BadInput("no such folder", where=str(work), fix="Correct --work")
        else:
            table, folder = _own_judgements(settings, workspace)
            rows["judgements"] = _rating_reasons(table)
        failed = select_failed_rows(
            rows,
            reasons,
            ids,
            noun="answer",
            argument="ids",
            fix="The columns judgement_id, duel_id and reason of the tables have them",
        )
        record_retries(folder, failed, "`mimix bench judge`" if settings is None else "`mimix run`")


def _rating_reasons(table: Path) -> dict[str, str | None]:
    return {row["judgement_id"]: row["reason"] for row in tables.read(table, JUDGEMENTS)}


def _own_judgements(settings: Path, workspace: Path | None) -> tuple[Path, Path]:
    """Return the table with a run's ratings of its own videos, and the workspace's folder.

    Raises BadInput without a judge, or when a result is missing.
    """
    from flows import prefect_environment

    prefect_environment.configure_prefect()
    from flows.augment import augment_stages
    from flows.curate import curate_stages
    from flows.train import train_stages
    from mimix_core.project.workspace import open_workspace
    from tasks.cached_run import ReadOnlyRun
    from tasks.evaluation import generate_samples
    from tasks.judgements import judge_samples

    run = ReadOnlyRun(open_workspace(load_settings(settings, workspace)))
    if run.workspace.config.judge.vlm is None:
        raise BadInput("no judge is configured", where=f"{settings}, key judge.vlm")
    curated = curate_stages(run)
    trained = train_stages(run, curated, augment_stages(run, curated))
    ref = judge_samples(
        run, generate_samples(run, trained.backbone, trained.lora, trained.layout_sources)
    )
    assert ref is not None, "a judge is configured"
    return ref.path, run.workspace.config.workspace


def register(app: typer.Typer) -> None:
    """Add the command to ``mimix bench``."""
    app.command()(judge_retry)
