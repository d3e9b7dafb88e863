"""What the operator's commands say where something is missing."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from typer.testing import CliRunner

from flows.cli import app
from tests.deployments.project_factory import write_project

runner = CliRunner()


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_project(tmp_path_factory.mktemp("project"))


@pytest.mark.parametrize("command", ["deploy", "watch"])
def test_without_a_server_it_says_how_to_get_one(settings: Path, command: str) -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        result = runner.invoke(app, [command, str(settings)])
    assert result.exit_code == 2
    assert f"mimix {command} needs a Prefect server" in result.output
    assert "prefect server start" in result.output


def test_deploy_does_not_wait_for_a_server_that_is_not_there(
    settings: Path,
) -> None:
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        result = runner.invoke(app, ["deploy", str(settings)])
    assert result.exit_code == 2
    assert "no Prefect server responds at http://127.0.0.1:9/api" in result.output
