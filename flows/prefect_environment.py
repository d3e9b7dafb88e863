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

DATABASE = "prefect.db"
SECRET_FILES = ("profiles.toml", f"{DATABASE}*")
"""Files of Prefect's folder that may contain secrets."""


def configure_prefect() -> None:
    """Set unset variables and create Prefect's folder, whose parents Prefect does not create.

    The folder holds secrets (the server's password in a profile, the database with its Secret
    blocks), so only its owner may read it.
    """
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    if home.stat().st_mode & 0o077 and os.access(home, os.W_OK):
        # Others may enter: SQLite would create the database for all to read, and gives the files
        # beside it the mode that it has.
        (home / DATABASE).touch(mode=0o600)
    for pattern in SECRET_FILES:
        for path in home.glob(pattern):
            stats = path.stat()
            if stats.st_uid == os.getuid() and stats.st_mode & 0o077:
                path.chmod(0o600)
