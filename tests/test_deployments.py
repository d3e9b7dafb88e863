"""deployments/prefect.yaml names flows that exist."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import yaml
from prefect import Flow

ROOT = Path(__file__).parent.parent
SPEC = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())


def test_every_deployment_runs_a_flow_whose_form_is_the_settings() -> None:
    assert len(SPEC["deployments"]) == 5
    for deployment in SPEC["deployments"]:
        path, name = deployment["entrypoint"].split(":")
        assert (ROOT / path).is_file()
        flow = getattr(import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert isinstance(flow, Flow)
        assert flow.name == deployment["name"]
        assert list(flow.parameters.properties) == ["config"]


def test_docker_folder_does_not_shadow_the_docker_sdk() -> None:
    assert not (ROOT / "docker" / "__init__.py").exists()
