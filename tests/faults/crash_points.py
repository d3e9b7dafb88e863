"""Try a writer at every point at which a crash may stop it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.faults.crash_states import replay
from tests.faults.disk import Disk
from tests.faults.scenario import Scenario
from tests.faults.syscalls import record_calls


@dataclass(frozen=True)
class Trial:
    """How many crash points and states a writer was tried at; ``bad``: what readers found wrong.

    ``model_is_exact``: the recorded calls lead to just the files that were there in the end.
    """

    points: int
    states: int
    bad: tuple[str, ...]
    model_is_exact: bool


def find_strace() -> str | None:
    """Return the path of strace, which not every machine has."""
    return shutil.which("strace")


def try_scenario(scenario: Scenario, folder: Path) -> Trial:
    """Record a writer, then let its reader look at every state that a crash may leave."""
    root, state_folder = folder / "root", folder / "state"
    root.mkdir()
    calls = record_calls(
        ["-m", "tests.faults.scenarios", scenario.name, str(root)], folder / "calls"
    )
    disk = Disk(root)
    points = states = 0
    bad = []
    for point in replay(disk, calls):
        points += 1
        for state in point.states:
            states += 1
            state_folder.mkdir()
            state.write(state_folder)
            try:
                scenario.check(state_folder, int(point.promised))
            except Exception as error:  # whatever it is, it is what a user would see
                bad.append(f"{state.kind} after {point.call}: {type(error).__name__}: {error}")
            shutil.rmtree(state_folder)
    return Trial(points, states, tuple(bad), disk.files() == _files(root))


def _files(root: Path) -> dict[str, bytes | str | None]:
    found: dict[str, bytes | str | None] = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = str(path.readlink())
        else:
            found[name] = None if path.is_dir() else path.read_bytes()
    return found
