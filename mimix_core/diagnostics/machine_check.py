"""Result of one check of the machine, the settings or the library, and a GPU's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.errors import BadInput

_GB = 1e9


class MachineCheck(FrozenModel):
    """Result of one check; ``limited`` means usable, but not for everything."""

    name: str
    state: Literal["ok", "limited", "no"]
    finding: str
    fix: str = ""


def failed_check(name: str, problem: BadInput) -> MachineCheck:
    """Build the result of a check that found a problem with the input."""
    finding = f"{problem.where}: {problem.what}" if problem.where else problem.what
    return MachineCheck(name=name, state="no", finding=finding, fix=problem.fix)


@dataclass(frozen=True)
class GpuMemory:
    """A GPU's name and its memory in bytes; ``count``: how many GPUs this machine has."""

    name: str
    free: int
    total: int
    count: int = 1

    def describe_free(self) -> str:
        """Say how much memory is free, for a person."""
        return f"{self.free / _GB:.0f} GB free ({self.name})"
