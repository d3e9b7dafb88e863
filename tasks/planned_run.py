"""Find out what a run would compute, why, and about how long it would take; compute nothing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar

from prefect.tasks import Task

from mimix_core import tables
from mimix_core.engine import registry
from mimix_core.engine.artifacts import Counts, FrozenModel, TableRef
from mimix_core.engine.cache_key import changed_parts, key_parts
from mimix_core.engine.stage import Stage
from mimix_core.engine.store import StageRecord, Store
from mimix_core.stages.duplicates.stage import (
    EPISODES_FOLDER,
    DuplicateInputs,
    deduplicated_clip_tables,
)
from mimix_core.tables import Row
from mimix_core.wan.model_registry import get_backbone
from tasks.base import Run

_EXPECTED = "expected-"
"""Start of the content of a table that does not exist yet: no key that covers it exists."""


@dataclass(frozen=True)
class PlannedUnit:
    """What a run would do with one unit.

    ``state``: ``cached``; ``compute``; or ``perhaps``: computed only if a unit before it, which is
    computed, has other rows than last time. ``why``: what changed since the unit's last result.
    ``seconds``: how long it took last time, or units of its stage on average; None: unknown.
    """

    stage: str
    unit: str
    state: str
    why: str = ""
    seconds: float | None = None


@dataclass
class PlannedRun(Run):
    """A run that looks up results and assumes that units to compute have the rows of last time.

    A unit without an earlier result has an empty table below ``scratch``.
    """

    computes: ClassVar[bool] = False

    scratch: Path = field(default_factory=Path)
    units: list[PlannedUnit] = field(default_factory=list)
    _uncertain: set[str] = field(default_factory=set)
    _newest: dict[tuple[str, str], StageRecord] = field(default_factory=dict)
    _stage_seconds: dict[str, list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        store = self.workspace.store
        ages: dict[tuple[str, str], int] = {}
        for record in store.records():
            name = (record.stage, record.unit)
            age = (store.folder(record.stage, record.key) / store.RECORD).stat().st_mtime_ns
            if ages.get(name, -1) < age:
                ages[name], self._newest[name] = age, record
        for record in self._newest.values():
            self._stage_seconds.setdefault(record.stage, []).append(record.seconds)

    def run_units(
        self, task: Task[..., TableRef], inputs: Sequence[FrozenModel], settings: FrozenModel
    ) -> list[TableRef]:
        """Plan a stage; return the tables that it has, or had last time."""
        stage = registry.get_stage(str(task.name))
        return [self._plan_unit(stage, one, settings) for one in inputs]

    def _plan_unit(
        self, stage: Stage[Any, Any], inputs: FrozenModel, settings: FrozenModel
    ) -> TableRef:
        store = self.workspace.store
        name, unit = stage.name, stage.unit(inputs)
        uncertain = sorted(
            {ref.stage for ref in find_tables(inputs) if _content(ref) in self._uncertain}
        )
        found = store.lookup(name, stage.key(inputs, settings))
        last = self._newest.get((name, unit))
        seconds = self._estimate_seconds(name, last)
        if found is not None and not uncertain:
            self.units.append(PlannedUnit(name, unit, "cached"))
            return found
        if found is not None:
            why = f"only if rows of {' or '.join(uncertain)} change"
            self.units.append(PlannedUnit(name, unit, "perhaps", why, seconds))
            self._uncertain.add(_content(found))
            return found
        why = describe_change(stage, inputs, settings, last)
        self.units.append(PlannedUnit(name, unit, "compute", why, seconds))
        ref = self._expected_table(stage, inputs, last)
        self._uncertain.add(_content(ref))
        if isinstance(inputs, DuplicateInputs):
            changed = [clips for clips in inputs.clips if _content(clips) in self._uncertain]
            self._uncertain |= {_content(t) for t in deduplicated_clip_tables(ref, changed)}
        return ref

    def _estimate_seconds(self, stage: str, last: StageRecord | None) -> float | None:
        if last is not None:
            return last.seconds
        known = self._stage_seconds.get(stage)
        return sum(known) / len(known) if known else None

    def _expected_table(
        self, stage: Stage[Any, Any], inputs: FrozenModel, last: StageRecord | None
    ) -> TableRef:
        """Return the unit's last table if it can be read, else an empty one."""
        store = self.workspace.store
        ref = None
        if last is not None and last.version == stage.version:
            ref = store.lookup(stage.name, last.key)
        if ref is not None and stage.name == "backbone":
            found = {row["component"] for row in tables.read(ref.path, tables.BACKBONE)}
            ref = ref if found == set(self._components()) else None
        if ref is None or isinstance(inputs, DuplicateInputs):
            ref = self._scratch_table(stage, inputs, ref)
        return ref

    def _components(self) -> tuple[str, ...]:
        return get_backbone(self.workspace.config.backbone.name).components

    def _scratch_table(
        self, stage: Stage[Any, Any], inputs: FrozenModel, last: TableRef | None
    ) -> TableRef:
        unit = stage.unit(inputs)
        key = f"{_EXPECTED}{len(self.units)}"
        folder = self.scratch / stage.name / key
        folder.mkdir(parents=True)
        rows = _backbone_rows(self._components()) if stage.name == "backbone" else []
        path = folder / Store.TABLE
        tables.write(path, stage.table, rows, stage_key=key)
        if isinstance(inputs, DuplicateInputs):
            _expect_verdicts(inputs.clips, folder, last)
        counts = Counts(rows_in=len(rows), ok=len(rows), rejected=0, failed=0)
        return TableRef(
            stage=stage.name,
            unit=unit,
            key=key,
            sha256=key,
            path=path,
            counts=counts,
            content=key if last is None else _content(last),
        )


