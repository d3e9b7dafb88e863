"""Prefect's settings for a run from the shell, set before Prefect is imported.

What the person has set stays. A worker gets the same from its deployment.
"""

import os
from pathlib import Path

DEFAULTS = {
    # Nothing is sent outside.
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    # The first start makes a database: 18 to 26 s were measured, the default gives up after 20.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "PREFECT_RESULTS_DEFAULT_SERIALIZER": "json",
    # The board speaks on the console, and an error is told once, in plain words, at the end. The
    # server's own log is of requests that the end of a run cut off.
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_CLI_PROMPT": "false",
}


def configure_prefect() -> None:
    """Set what is not set yet, and make Prefect's folder: Prefect makes no parents of it."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if "PREFECT_HOME" in os.environ:
        Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
