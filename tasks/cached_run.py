"""What earlier runs left in the store, found by the same way of the data that made it."""

from __future__ import annotations

from collections.abc import Sequence

from prefect.tasks import Task

from mimix_core.engine import registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.errors import BadInput
from tasks.base import Run


class MissingResult(BadInput):
    """A result that no run has made yet."""


class ReadOnlyRun(Run):
    """A run that computes nothing: each stage gives what is there. Needs no Prefect server."""

    def run_units(
        self, submit: Task[..., TableRef], inputs: Sequence[FrozenModel], settings: FrozenModel
    ) -> list[TableRef]:
        """The stage's tables, in the order of ``inputs``. Raises NotMade when one is not there."""
        stage = registry.get_stage(str(submit.name))
        refs = []
        for unit in inputs:
            ref = self.workspace.store.lookup(stage.name, stage.key(unit, settings))
            if ref is None:
                raise MissingResult(
                    f"no {stage.name} of {stage.unit(unit)} with these settings",
                    fix="Run it first, e.g. mimix curate",
                )
            refs.append(ref)
        return refs
