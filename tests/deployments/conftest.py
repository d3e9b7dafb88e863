"""A project that is deployed on a server, and a client of the server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests.deployments.project_factory import write_project
from tests.deployments.site import Site, site


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("project")


@pytest.fixture(scope="module")
def server(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server on which ``mimix deploy`` has been called once."""
    settings = write_project(project)
    with site(tmp_path_factory.mktemp("site")) as made:
        made.deploy(settings)
        yield made


@pytest.fixture
def client(server: Site) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: server.url}), SyncPrefectClient(server.url) as made:
        yield made
