"""Record that a person wants another response to a request.

A response was paid for, so it stays in the cache, and later runs read it there even if it is of no
use. ``retries.jsonl`` in the workspace lists the rows whose requests are to be sent once more, one
line for each decision. How often a row is in it is part of the request's digest, so the earlier
responses stay as well.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.engine.locks import exclusive_lock
from mimix_core.errors import BadInput

FILE_NAME = "retries.jsonl"


class Retry(FrozenModel):
    """A decision to send the request of a row once more, and why the row had failed."""

    stage: str
    id: str
    reason: str
    at: datetime.datetime


def read_retries(workspace: Path, stage: str) -> dict[str, int]:
    """Return how often each row of a stage is to be asked again. Raises BadInput."""
    return dict(Counter(retry.id for retry in _read(workspace) if retry.stage == stage))


def add_retries(workspace: Path, retries: Sequence[Retry]) -> None:
    """Add decisions to the file."""
    with exclusive_lock(workspace / f".{FILE_NAME}.lock"):
        lines = [retry.model_dump_json() for retry in (*_read(workspace), *retries)]
        atomic_write_bytes(workspace / FILE_NAME, "".join(f"{line}\n" for line in lines).encode())


def _read(workspace: Path) -> list[Retry]:
    path = workspace / FILE_NAME
    if not path.is_file():
        return []
    try:
        return [Retry.model_validate_json(line) for line in path.read_bytes().splitlines()]
    except ValidationError as error:
        raise BadInput(
            f"contains a line that is not a retry: {error.errors()[0]['msg']}",
            where=str(path),
            fix="Remove the line; `mimix captions retry` and `mimix bench judge-retry` write the "
            "file",
        ) from None
