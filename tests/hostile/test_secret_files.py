"""Files with secrets are for their owner, whatever the umask and the folder that they are in."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import ROOT

START = """
import os, sys
os.umask(0)
from flows import prefect_environment
prefect_environment.configure_prefect()
if "server" in sys.argv:
    from prefect.server.api.server import SubprocessASGIServer
    from prefect.client.orchestration import get_client
    from prefect.blocks.system import Secret
    server = SubprocessASGIServer()
    server.start()
    os.environ["PREFECT_API_URL"] = server.api_url
    from prefect.settings import temporary_settings, PREFECT_API_URL
    with temporary_settings({PREFECT_API_URL: server.api_url}):
        Secret(value="planted-secret").save("planted")
    server.stop()
"""


def start(home: Path, *words: str) -> None:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    subprocess.run(
        [sys.executable, "-c", START, *words],
        cwd=ROOT,
        env=kept | {"PREFECT_HOME": str(home)},
        check=True,
        timeout=180,
    )


def modes(home: Path) -> dict[str, int]:
    return {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in home.iterdir()
        if path.name.startswith(("prefect.db", "profiles"))
    }


def test_a_new_folder_of_prefect_is_for_its_owner(tmp_path: Path) -> None:
    start(tmp_path / "prefect")
    assert stat.S_IMODE((tmp_path / "prefect").stat().st_mode) == 0o700


def test_secrets_in_a_folder_that_was_there_are_for_their_owner(tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    home.mkdir(mode=0o755)
    for name in ("profiles.toml", "prefect.db", "prefect.db-wal"):
        (home / name).touch(mode=0o644)
    start(home)
    assert modes(home) == dict.fromkeys(("profiles.toml", "prefect.db", "prefect.db-wal"), 0o600)


@pytest.mark.e2e
def test_a_database_that_prefect_makes_in_an_open_folder_is_for_its_owner(tmp_path: Path) -> None:
    home = tmp_path / "prefect"
    home.mkdir()
    home.chmod(0o755)
    start(home, "server")
    found = modes(home)
    assert found["prefect.db"] == 0o600
    assert not {name: mode for name, mode in found.items() if mode & 0o077}
    assert (home / "prefect.db").stat().st_size > 100_000
