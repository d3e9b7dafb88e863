"""Look up the results of earlier runs by executing the flows without computing anything."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from prefect.tasks import Task

from mimix_core.engine import registry
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.flow_phases import command_of_phase
from mimix_core.engine.stage import Stage
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
        keys = [stage.key(one, settings) for one in inputs]
        found = [store.lookup(stage.name, key) for key in keys]
        refs = [ref for ref in found if ref is not None]
        if refs:
            self.refs.setdefault(stage.name, []).extend(refs)
        missing = [
            (stage.unit(one), key)
            for one, key, ref in zip(inputs, keys, found, strict=True)
            if ref is None
        ]
        if missing:
            raise self._describe_missing(stage, missing)
        return refs

    def _describe_missing(
        self, stage: Stage[Any, Any], missing: Sequence[tuple[str, str]]
    ) -> MissingResult:
        """Return the error for units, each with its key, whose results cannot be used."""
        command = f"{command_of_phase(stage.phase)}, with the same settings file"
        for unit, key in missing:
            folder = self.workspace.store.folder(stage.name, key)
            if folder.exists():
                return MissingResult(
                    f"the stored {stage.name} of {unit} are incomplete or changed",
                    where=str(folder),
                    fix=f"Compute them again: {command}. `mimix store verify` checks all results.",
                )
        others = f" and {len(missing) - 1} others" if len(missing) > 1 else ""
        return MissingResult(
            f"no {stage.name} of {missing[0][0]}{others} with these settings",
            where=str(self.workspace.config.workspace),
            fix=f"Run it first: {command}.",
        )
