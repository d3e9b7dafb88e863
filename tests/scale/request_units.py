"""Run units of a shared workspace in this process, like one of several machines."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.base import UnitOfWork, run_unit
from tests.tasks.fake_stage import STAGE, FakeInputs, FakeSettings


def main(store: Path, run_log: Path, behaviors: list[str]) -> None:
    for behavior in behaviors:
        inputs = FakeInputs(unit=behavior, behavior=behavior, run_log=str(run_log))
        key = STAGE.key(inputs, FakeSettings())
        work = UnitOfWork(
            STAGE.name, behavior, key, inputs, FakeSettings(), store, 60.0, 60.0, 10**9
        )
        print(run_unit(work).model_dump_json(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
