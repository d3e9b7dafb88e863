"""Writers of MiMix whose files must survive a crash, and how their readers are asked afterwards.

``python -m tests.faults.scenarios NAME FOLDER`` prepares the folder, then writes; the lines that
begin with ``crash_states.MARK`` say what the writer has promised. ``check`` reads what a crash
left and raises if it is neither the old nor the new state, or less than was promised.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.faults import cache_scenarios, engine_scenarios, project_scenarios, training_scenarios
from tests.faults.scenario import mark

MODULES = (engine_scenarios, project_scenarios, training_scenarios, cache_scenarios)
SCENARIOS = {one.name: one for module in MODULES for one in module.SCENARIOS}


def main(name: str, root: Path) -> None:
    """Prepare and run a writer."""
    scenario = SCENARIOS[name]
    scenario.prepare(root)
    mark(0)
    scenario.write(root)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
