"""Define stages and run them: typed inputs and settings in; rows and files out, in one commit.

``run_stage`` is the only way a stage runs, called by Prefect tasks, the CLI and tests alike: look
up the key in the store, run into a staging folder, count the rows, write the table, commit.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar

from mimix_core import tables
from mimix_core.engine.artifacts import Counts, FrozenModel, TableRef
from mimix_core.engine.cache_key import key_parts, stage_key
from mimix_core.engine.store import StageRecord, Store
from mimix_core.errors import StageFailed
from mimix_core.tables import Reason, Row, SortedRows, Status, Table

In = TypeVar("In", bound=FrozenModel)
Set = TypeVar("Set", bound=FrozenModel)


@dataclass(frozen=True)
class StageReport:
    """Hold the output of a stage: its rows, and how many things it was given to judge.

    ``rows_in`` is counted by the stage where its inputs come in, not from ``rows``: that the two
    agree is the proof that nothing was lost on the way. ``notes`` are of the result: the same for
    the same inputs and settings. ``runtime_stats`` are of this attempt at it: seconds, the device,
    what an earlier attempt had left; no other stage may depend on them. ``files``: those of the
    result that no row names but later stages read, relative to the stage's folder; without them a
    result with the same rows counts as the same. A stage over all clips of a library adds its rows
    to ``SortedRows``, which keeps them on disk.
    """

    rows: Sequence[Row] | SortedRows
    rows_in: int
    notes: Mapping[str, str | int | float] = field(default_factory=dict)
    runtime_stats: Mapping[str, str | int | float] = field(default_factory=dict)
    files: Sequence[str] = ()


class Resource(StrEnum):
    """What a stage may use besides disk; shown by ``mimix stages``."""

    CPU = "CPU"
    GPU = "GPU"
    NETWORK = "network"


class Phase(StrEnum):
    """Parts of the pipeline; each flow runs the phases up to its own."""

    CURATION = "curation"
    AUGMENTATION = "augmentation"
    TRAINING = "training"
    GENERATION = "generation"
    EVALUATION = "evaluation"
    REPORT = "report"


@dataclass(frozen=True)
class Stage(Generic[In, Set]):
    """Define one stage of the pipeline: all that registry, CLI, progress, report and docs need.

    ``run(inputs, settings, out)`` writes its files below the folder ``out`` and returns its rows;
    file columns are relative to ``out``. Raise ``version`` whenever the same inputs and settings
    would now produce other rows or files.

    ``failed_rows(inputs, settings, reason, detail)`` returns the rows of a unit whose process
    crashed or hung on every attempt: all failed, for that reason. Stages that read files of unknown
    origin define it, so that such a file costs its own rows instead of the run. It must not decode
    anything, since it runs in the caller's process.

    ``row_noun`` names the stage's rows in the plural ("12 clips"); ``upstream`` names the stages
    that produce its input tables.
    """

    name: str
    title: str
    description: str
    row_noun: str
    phase: Phase
    version: int
    inputs: type[In]
    settings: type[Set]
    table: Table[Any]
    run: Callable[[In, Set, Path], StageReport]
    failed_rows: Callable[[In, Set, Reason, str], StageReport] | None = None
    upstream: tuple[str, ...] = ()
    resources: frozenset[Resource] = frozenset({Resource.CPU})

    def key(self, inputs: In, settings: Set) -> str:
        """Compute the stage key of these inputs and settings."""
        return stage_key(self.name, self.version, inputs, settings)

    def unit(self, inputs: In) -> str:
        """Return the display name of this unit of work: an episode's name, or ``all``."""
        return str(getattr(inputs, "unit", "all"))


@dataclass(frozen=True)
class StageRun:
    """Reference a committed table; ``computed`` is False for a cache hit."""

    ref: TableRef
    computed: bool


def count_rows(rows: Sequence[Row], rows_in: int) -> Counts:
    """Count rows by status."""
    return _counts(Counter(row["status"] for row in rows), rows_in)


def _counts(statuses: Mapping[str, int], rows_in: int) -> Counts:
    return Counts(
        rows_in=rows_in,
        ok=statuses.get(Status.OK, 0),
        rejected=statuses.get(Status.REJECTED, 0),
        failed=statuses.get(Status.FAILED, 0),
    )


def run_stage(
    store: Store, stage: Stage[Any, Any], inputs: FrozenModel, settings: FrozenModel
) -> StageRun:
    """Return the stage's table for these inputs, computing it unless the store has it.

    Raises StageFailed when the stage lost or duplicated rows. Errors of the stage itself pass
    through and leave nothing in the store.
    """
    return _run(store, stage, inputs, settings, stage.run)


def commit_failed_unit(
    store: Store,
    stage: Stage[Any, Any],
    inputs: FrozenModel,
    settings: FrozenModel,
    reason: Reason,
    detail: str,
) -> StageRun:
    """Commit failed rows for a unit whose process died; an existing result is not replaced.

    Raises StageFailed when the stage does not define ``failed_rows``, or when one of these rows
    has another status.
    """
    broken = stage.failed_rows
    if broken is None:
        raise StageFailed(f"stage {stage.name} ({stage.unit(inputs)}): {detail}")

    def answer(_inputs: FrozenModel, _settings: FrozenModel, _out: Path) -> StageReport:
        report = broken(inputs, settings, reason, detail)
        if _statuses(report.rows) - {Status.FAILED}:
            raise StageFailed(
                f"stage {stage.name} ({stage.unit(inputs)}): not all rows of a broken unit are "
                "failed; this is a bug in the stage"
            )
        return report

    return _run(store, stage, inputs, settings, answer)


def _run(
    store: Store,
    stage: Stage[Any, Any],
    inputs: FrozenModel,
    settings: FrozenModel,
    make: Callable[[Any, Any, Path], StageReport],
) -> StageRun:
    key = stage.key(inputs, settings)
    unit = stage.unit(inputs)
    found = store.lookup(stage.name, key)
    if found is not None:
        return StageRun(found, computed=False)
    started = time.monotonic()
    with store.staging(stage.name, key) as out:
        report = make(inputs, settings, out)
        if report.rows_in != len(report.rows):
            raise StageFailed(
                f"stage {stage.name} ({unit}): {report.rows_in} rows went in and "
                f"{len(report.rows)} came out; this is a bug in the stage"
            )
        rows = report.rows
        if not isinstance(rows, SortedRows):
            rows = SortedRows(stage.table, out).extend(rows)
        tables.write(out / store.TABLE, stage.table, rows, stage_key=key)
        record = StageRecord(
            stage=stage.name,
            version=stage.version,
            unit=unit,
            key=key,
            counts=_counts(rows.statuses, report.rows_in),
            reasons=dict(sorted(rows.reasons.items())),
            notes=dict(report.notes),
            runtime_stats=dict(report.runtime_stats),
            seconds=round(time.monotonic() - started, 3),
            peak_rss_mb=_peak_rss_mb(),
            content=tables.digest_rows(out / store.TABLE, stage.table),
            key_parts=key_parts(inputs, settings),
        )
        files = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
        named = tables.find_texts(out / store.TABLE, files)
        ref = store.commit(record, out, named | set(report.files))
    return StageRun(ref, computed=True)


def _statuses(rows: Sequence[Row] | SortedRows) -> set[str]:
    return set(rows.statuses) if isinstance(rows, SortedRows) else {row["status"] for row in rows}


def _peak_rss_mb() -> int:
    """Peak resident memory of this process and its largest child, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return peak * unit // 1_000_000
