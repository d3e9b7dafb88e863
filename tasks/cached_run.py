"""Look up the results of earlier runs by executing the flows without computing anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from prefect.tasks import Task

from mimix_core.engine import registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.flow_phases import command_of_phase
from mimix_core.errors import BadInput
from tasks.base import Run


class MissingResult(BadInput):
    """A result that no run has computed yet."""


class ReadOnlyRun(Run):
    """A run that only looks results up, without a Prefect server; it computes nothing.

    ``refs`` holds the results found, also those of a stage of which other units are missing.
    """

    computes: ClassVar[bool] = False

    def run_units(
        self, task: Task[..., TableRef], inputs: Sequence[FrozenModel], settings: FrozenModel
    ) -> list[TableRef]:
        """Return the stage's tables in the order of ``inputs``. Raises MissingResult."""
        stage = registry.get_stage(str(task.name))
        store = self.workspace.store
        found = [store.lookup(stage.name, stage.key(one, settings)) for one in inputs]
        refs = [ref for ref in found if ref is not None]
        if refs:
            self.refs.setdefault(stage.name, []).extend(refs)
        missing = [stage.unit(one) for one, ref in zip(inputs, found, strict=True) if ref is None]
        if missing:
            others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
            raise MissingResult(
                f"no {stage.name} of {missing[0]}{others} with these settings",
                where=str(self.workspace.config.workspace),
                fix=f"Run it first: {command_of_phase(stage.phase)}, with the same settings file.",
            )
        return refs
