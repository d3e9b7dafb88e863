"""Check that the files of a store still have the content that was committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from mimix_core.engine.artifacts import digest_file
from mimix_core.engine.store import StageRecord, Store, StoredFile


@dataclass(frozen=True)
class Damage:
    """A file whose content is not what was committed, or a source that changed unnoticed.

    ``stage``, ``key`` and ``unit`` are those of its result; ``key`` is empty for a source file.
    """

    stage: str
    unit: str
    key: str
    file: Path
    problem: str


def find_damaged_results(
    store: Store, on_result: Callable[[str, str], None] = lambda stage, unit: None
) -> Iterator[Damage]:
    """Read every file of every result and yield those that are damaged, ordered by stage and key.

    Other than ``Store.lookup``, it reads files whose size and mtime are unchanged as well: a disk
    that returns wrong bytes changes neither. Calls ``on_result(stage, unit)`` before each result.
    """
    for folder in store.result_folders():
        stage, key = folder.parent.name, folder.name
        record_file = folder / store.RECORD
        try:
            record = StageRecord.model_validate_json(record_file.read_bytes())
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not a record"
            yield Damage(stage, key[:12], key, record_file, str(reason))
            continue
        on_result(stage, record.unit)
        if (record.stage, record.key) != (stage, key):
            problem = f"is the record of {record.stage} {record.key}"
            yield Damage(stage, record.unit, key, record_file, problem)
        for stored in record.files:
            problem = _file_problem(folder / stored.path, stored)
            if problem:
                yield Damage(stage, record.unit, key, folder / stored.path, problem)


def find_changed_sources(store: Store, sources: Iterable[tuple[str, Path]]) -> Iterator[Damage]:
    """Yield source files whose content changed although size and mtime did not.

    ``sources``: pairs of unit and file. Files without a recorded digest are not read.
    """
    for unit, path in sources:
        recorded = store.recorded_digest(path)
        if recorded is not None and digest_file(path) != recorded:
            problem = "has other content than when it was first read, with the same size and mtime"
            yield Damage("source", unit, "", path, problem)


def _file_problem(path: Path, stored: StoredFile) -> str:
    try:
        size = path.stat().st_size
        if size != stored.size:
            return f"has {size:,} bytes instead of {stored.size:,}"
        return "" if digest_file(path) == stored.sha256 else "has other content than was committed"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
