"""How every stage becomes a Prefect task: cached by stage key, retried where that can help.

A task run is one unit of one stage (an episode, a shard), never one clip: DESIGN, section 1.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture, as_completed
from prefect.tasks import Task, exponential_backoff

from mimix_core import tables
from mimix_core.engine import registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.stage import Stage, commit_failed_unit
from mimix_core.engine.store import Store
from mimix_core.engine.worker import UnitReply, UnitRequest, build_request
from mimix_core.errors import BadInput, MimixError, StageFailed, Transient
from mimix_core.project.workspace import Workspace
from mimix_core.tables import Reason
from tasks.console_progress import ConsoleProgress, Stopwatch
from tasks.run_summary import RunSummary, StageTotals, sum_counts
from tasks.subprocess_runner import ProgressCallback, UnitDied, run_in_subprocess, stop_idle_units

P = ParamSpec("P")
R = TypeVar("R")

PROGRESS_SECONDS = 15.0
"""A progress artifact is a request to the server: no more often than this. At 3 s they cost as much
as all else that Prefect does (perf/orchestration.py). The board hears of every step."""


@dataclass(frozen=True)
class UnitOfWork:
    """One unit of one stage, ready to run anywhere that reaches the store."""

    stage: str
    unit: str
    key: str
    inputs: FrozenModel
    settings: FrozenModel
    store: Path
    timeout_seconds: float | None
    stall_seconds: float
    memory_bytes: int


class StageCachePolicy(CachePolicy):
    """Prefect's cache key is the stage key, which covers content, settings and stage version."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        work = inputs["work"]
        assert isinstance(work, UnitOfWork)
        return work.key


def is_retryable(task: Task[..., Any], task_run: Any, state: Any) -> bool:
    """Retry what failed for now; bad input and bugs fail the same way again."""
    try:
        state.result()
    except Transient:
        return True
    except Exception:
        return False
    return False


# Boards of the runs in this process, by store: progress from a task that runs in another process
# (a Dask worker) finds none and goes to Prefect alone.
_consoles: dict[Path, ConsoleProgress] = {}


def run_unit(work: UnitOfWork) -> TableRef:
    """Run the unit in a child process, unless the store has it already.

    While another run, or another machine, computes the same unit this one waits for it. Where the
    stage can answer for a unit that killed its process (``Stage.broken``), that answer is the
    result; all other failures are raised.
    """
    store = Store(work.store)
    progress = _ProgressReporter(work)
    with store.claim(
        work.stage, work.key, lambda: progress.report(0, 1, "is being made by another run")
    ):
        return store.lookup(work.stage, work.key) or _compute_unit(store, work, progress.report)


def _compute_unit(store: Store, work: UnitOfWork, hear: ProgressCallback) -> TableRef:
    stage = registry.get_stage(work.stage)
    log = work.store.parent / "logs" / f"{work.stage}-{_log_file_name(work.unit)}-{work.key[:8]}.log"
    # Only what reads files of unknown origin is watched so closely: loading a large model is silent
    # for long with good reason, and takes more memory than a video may.
    bound = work.memory_bytes if stage.failed_rows is not None else None
    asked = build_request(stage, store, work.inputs, work.settings, log, memory_bytes=bound)
    try:
        reply = _run_with_second_attempt(stage, work, asked, hear)
    except UnitDied as died:
        if stage.failed_rows is None:
            raise
        return commit_failed_unit(
            store, stage, work.inputs, work.settings, died.reason, died.detail
        ).ref
    if reply.ref is None or reply.ref.key != work.key:
        raise StageFailed(
            f"stage {work.stage} ({work.unit}) answered for another key; this is a bug"
        )
    return reply.ref


def _run_with_second_attempt(stage: Stage[Any, Any], work: UnitOfWork, asked: UnitRequest, hear: ProgressCallback) -> UnitReply:
    """The reply of the unit's process; a second process is tried before a file is blamed."""
    stall = work.stall_seconds if stage.failed_rows is not None else None
    try:
        return run_in_subprocess(
            asked, timeout_seconds=work.timeout_seconds, stall_seconds=stall, on_progress=hear
        )
    except UnitDied as died:
        if stage.failed_rows is None or not died.is_retryable:
            raise
    again = asked.model_copy(update={"log": asked.log.with_suffix(".again.log")})
    return run_in_subprocess(
        again, timeout_seconds=work.timeout_seconds, stall_seconds=stall, new_process=True, on_progress=hear
    )


