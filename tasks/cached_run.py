"""Look up the results of earlier runs by executing the flows without computing anything."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.tasks import Task

from mimix_core.engine import registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.errors import BadInput
from tasks.base import Run


class MissingResult(BadInput):
    """A result that no run has computed yet."""


class ReadOnlyRun(Run):
    """A run that only looks results up, without a Prefect server; it computes nothing."""

    def run_units(
        self, task: Task[..., TableRef], inputs: Sequence[FrozenModel], settings: FrozenModel
    ) -> list[TableRef]:
        """Return the stage's tables in the order of ``inputs``. Raises MissingResult."""
        stage = registry.get_stage(str(task.name))
        refs = []
        for unit_inputs in inputs:
            ref = self.workspace.store.lookup(stage.name, stage.key(unit_inputs, settings))
            if ref is None:
                raise MissingResult(
                    f"no {stage.name} of {stage.unit(unit_inputs)} with these settings",
                    fix="Run it first, e.g. mimix curate",
                )
            refs.append(ref)
        return refs
