"""Result of one check of the machine, the settings or the library."""

from __future__ import annotations

from typing import Literal

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.errors import BadInput


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
