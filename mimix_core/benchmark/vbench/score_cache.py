"""What is scored already: a file that a killed run goes on from.

One JSON object a line: ``{"key": ..., "score": ...}``. The key is a digest of all that a score
depends on, so a line counts for whoever asks for just that score again, and for nobody else.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mimix_core.errors import BadInput


class Journal:
    """Scores by key; ``note`` returns when its line is on disk. Made by ``opened``."""

    def __init__(self, file: IO[str], scores: dict[str, float]) -> None:
        self._file, self._scores = file, scores

    def get(self, key: str) -> float | None:
        """The score noted for ``key``."""
        return self._scores.get(key)

    def note(self, key: str, score: float) -> None:
        """Append a score and put it on disk."""
        self._file.write(json.dumps({"key": key, "score": score}, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._scores[key] = score


def key_of(*parts: object) -> str:
    """The digest of what a score depends on."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()


@contextmanager
def opened(path: Path) -> Iterator[Journal]:
    """The journal at ``path``, which need not exist yet, for this process alone.

    A last line that a crash cut off is taken away. Raises BadInput when another process has it, or
    when it holds anything else.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(
                "another run is writing it", where=str(path), fix="Wait for it, or change --out."
            ) from error
        file.seek(0)
        *lines, torn = file.read().split("\n")
        try:
            records = [json.loads(line) for line in lines]
            scores = {str(record["key"]): float(record["score"]) for record in records}
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(
                "it holds a line that is no score", where=str(path), fix="Remove the file."
            ) from error
        if torn:
            file.truncate(path.stat().st_size - len(torn.encode()))
        yield Journal(file, scores)
