"""Steps of deployments/prefect.yaml that run while it is deployed."""

from __future__ import annotations

import sys
from pathlib import Path

from mimix_core.errors import BadInput


def require_home(home: str = "") -> dict[str, str]:
    """Check that MIMIX_HOME is the folder of MiMix on the workers. Raises BadInput.

    It is empty when ``prefect deploy`` is called by hand without the variable; every run would then
    fail on the worker.
    """
    if not home or "MIMIX_HOME" in home or not Path(home).is_absolute():
        error = BadInput(
            "is not set to an absolute path, but the deployments need it: it is MiMix's folder on "
            "the workers, e.g. this checkout",
            where="environment variable MIMIX_HOME",
            fix="Run MIMIX_HOME=$PWD prefect --no-prompt deploy --prefect-file "
            "deployments/prefect.yaml --all, or mimix deploy SETTINGS, which sets it.",
        )
        # Prefect prints the name of the step that failed, but not why.
        sys.stderr.write(f"error: {error}\n")
        raise error
    return {}
