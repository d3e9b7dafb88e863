"""One more machine: asks for the same units as any other in a shared workspace."""

from __future__ import annotations

import sys
from pathlib import Path

from tasks.base import UnitOfWork, run_unit
from tests.tasks.obedient_stage import STAGE, ObedientInputs, ObedientSettings


def main(store: Path, diary: Path, orders: list[str]) -> None:
    for order in orders:
        inputs = ObedientInputs(unit=order, order=order, diary=str(diary))
        key = STAGE.key(inputs, ObedientSettings())
        work = UnitOfWork(
            STAGE.name, order, key, inputs, ObedientSettings(), store, 60.0, 60.0, 10**9
        )
        print(run_unit(work).model_dump_json(), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
