"""Find the results of a store that runs with given settings use, and those that they do not."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from prefect.tasks import Task

from mimix_core.engine import registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.store import StageRecord, Store
from mimix_core.errors import BadInput
from mimix_core.project.workspace import Workspace
from tasks.cached_run import MissingResult, ReadOnlyRun


@dataclass
class _UsedResults(ReadOnlyRun):
    """A run that notes the keys of all results it finds, and the stages it found completely."""

    keys: set[tuple[str, str]] = field(default_factory=set)
    complete: set[str] = field(default_factory=set)

    def run_units(
        self, task: Task[..., TableRef], inputs: Sequence[FrozenModel], settings: FrozenModel
    ) -> list[TableRef]:
        """Look up all units of a stage. Raises MissingResult after noting those that exist."""
        stage = registry.get_stage(str(task.name))
        store = self.workspace.store
        found = [store.lookup(stage.name, stage.key(unit, settings)) for unit in inputs]
        refs = [ref for ref in found if ref is not None]
        self.keys |= {(stage.name, ref.key) for ref in refs}
        if len(refs) < len(inputs):
            self.complete.discard(stage.name)
            raise MissingResult(f"no {stage.name} of every unit", fix="Run it first.")
        self.complete.add(stage.name)
        return refs


@dataclass(frozen=True)
class UnusedResult:
    """A result that can be removed, with the reason and its size in bytes."""

    stage: str
    key: str
    unit: str
    reason: str
    size: int


@dataclass(frozen=True)
class UnusedResults:
    """Results that can be removed, and the stages that could not be judged, with the reason."""

    results: tuple[UnusedResult, ...]
    undecided: tuple[str, ...]
    reason: str


def find_unused_results(
    workspaces: Sequence[Workspace], walk: Callable[[ReadOnlyRun], object], report: Path
) -> UnusedResults:
    """Find results that no run with the settings of these workspaces would look up.

    All workspaces have the same store. ``walk`` executes the stages of the flows in order. A result
    of an earlier version of its stage is never used. Other results are judged only if their stage
    was found complete with all settings: as long as one episode is not processed, nobody knows
    which results of later stages belong to the others. The target of the link ``report`` is used.
    """
    used: set[tuple[str, str]] = set()
    complete: set[str] | None = None
    reasons = []
    with tempfile.TemporaryDirectory(prefix="mimix-") as empty:
        for workspace in workspaces:
            run = _UsedResults(_without_side_effects(workspace, Path(empty)))
            try:
                walk(run)
            except BadInput as error:
                reasons.append(str(error))
            used |= run.keys
            complete = run.complete if complete is None else complete & run.complete
    store = workspaces[0].store
    if report.exists():
        used.add(("report", report.resolve().name))
    results, undecided = [], set()
    for record in store.records():
        if (record.stage, record.key) in used:
            continue
        version = _current_version(record.stage)
        if version is None:
            undecided.add(record.stage)
        elif record.version != version:
            results.append(_unused(store, record, f"of version {record.version} of the stage"))
        elif record.stage in (complete or ()) or record.stage == "report":
            results.append(_unused(store, record, "of other settings or files"))
        else:
            undecided.add(record.stage)
    return UnusedResults(tuple(results), tuple(sorted(undecided)), "; ".join(reasons))


def _without_side_effects(workspace: Workspace, empty: Path) -> Workspace:
    """Return the workspace for a look-up: no approval is asked, no partial result is removed."""
    run = workspace.config.run.model_copy(update={"require_approval": False, "review_share": 0})
    config = workspace.config.model_copy(update={"workspace": empty, "run": run})
    return replace(workspace, config=config, notices=())


def _current_version(stage: str) -> int | None:
    """Return the version of a stage; None for one that is not part of MiMix."""
    try:
        return registry.get_stage(stage).version
    except (ImportError, BadInput, KeyError):
        return None


def _unused(store: Store, record: StageRecord, reason: str) -> UnusedResult:
    return UnusedResult(
        record.stage,
        record.key,
        record.unit,
        reason,
        sum(stored.size for stored in record.files),
    )
