"""The stage contract: typed inputs and settings in, rows and files out, committed whole.

``run_stage`` is the one way a stage runs, whoever calls it (a Prefect task, the CLI, a test):
look the key up in the store, run into a staging folder, count, write the table, commit.
"""

from __future__ import annotations

import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from mimix_core import tables
from mimix_core.engine.artifacts import Counts, Frozen, TableRef
from mimix_core.engine.cache_key import stage_key
from mimix_core.engine.store import StageRecord, Store
from mimix_core.errors import StageFailed
from mimix_core.tables import Reason, Row, Status, Table

In = TypeVar("In", bound=Frozen)
Set = TypeVar("Set", bound=Frozen)


@dataclass(frozen=True)
class StageReport:
    """What a stage made: its rows, and how many things it was given to judge.

    ``rows_in`` is counted by the stage where its inputs come in, not from ``rows``: that the two
    agree is the proof that nothing was lost on the way. ``notes`` are of the result: the same for
    the same inputs and settings. ``effort`` is of this attempt at it: seconds, the device, what an
    earlier attempt had left; no other stage may depend on it.
    """

    rows: Sequence[Row]
    rows_in: int
    notes: Mapping[str, str | int | float] = field(default_factory=dict)
    effort: Mapping[str, str | int | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stage(Generic[In, Set]):
    """One stage of the pipeline.

    ``run(inputs, settings, out)`` writes its files below the folder ``out`` and returns its rows;
    file columns are relative to ``out``. Raise ``version`` whenever the same inputs and settings
    would now give other rows or files.

    ``broken(inputs, reason, detail)`` gives the rows of a unit whose process died or hung whenever
    it was tried: all failed, for that reason. A stage that reads files of unknown origin has one,
    so that such a file costs its own rows and not the run. It reads no video and runs in the
    caller's process.
    """

    name: str
    version: int
    inputs: type[In]
    settings: type[Set]
    table: Table[Any]
    run: Callable[[In, Set, Path], StageReport]
    broken: Callable[[In, Reason, str], StageReport] | None = None

    def key(self, inputs: In, settings: Set) -> str:
        return stage_key(self.name, self.version, inputs, settings)

    def unit(self, inputs: In) -> str:
        """What the person calls this unit of work: an episode's name, or ``all``."""
        return str(getattr(inputs, "unit", "all"))


@dataclass(frozen=True)
class StageRun:
    """The reference to a committed table, and whether it had to be computed now."""

    ref: TableRef
    computed: bool


def count(rows: Sequence[Row], rows_in: int) -> Counts:
    statuses = Counter(row["status"] for row in rows)
    return Counts(
        rows_in=rows_in,
        ok=statuses[Status.OK],
        rejected=statuses[Status.REJECTED],
        failed=statuses[Status.FAILED],
    )


def run_stage(store: Store, stage: Stage[Any, Any], inputs: Frozen, settings: Frozen) -> StageRun:
    """Give the stage's table for these inputs: the committed one, or a new one.

    Raises StageFailed when rows got lost or doubled inside the stage; whatever the stage itself
    raises passes through, and leaves nothing in the store.
    """
    return _run(store, stage, inputs, settings, stage.run)


def commit_broken(
    store: Store,
    stage: Stage[Any, Any],
    inputs: Frozen,
    settings: Frozen,
    reason: Reason,
    detail: str,
) -> StageRun:
    """Commit failed rows for a unit whose process died; a result that is there already stays.

    Raises StageFailed when the stage cannot answer for such a unit, or answers with a row that did
    not fail.
    """
    broken = stage.broken
    if broken is None:
        raise StageFailed(f"stage {stage.name} ({stage.unit(inputs)}): {detail}")

    def answer(_inputs: Frozen, _settings: Frozen, _out: Path) -> StageReport:
        report = broken(inputs, reason, detail)
        if any(row["status"] != Status.FAILED for row in report.rows):
            raise StageFailed(
                f"stage {stage.name} ({stage.unit(inputs)}): not all rows of a broken unit are "
                "failed; this is a bug in the stage"
            )
        return report

    return _run(store, stage, inputs, settings, answer)


def _run(
    store: Store,
    stage: Stage[Any, Any],
    inputs: Frozen,
    settings: Frozen,
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
        tables.write(out / store.TABLE, stage.table, report.rows, stage_key=key)
        reasons = Counter(row["reason"] for row in report.rows if row["reason"] is not None)
        record = StageRecord(
            stage=stage.name,
            version=stage.version,
            unit=unit,
            key=key,
            counts=count(report.rows, report.rows_in),
            reasons=dict(sorted(reasons.items())),
            notes=dict(report.notes),
            effort=dict(report.effort),
            seconds=round(time.monotonic() - started, 3),
            peak_rss_mb=_peak_rss_mb(),
        )
        ref = store.commit(record, out)
    return StageRun(ref, computed=True)


def _peak_rss_mb() -> int:
    """Peak resident memory of this process and its largest child, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024
    peak = max(
        resource.getrusage(who).ru_maxrss
        for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return peak * unit // 1_000_000
