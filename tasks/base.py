"""Run stages as Prefect tasks: cached by stage key, retried where a retry can help.

A task run is one unit of one stage (an episode, a shard), never one clip (docs/decisions/0001).
"""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Any, ClassVar, ParamSpec, TypeVar

from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.cache_policies import CachePolicy
from prefect.context import TaskRunContext
from prefect.futures import PrefectFuture, as_completed
from prefect.tasks import Task, exponential_backoff

from mimix_core.engine import registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.row_reasons import summarize_reasons
from mimix_core.engine.stage import Stage, commit_failed_unit
from mimix_core.engine.store import Store
from mimix_core.engine.text_escaping import escape_markdown
from mimix_core.engine.worker import UnitReply, UnitRequest, build_request
from mimix_core.errors import BadInput, MimixError, StageFailed, Transient
from mimix_core.project.workspace import Workspace
from mimix_core.settings.extension_settings import validate_extension
from mimix_core.wan.samples_stage import VIDEO_FOLDER
from tasks.console_progress import ConsoleProgress, Stopwatch
from tasks.run_summary import RunSummary, StageTotals, sum_counts
from tasks.server_connection import best_effort
from tasks.subprocess_runner import ProgressCallback, UnitDied, run_in_subprocess, stop_idle_units
from tasks.unforeseen_failures import (
    discard_unforeseen_failures,
    raise_if_every_unit_unforeseen,
)

P = ParamSpec("P")
R = TypeVar("R")

PROGRESS_SECONDS = 15.0
"""Minimum time between two updates of a progress artifact, each a request to the server. Every 3 s
they cost as much as everything else that Prefect does (perf/orchestration.py)."""


@dataclass(frozen=True)
class UnitOfWork:
    """One unit of one stage; any process that can access the store can run it."""

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
    """Use the stage key, which covers content, settings and version, as Prefect's cache key."""

    def compute_key(
        self,
        task_ctx: TaskRunContext,
        inputs: dict[str, Any],
        flow_parameters: dict[str, Any],
        **kwargs: Any,
    ) -> str | None:
        """Return the stage key of the unit."""
        work = inputs["work"]
        assert isinstance(work, UnitOfWork)
        return work.key


def is_retryable(task: Task[..., Any], task_run: Any, state: Any) -> bool:
    """Return whether a retry can help: only after Transient errors, not bad input or bugs."""
    try:
        state.result()
    except Transient:
        return True
    except Exception:
        return False
    return False


# Consoles of the runs in this process, by store. A task that runs in another process (a Dask
# worker) finds no console and reports its progress to Prefect only.
_consoles: dict[Path, ConsoleProgress] = {}


def run_unit(work: UnitOfWork) -> TableRef:
    """Run the unit in a subprocess unless the store already has its result.

    Waits while another run, or another machine, computes the same unit. If the unit kills its
    process and the stage defines ``failed_rows``, those rows are the result; all other failures are
    raised.
    """
    store = Store(work.store)
    progress = _ProgressReporter(work)
    with store.claim(
        work.stage, work.key, lambda: progress.report(0, 1, "being computed by another run")
    ):
        return store.lookup(work.stage, work.key) or _compute_unit(store, work, progress.report)


def _compute_unit(store: Store, work: UnitOfWork, on_progress: ProgressCallback) -> TableRef:
    stage = registry.get_stage(work.stage)
    logs = work.store.parent / "logs"
    log = logs / f"{work.stage}-{_log_file_name(work.unit)}-{work.key[:8]}.log"
    # Only stages that read files of unknown origin get a memory limit: a large model may need more
    # memory than a video should.
    limit = work.memory_bytes if stage.failed_rows is not None else None
    request = build_request(stage, store, work.inputs, work.settings, log, memory_bytes=limit)
    try:
        reply = _run_with_second_attempt(stage, work, request, on_progress)
    except UnitDied as error:
        if stage.failed_rows is None:
            raise
        return commit_failed_unit(
            store, stage, work.inputs, work.settings, error.reason, error.detail
        ).ref
    if reply.ref is None or reply.ref.key != work.key:
        raise StageFailed(
            f"stage {work.stage} ({work.unit}) returned a result for another key; this is a bug"
        )
    return reply.ref


