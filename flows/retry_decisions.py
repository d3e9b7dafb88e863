"""Choose failed rows that a model is asked about again, for captions and for the judge."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from flows.console import console
from mimix_core.errors import BadInput
from mimix_core.vlm.retries import Retry, add_retries

FailedRows = dict[str, dict[str, str]]
"""Stage -> id of a row -> its reason."""


def choose_reasons(reasons: Sequence[str] | None, retryable: Sequence[str]) -> list[str]:
    """Return the reasons that were named, else all. Raises BadInput for any other reason."""
    if unknown := sorted(set(reasons or ()) - set(retryable)):
        raise BadInput(
            f"no model is asked again for {', '.join(unknown)}",
            where="--reason",
            fix=f"Use one of {', '.join(retryable)}",
        )
    return list(reasons or retryable)


def select_failed_rows(
    rows: Mapping[str, Mapping[str, str | None]],
    reasons: Collection[str],
    ids: Collection[str] | None,
    *,
    noun: str,
    argument: str,
    fix: str,
) -> FailedRows:
    """Select the rows with one of the reasons, of ``ids`` if there are any.

    ``rows``: stage -> id -> reason. Raises BadInput for an id without such a row; ``noun``,
    ``argument`` and ``fix`` are the words of the error.
    """
    failed = {
        stage: {
            name: reason
            for name, reason in by_id.items()
            if reason is not None and reason in reasons and (not ids or name in ids)
        }
        for stage, by_id in rows.items()
    }
    found = {name for by_id in failed.values() for name in by_id}
    if missing := sorted(set(ids or ()) - found):
        raise BadInput(
            f"no failed {noun} of {', '.join(missing)} with reason {', '.join(reasons)}",
            where=argument,
            fix=fix,
        )
    return failed


def record_retries(folder: Path, failed: FailedRows, next_command: str) -> None:
    """Record that these rows are asked for again, and print how many of each reason."""
    now = datetime.datetime.now(datetime.UTC)
    add_retries(
        folder,
        [
            Retry(stage=stage, id=name, reason=reason, at=now)
            for stage, by_id in failed.items()
            for name, reason in by_id.items()
        ],
    )
    lines = []
    for stage, by_id in failed.items():
        counts = Counter(by_id.values()).most_common()
        listed = ", ".join(f"{reason} {count}" for reason, count in counts)
        lines.append(f"{stage}: {len(by_id)} to ask again" + (f" ({listed})" if by_id else ""))
    if any(failed.values()):
        lines.append(f"The next {next_command} sends these requests once more, at full price.")
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