def _log_file_name(unit: str) -> str:
    """The unit's name as it can stand in a file's name; the key beside it tells two apart."""
    return re.sub(r"[^\w.-]", "_", unit)[:60]


class _ProgressReporter:
    """Carries a child's progress to the board, and now and then to a Prefect artifact."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work
        self._context = TaskRunContext.get()
        self._artifact: Any = None
        self._last_sent = time.monotonic()

    def report(self, done: int, steps: int, note: str) -> None:
        board = _consoles.get(self._work.store)
        if board is not None:
            board.update(self._work.stage, self._work.unit, done, steps, note)
        if self._context is None or time.monotonic() - self._last_sent < PROGRESS_SECONDS:
            return
        self._last_sent = time.monotonic()
        percent = 100.0 * done / steps if steps else 100.0
        said = ": ".join(filter(None, [f"{self._work.stage} {self._work.unit}", note]))
        if self._artifact is None:
            self._artifact = create_progress_artifact(percent, description=said)
        else:
            update_progress_artifact(self._artifact, percent, description=said)


class FixedRetriesTask(Task[P, R]):
    """A task that says itself how often it is tried again: ``run.retries`` does not change that."""


def stage_task(name: str, **options: Any) -> Task[..., TableRef]:
    """The Prefect task of a stage. ``options`` are Prefect's, for a stage that needs other ones.

    ``retries`` among them holds whatever the settings say. No tags: each task run with one asks the
    server for a concurrency slot, 0.3 s and more a unit.
    """
    kind = FixedRetriesTask if "retries" in options else Task
    return kind(
        run_unit,
        **{
            "name": name,
            "task_run_name": name + " {work.unit}",
            "cache_policy": StageCachePolicy(),
            "persist_result": True,
            "result_serializer": "json",
            "retries": 2,
            "retry_delay_seconds": exponential_backoff(backoff_factor=5),
            "retry_jitter_factor": 0.5,
            "retry_condition_fn": is_retryable,
            **options,
        },
    )


@dataclass
class Run:
    """One flow run: the workspace, and what has been done in it so far."""

    workspace: Workspace
    console: ConsoleProgress = field(default_factory=ConsoleProgress)
    refs: dict[str, list[TableRef]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _consoles[self.workspace.store.root] = self.console
        for notice in self.workspace.notices:
            self.console.warn(notice)

    def run_units(
        self, submit: Task[..., TableRef], inputs: Sequence[FrozenModel], settings: FrozenModel
    ) -> list[TableRef]:
        """Run one stage over its units, at most ``run.max_workers`` at a time; refs in their order.

        Units that another run is computing come last: two runs in one workspace share the work. A
        unit that fails does not stop the others. Raises afterwards, naming each failed unit.
        """
        stage = registry.get_stage(str(submit.name))
        store, settings_of_run = self.workspace.store, self.workspace.config.run
        works = {n: self._build_unit(stage, one, settings) for n, one in enumerate(inputs)}
        watch = Stopwatch()
        found: dict[int, TableRef] = {}
        futures: dict[PrefectFuture[TableRef], int] = {}
        problems: list[tuple[str, BaseException]] = []
        cached = 0
        with self.console.stage(stage.name, len(inputs)):
            while works:
                if len(futures) >= settings_of_run.max_workers:
                    self._collect_result(futures, found, problems, inputs, stage)
                free = (n for n, work in works.items() if not store.is_claimed(work.stage, work.key))
                index = next(free, next(iter(works)))
                work = works.pop(index)
                hit = store.lookup(work.stage, work.key)
                cached += hit is not None
                own = isinstance(submit, FixedRetriesTask)
                # A hit in Prefect's cache counts only while the store still has it whole.
                bound = submit.with_options(
                    refresh_cache=hit is None,
                    retries=submit.retries if own else settings_of_run.retries,
                )
                futures[bound.submit(work)] = index
            while futures:
                self._collect_result(futures, found, problems, inputs, stage)
        stop_idle_units(stage.name)
        if problems:
            raise _combine_errors(stage.name, problems)
        refs = [found[index] for index in range(len(inputs))]
        self._raise_if_every_row_unforeseen(stage.name, refs)
        self._record_totals(stage.name, refs, len(inputs) - cached, watch.seconds())
        return refs

    def summary(self) -> RunSummary:
        return RunSummary(stages=tuple(self.console.finished_stages), notices=self.workspace.notices)

    def run_single(
        self, submit: Task[..., TableRef], inputs: FrozenModel, settings: FrozenModel
    ) -> TableRef:
        """Run a stage that has a single unit."""
        return self.run_units(submit, [inputs], settings)[0]

    def _build_unit(
        self, stage: Stage[Any, Any], inputs: FrozenModel, settings: FrozenModel
    ) -> UnitOfWork:
        timeout = self.workspace.config.run.timeout_minutes
        return UnitOfWork(
            stage=stage.name,
            unit=stage.unit(inputs),
            key=stage.key(inputs, settings),
            inputs=inputs,
            settings=settings,
            store=self.workspace.store.root,
            timeout_seconds=None if timeout is None else 60.0 * timeout,
            stall_seconds=60.0 * self.workspace.config.run.stall_timeout_minutes,
            memory_bytes=int(1e9 * self.workspace.config.run.memory_limit_gb),
        )

    def _collect_result(
        self,
        futures: dict[PrefectFuture[TableRef], int],
        found: dict[int, TableRef],
        problems: list[tuple[str, BaseException]],
        inputs: Sequence[FrozenModel],
        stage: Stage[Any, Any],
    ) -> None:
        """Wait for one of the futures and take its result."""
        future = next(iter(as_completed(list(futures))))
        index = futures.pop(future)
        unit = stage.unit(inputs[index])
        try:
            result = future.result()
        except Exception as error:
            problems.append((unit, error))
            return
        # The path in a cached result may be of a workspace that has moved: the key finds it here.
        here = self.workspace.store.lookup(stage.name, result.key)
        if here is None:
            problems.append((unit, StageFailed(f"{result.path} vanished after it was made")))
            return
        found[index] = here
        self.console.update(stage.name, unit, 1, 1, "")

    def _raise_if_every_row_unforeseen(self, name: str, refs: Sequence[TableRef]) -> None:
        """An error that meets every unit is MiMix's and no file's: raise it, and keep no rows."""
        records = [self.workspace.store.record(ref) for ref in refs]
        if not refs or any(set(one.reasons) != {Reason.UNFORESEEN_ERROR} for one in records):
            return
        rows = tables.read(refs[0].path, registry.get_stage(name).table)
        for ref in refs:
            self.workspace.store.discard(name, ref.key)
        logs = self.workspace.store.root.parent / "logs"
        raise StageFailed(
            f"every unit of stage {name} failed, {refs[0].unit} for one: {rows[0]['detail']}. "
            f"This is a bug; the traceback is in the units' logs: {logs}/{name}-*.log"
        )

    def _record_totals(self, name: str, refs: Sequence[TableRef], computed: int, seconds: float) -> None:
        reasons: dict[str, int] = {}
        for ref in refs:
            record = self.workspace.store.record(ref)
            for reason, count in record.reasons.items():
                reasons[reason] = reasons.get(reason, 0) + count
        self.refs.setdefault(name, []).extend(refs)
        self.console.finish_stage(
            StageTotals(
                stage=name,
                units=len(refs),
                computed=computed,
                counts=sum_counts([ref.counts for ref in refs]),
                reasons=reasons,
                seconds=seconds,
            )
        )
        for ref in refs:
            if ref.counts.failed:
                self.console.warn(f"{name} ({ref.unit}): {ref.counts.failed} failed, see {ref.path}")


def _combine_errors(stage: str, problems: list[tuple[str, BaseException]]) -> MimixError:
    """One error for all units of a stage that failed; bad input stays bad input."""
    text = "\n".join(f"{stage} ({unit}): {error}" for unit, error in problems)
    if all(isinstance(error, BadInput) for _, error in problems):
        return BadInput(text)
    if any(isinstance(error, Transient) for _, error in problems):
        return Transient(text)
    return StageFailed(text)