def _run_with_second_attempt(
    stage: Stage[Any, Any], work: UnitOfWork, request: UnitRequest, on_progress: ProgressCallback
) -> UnitReply:
    """Run the unit; try a second process before the first one's death is final.

    The kernel may have killed the first for memory, for which units volunteer. What a unit finished
    before, it does not repeat.
    """
    stall_seconds = work.stall_seconds if stage.failed_rows is not None else None
    try:
        return run_in_subprocess(
            request,
            timeout_seconds=work.timeout_seconds,
            stall_seconds=stall_seconds,
            on_progress=on_progress,
        )
    except UnitDied as error:
        if not error.is_retryable:
            raise
    return run_in_subprocess(
        request.model_copy(update={"log": request.log.with_suffix(".again.log")}),
        timeout_seconds=work.timeout_seconds,
        stall_seconds=stall_seconds,
        new_process=True,
        on_progress=on_progress,
    )


def _log_file_name(unit: str) -> str:
    """Convert a unit's name to a file name; the stage key next to it keeps file names unique."""
    return re.sub(r"[^\w.-]", "_", unit)[:60]


class _ProgressReporter:
    """Report a unit's progress to the console, and periodically to a Prefect artifact."""

    def __init__(self, work: UnitOfWork) -> None:
        self._work = work
        self._context = TaskRunContext.get()
        self._artifact: Any = None
        self._last_sent = time.monotonic()

    def report(self, done: int, total: int, note: str) -> None:
        console = _consoles.get(self._work.store)
        if console is not None:
            console.update(self._work.stage, self._work.unit, done, total, note)
        if self._context is None or time.monotonic() - self._last_sent < PROGRESS_SECONDS:
            return
        self._last_sent = time.monotonic()
        percent = 100.0 * done / total if total else 100.0
        text = ": ".join(filter(None, [f"{self._work.stage} {self._work.unit}", note]))
        with best_effort("the progress of a unit"):
            if self._artifact is None:
                self._artifact = create_progress_artifact(
                    percent, description=escape_markdown(text)
                )
            else:
                update_progress_artifact(self._artifact, percent, description=escape_markdown(text))


class FixedRetriesTask(Task[P, R]):
    """A task with its own number of retries, which ``run.retries`` does not change."""


