"""Configure Prefect for a run from the shell, before Prefect is imported.

Variables that are already set take precedence. A worker gets the same values from its deployment.
"""

import os
from pathlib import Path

DEFAULTS = {
    # No telemetry.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The first start creates a database: 18 to 26 s were measured, the default limit is 20 s.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # MiMix prints progress itself, and each error once at the end. The server would log requests
    # that the end of a run interrupted.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
}


def configure_prefect() -> None:
    """Set unset variables and create Prefect's folder, whose parents Prefect does not create."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if "PREFECT_HOME" in os.environ:
        Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