def plan_run(open_run: Callable[[Path], PlannedRun], walk: Callable[[Run], None]) -> PlannedRun:
    """Walk through the stages with a planned run, whose scratch folder exists meanwhile."""
    with TemporaryDirectory(prefix="mimix-plan-") as scratch:
        run = open_run(Path(scratch))
        walk(run)
    return run


def describe_change(
    stage: Stage[Any, Any],
    inputs: FrozenModel,
    settings: FrozenModel,
    last: StageRecord | None,
) -> str:
    """Say what changed since the unit's last result."""
    if last is None:
        return "not computed yet"
    if last.version != stage.version:
        return f"the stage itself changed (version {last.version} -> {stage.version})"
    if not last.key_parts:
        return "other inputs or settings than last time"
    changes = changed_parts(last.key_parts, key_parts(inputs, settings))
    return ", ".join(changes) or "its result was removed or is damaged"


def find_tables(value: Any) -> Iterator[TableRef]:
    """Find all table references within a unit's inputs."""
    if isinstance(value, TableRef):
        yield value
    elif isinstance(value, FrozenModel):
        for name in type(value).model_fields:
            yield from find_tables(getattr(value, name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from find_tables(item)


def _content(ref: TableRef) -> str:
    return ref.content or ref.sha256


def _expect_verdicts(clips: Sequence[TableRef], folder: Path, last: TableRef | None) -> None:
    """Write each episode's clips as duplicate detection left them last time, else as they are."""
    (folder / EPISODES_FOLDER).mkdir()
    for ref in clips:
        name = f"{ref.key}.parquet"
        before = last.folder / EPISODES_FOLDER / name if last is not None else ref.path
        shutil.copyfile(before if before.exists() else ref.path, folder / EPISODES_FOLDER / name)


def _backbone_rows(components: Sequence[str]) -> list[Row]:
    return [
        tables.ok(
            component=name, backbone="", folder=name, sha256=f"{_EXPECTED}{name}", parameters=0
        )
        for name in components
    ]
