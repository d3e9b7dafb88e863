"""Cache scores in a file, from which an interrupted run resumes.

One JSON object per line: ``{"key": ..., "score": ...}``. The key is a digest of everything that a
score depends on, so a line is only reused for exactly the same score.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mimix_core.engine.atomic_io import fsync_path, make_folder
from mimix_core.engine.locks import try_exclusive_lock
from mimix_core.errors import BadInput


class ScoreCache:
    """Scores by key, created by ``open_score_cache``."""

    def __init__(self, file: IO[str], scores: dict[str, float]) -> None:
        self._file, self._scores = file, scores

    def get(self, key: str) -> float | None:
        """Return the cached score, or None."""
        return self._scores.get(key)

    def put(self, key: str, score: float) -> None:
        """Append a score; it is on disk on return."""
        self._file.write(json.dumps({"key": key, "score": score}, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._scores[key] = score


def score_key(*parts: object) -> str:
    """Digest everything that a score depends on."""
    return hashlib.sha256(json.dumps(parts, ensure_ascii=True).encode()).hexdigest()


@contextmanager
def open_score_cache(path: Path) -> Iterator[ScoreCache]:
    """Open or create the cache file for this process alone.

    Removes a last line that a crash cut off. Raises BadInput when another process has the file
    open, or for a file of another format.
    """
    make_folder(path.parent)
    lock = try_exclusive_lock(path)
    if lock is None:
        raise BadInput(
            "another run is writing this file",
            where=str(path),
            fix="Wait for it, or write to another file.",
        )
    with lock, path.open("a+", encoding="utf-8") as file:
        file.seek(0)
        *lines, incomplete = file.read().split("\n")
        try:
            records = [json.loads(line) for line in lines]
            scores = {str(record["key"]): float(record["score"]) for record in records}
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(
                "a line is not a score", where=str(path), fix="Remove the file."
            ) from error
        if incomplete:
            file.truncate(path.stat().st_size - len(incomplete.encode()))
        fsync_path(path.parent)  # the file may be new
        yield ScoreCache(file, scores)