def stage_task(name: str, **options: Any) -> Task[..., TableRef]:
    """Create the Prefect task of a stage; ``options`` are Prefect's and replace the defaults.

    An explicit ``retries`` takes precedence over the settings. There are no tags: a task run with a
    tag asks the server for a concurrency slot, which takes 0.3 s or more per unit.
    """
    task_type = FixedRetriesTask if "retries" in options else Task
    return task_type(
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
    """A flow run: its workspace, its console, and the tables computed or looked up so far.

    ``computes``: False for runs that must not change anything in the workspace. ``store_use``: the
    run's own ``Store.in_use``; None in tests and other short uses.
    """

    computes: ClassVar[bool] = True

    workspace: Workspace
    console: ConsoleProgress = field(default_factory=ConsoleProgress)
    refs: dict[str, list[TableRef]] = field(default_factory=dict)
    store_use: FileIO | None = None

    def __post_init__(self) -> None:
        _consoles[self.workspace.store.root] = self.console
        for notice in self.workspace.notices:
            self.console.warn(notice)

    def run_units(
        self, task: Task[..., TableRef], inputs: Sequence[FrozenModel], settings: FrozenModel
    ) -> list[TableRef]:
        """Run one stage over its units, at most ``run.max_workers`` at a time.

        Returns the tables in the order of ``inputs``. Units that another run is computing come
        last: two runs in one workspace share the work. A unit that fails does not stop the others;
        afterwards one error is raised that names each failed unit.
        """
        stage = registry.get_stage(str(task.name))
        store, run_settings = self.workspace.store, self.workspace.config.run
        pending = {
            index: self._build_unit(stage, unit_inputs, settings)
            for index, unit_inputs in enumerate(inputs)
        }
        keys = [work.key for work in pending.values()]
        discard_unforeseen_failures(store, stage.name, keys, self.store_use)
        watch = Stopwatch()
        refs: dict[int, TableRef] = {}
        futures: dict[PrefectFuture[TableRef], int] = {}
        errors: list[tuple[str, BaseException]] = []
        cached = 0
        with self.console.stage(stage.name, len(inputs)):
            while pending:
                if len(futures) >= run_settings.max_workers:
                    self._collect_result(futures, refs, errors, inputs, stage)
                unclaimed = (
                    index
                    for index, work in pending.items()
                    if not store.is_claimed(work.stage, work.key)
                )
                index = next(unclaimed, next(iter(pending)))
                work = pending.pop(index)
                hit = store.lookup(work.stage, work.key)
                cached += hit is not None
                has_fixed_retries = isinstance(task, FixedRetriesTask)
                # A hit in Prefect's cache counts only if the store still has the complete result.
                configured = task.with_options(
                    refresh_cache=hit is None,
                    retries=task.retries if has_fixed_retries else run_settings.retries,
                )
                futures[configured.submit(work)] = index
            while futures:
                self._collect_result(futures, refs, errors, inputs, stage)
        stop_idle_units(stage.name)
        if errors:
            raise _combine_errors(stage.name, errors)
        ordered = [refs[index] for index in range(len(inputs))]
        raise_if_every_unit_unforeseen(store, ordered, self.store_use)
        self._record_totals(stage.name, ordered, len(inputs) - cached, watch.seconds())
        return ordered

    def run_single(
        self, task: Task[..., TableRef], inputs: FrozenModel, settings: FrozenModel
    ) -> TableRef:
        """Run a stage that has a single unit."""
        return self.run_units(task, [inputs], settings)[0]

    def settings_for(self, stage_name: str) -> FrozenModel:
        """Return the settings of a stage from outside MiMix, validated by the stage's own model.

        ``stage_name`` is the dotted name of its module; the values come from the section
        ``extensions`` of the settings file, or are the model's defaults. Raises BadInput.
        """
        return validate_extension(self.workspace.config.extensions, stage_name)

    def summary(self) -> RunSummary:
        """Summarize the stages that have finished so far."""
        samples = self.refs.get("samples", [])
        return RunSummary(
            stages=tuple(self.console.finished_stages),
            notices=self.workspace.notices,
            adapter_folders=tuple(ref.folder for ref in self.refs.get("lora", [])),
            video_folder=samples[0].folder / VIDEO_FOLDER if samples else None,
        )

    def _build_unit(
        self, stage: Stage[Any, Any], inputs: FrozenModel, settings: FrozenModel
    ) -> UnitOfWork:
        run_settings = self.workspace.config.run
        timeout = run_settings.timeout_minutes
        return UnitOfWork(
            stage=stage.name,
            unit=stage.unit(inputs),
            key=stage.key(inputs, settings),
            inputs=inputs,
            settings=settings,
            store=self.workspace.store.root,
            timeout_seconds=None if timeout is None else 60.0 * timeout,
            stall_seconds=60.0 * run_settings.stall_timeout_minutes,
            memory_bytes=int(1e9 * run_settings.memory_limit_gb),
        )

    def _collect_result(
        self,
        futures: dict[PrefectFuture[TableRef], int],
        refs: dict[int, TableRef],
        errors: list[tuple[str, BaseException]],
        inputs: Sequence[FrozenModel],
        stage: Stage[Any, Any],
    ) -> None:
        """Wait until one of the futures is done, and move its result to ``refs`` or ``errors``."""
        future = next(iter(as_completed(list(futures))))
        index = futures.pop(future)
        unit = stage.unit(inputs[index])
        try:
            result = future.result()
        except Exception as error:
            errors.append((unit, error))
            return
        # A cached result may hold a path of a workspace that was moved since: look up by key.
        ref = self.workspace.store.lookup(stage.name, result.key)
        if ref is None:
            errors.append((unit, StageFailed(f"{result.path} disappeared after it was written")))
            return
        refs[index] = ref
        self.console.update(stage.name, unit, 1, 1, "")

    def _record_totals(
        self, name: str, refs: Sequence[TableRef], computed: int, seconds: float
    ) -> None:
        reasons: Counter[str] = Counter()
        for ref in refs:
            reasons.update(self.workspace.store.record(ref).reasons)
        self.refs.setdefault(name, []).extend(refs)
        self.console.finish_stage(
            StageTotals(
                stage=name,
                units=len(refs),
                computed=computed,
                counts=sum_counts([ref.counts for ref in refs]),
                reasons=dict(reasons),
                seconds=seconds,
                mostly_failed=tuple(
                    ref.unit
                    for ref in refs
                    if ref.counts.rows_in > 1 and 2 * ref.counts.failed > ref.counts.rows_in
                ),
                reason_summaries=tuple(summarize_reasons(refs)),
            )
        )
        for ref in refs:
            if ref.counts.failed:
                self.console.warn(
                    f"{name} ({ref.unit}): {ref.counts.failed} failed, see {ref.path}"
                )


def _combine_errors(stage: str, errors: list[tuple[str, BaseException]]) -> MimixError:
    """Combine the errors of all failed units; the result is BadInput only if all of them are."""
    text = "\n".join(f"{stage} ({unit}): {error}" for unit, error in errors)
    if all(isinstance(error, BadInput) for _, error in errors):
        return BadInput(text)
    if any(isinstance(error, Transient) for _, error in errors):
        return Transient(text)
    return StageFailed(text)
