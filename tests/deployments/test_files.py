"""The files of deployments/: they name flows that exist, and Prefect takes them as they are."""

from __future__ import annotations

import re
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.events import DeploymentTriggerTypes
from prefect.events.schemas.automations import AutomationCore, Posture
from prefect.utilities.callables import parameter_schema
from pydantic import TypeAdapter

from flows.deployed_state import choose_name
from flows.deployment import NOTIFY_PLACEHOLDER, DeploymentTarget, render_deployments
from flows.deployment_steps import require_home
from flows.prefect_environment import DEFAULTS
from mimix_core.errors import BadInput
from mimix_core.settings import Config, load_config
from tests.deployments.project_factory import write_project

ROOT = Path(__file__).parent.parent.parent
SPEC = yaml.safe_load((ROOT / "deployments" / "prefect.yaml").read_text())
AUTOMATIONS = yaml.safe_load((ROOT / "deployments" / "automations.yaml").read_text())["automations"]


def flow_of(deployment: dict[str, Any]) -> Flow[Any, Any]:
    path, name = deployment["entrypoint"].split(":")
    assert (ROOT / path).is_file()
    flow = getattr(import_module(path.removesuffix(".py").replace("/", ".")), name)
    assert isinstance(flow, Flow)
    return flow


def test_every_flow_is_deployed_and_its_form_is_the_settings() -> None:
    named = {deployment["name"] for deployment in SPEC["deployments"]}
    written = {
        name
        for path in (ROOT / "flows").glob("*.py")
        for name in re.findall(r'@flow\(name="([\w-]+)"', path.read_text())
    }
    assert named == written
    for deployment in SPEC["deployments"]:
        flow = flow_of(deployment)
        assert flow.name == deployment["name"]
        assert list(flow.parameters.properties) == ["config"]
        assert "mimix" in deployment["tags"]


def test_what_trains_or_generates_waits_for_a_gpu() -> None:
    queues = {d["name"]: d["work_pool"]["work_queue_name"] for d in SPEC["deployments"]}
    assert {name for name, queue in queues.items() if queue == "gpu"} == {
        *("train", "generate", "benchmark", "mimix")
    }


def test_the_form_says_what_each_section_is_and_which_words_it_takes() -> None:
    schema = parameter_schema(flow_of(SPEC["deployments"][0])).model_dump_for_openapi()
    definitions = schema["definitions"]
    sections = definitions["Config"]["properties"]
    assert set(sections) == set(Config.model_fields)
    for name, section in sections.items():
        kind = definitions.get(str(section.get("$ref", "")).rsplit("/", 1)[-1], section)
        assert kind.get("description"), f"section {name} says nothing of itself"
    assert definitions["RunSettings"]["properties"]["task_runner"]["enum"] == ["threads", "dask"]
    assert definitions["LoraSettings"]["properties"]["rank"]["minimum"] == 1
    assert "paper" in definitions["LoraSettings"]["description"]


def test_runs_of_workers_get_what_runs_from_the_shell_get() -> None:
    for deployment in SPEC["deployments"]:
        given = deployment["work_pool"]["job_variables"]["env"]
        assert given["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"
        for name in ("PREFECT_RESULTS_DEFAULT_SERIALIZER", "DO_NOT_TRACK"):
            assert given[name] == DEFAULTS[name]


def test_the_inbox_is_off_by_clock_and_one_run_at_a_time() -> None:
    [inbox] = [d for d in SPEC["deployments"] if d.get("schedules")]
    assert inbox["name"] == "inbox"
    assert [schedule["active"] for schedule in inbox["schedules"]] == [False]
    assert "concurrency_limit" not in inbox, "a restarted server would end the run"
    for trigger in inbox["triggers"]:
        TypeAdapter(DeploymentTriggerTypes).validate_python(trigger)


def test_prefect_takes_every_automation_and_none_waits_for_heartbeats() -> None:
    text = yaml.safe_dump(AUTOMATIONS).replace(
        NOTIFY_PLACEHOLDER, "6d1c4f2e-7a1b-4b7e-9d8a-0c2f5e4b3a21"
    )
    taken = [AutomationCore.model_validate(spec) for spec in yaml.safe_load(text)]
    assert len({one.name for one in taken}) == len(taken)
    # A proactive one writes to the server's database at each event that it waits for.
    assert {one.trigger.posture for one in taken} == {Posture.Reactive}  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    return load_config(write_project(tmp_path_factory.mktemp("project")))


def test_the_settings_file_becomes_the_parameters_and_comes_back_the_same(config: Config) -> None:
    spec = render_deployments(config, DeploymentTarget("my-pool", "process", ROOT), "tiny", [])
    for deployment in spec["deployments"]:
        assert deployment["name"] == "tiny"
        assert Config.model_validate(deployment["parameters"]["config"]) == config
        assert deployment["work_pool"]["name"] == "my-pool"
        assert "scenes" not in deployment["parameters"]["config"], "a default is not pinned"


@pytest.mark.parametrize(
    ("folder", "given", "name"),
    [
        ("tom-and-jerry", None, "tom-and-jerry"),
        ("Tom & Jerry (1940)", None, "tom-jerry-1940"),
        ("日本", None, "mimix"),
        ("x" * 99, None, "x" * 40),
        ("a", "mr-bean", "mr-bean"),
    ],
)
def test_deployments_are_named_after_the_folder_of_the_library(
    config: Config, folder: str, given: str | None, name: str
) -> None:
    library = Path("/films") / folder / "library.yaml"
    assert choose_name(config.model_copy(update={"library": library}), given) == name


@pytest.mark.parametrize("name", ["", "Mr Bean", "a/b", "-a", "x" * 41, "ä"])
def test_a_name_that_is_not_one_word_is_refused(config: Config, name: str) -> None:
    with pytest.raises(BadInput, match="--name"):
        choose_name(config, name)


@pytest.mark.parametrize("home", ["", "{{ $MIMIX_HOME }}", "relative/path"])
def test_deploying_by_hand_without_the_home_folder_says_so(
    home: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(BadInput, match="MIMIX_HOME"):
        require_home(home)
    assert "MIMIX_HOME=$PWD prefect" in capsys.readouterr().err
    assert require_home(str(ROOT)) == {}


@pytest.mark.parametrize(("home", "python"), [(ROOT, sys.executable), (Path("/mimix"), "python")])
def test_runs_are_started_by_a_command_that_waits_for_the_server(
    config: Config, home: Path, python: str
) -> None:
    spec = render_deployments(config, DeploymentTarget("my-pool", "process", home), "tiny", [])
    for deployment in spec["deployments"]:
        variables = deployment["work_pool"]["job_variables"]
        assert shlex.split(variables["command"]) == [python, "-m", "flows.deployed_run"]
        assert variables["env"]["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == "30"


def test_docker_folder_does_not_shadow_the_docker_sdk() -> None:
    assert not (ROOT / "docker" / "__init__.py").exists()
