"""Children get the secrets they need and no other: what the kernel says of real processes."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mimix_core.engine.child_environment import PASS_VARIABLE, hidden_secrets, is_secret
from mimix_core.engine.worker import UnitRequest
from mimix_core.inbox import video_probe
from mimix_core.settings import CaptionSettings, LoraSettings
from mimix_core.training import launcher
from mimix_core.vlm import run_requests
from tasks.subprocess_runner import UnitProcess
from tasks.unit_secrets import unit_secrets
from tests.media_factory import Shot, write_video
from tests.paths import ROOT
from tests.vlm.fake_provider import KEY, KEY_NAME, FakeProvider, question, run_fake_provider

PLANTED = {
    "OPENAI_API_KEY": "planted-openai",
    "GEMINI_API_KEY": "planted-gemini",
    "WANDB_API_KEY": "planted-wandb",
    "HF_TOKEN": "planted-hf",
    "PREFECT_API_KEY": "planted-prefect",
    "PREFECT_API_AUTH_STRING": "planted-auth",
    "PREFECT_API_DATABASE_CONNECTION_URL": "postgresql+asyncpg://mimix:planted-db@db/prefect",
    "AWS_SECRET_ACCESS_KEY": "planted-aws",
    "GITHUB_TOKEN": "planted-github",
    "SSH_AUTH_SOCK": "/run/planted-agent",
    "DATABASE_URL": "postgres://u:planted-pg@h/d",
    "HTTPS_PROXY": "http://u:planted-proxy@proxy:3128",
    "MY_SERVICE_PASSWORD": "planted-password",
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PLANTED.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv(PASS_VARIABLE, raising=False)


def planted_in(pid: int) -> set[str]:
    """Return which planted secrets the kernel gave a process."""
    deadline = time.monotonic() + 10
    while not (content := Path(f"/proc/{pid}/environ").read_bytes()):
        assert time.monotonic() < deadline  # empty while the process turns into another program
        time.sleep(0.01)
    given = content.split(b"\0")
    names = {entry.partition(b"=")[0].decode() for entry in given if b"planted" in entry}
    assert b"PATH=" in b"\0".join(given)
    return names


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, set[str]]]]:
    """Record the command of each child, and the planted secrets that it got."""
    found: list[tuple[str, set[str]]] = []
    popen = subprocess.Popen

    class Recording(popen):  # type: ignore[misc,valid-type]
        def __init__(self, command: Any, *arguments: Any, **options: Any) -> None:
            super().__init__(command, *arguments, **options)
            found.append((" ".join(map(str, command)), planted_in(self.pid)))

    monkeypatch.setattr(subprocess, "Popen", Recording)
    yield found


def unit(settings: dict[str, Any], stage: str = "captions") -> UnitRequest:
    return UnitRequest(
        stage=stage, store=Path("s"), inputs={}, settings=settings, log=Path("s/log")
    )


@pytest.mark.usefixtures("planted")
@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, set()),
        ({"vlm": {"model": "gpt-4o"}}, {"OPENAI_API_KEY", "HTTPS_PROXY"}),
        ({"vlm": {"model": "g", "backend": "gemini"}}, {"GEMINI_API_KEY", "HTTPS_PROXY"}),
        ({"vlm": {"model": "x", "base_url": "http://localhost:1/v1"}}, {"HTTPS_PROXY"}),
        (
            {"vlm": {"model": "x", "headers_env": {"X-Portal": "MY_SERVICE_PASSWORD"}}},
            {"OPENAI_API_KEY", "MY_SERVICE_PASSWORD", "HTTPS_PROXY"},
        ),
    ],
)
def test_a_unit_gets_the_secrets_that_its_settings_name(
    settings: dict[str, Any], expected: set[str]
) -> None:
    full = CaptionSettings.model_validate({"backend": "vlm", **settings} if settings else {})
    how = full.model_dump(mode="json") if settings else {}
    process = UnitProcess(unit_secrets(unit(how)))
    try:
        assert planted_in(process._child.pid) == expected
    finally:
        process.terminate()


@pytest.mark.usefixtures("planted")
def test_a_person_can_pass_a_secret_to_an_extension(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASS_VARIABLE, "GITHUB_TOKEN, HF_TOKEN")
    assert unit_secrets(unit({})) == {"GITHUB_TOKEN", "HF_TOKEN"}
    process = UnitProcess(unit_secrets(unit({})))
    try:
        assert planted_in(process._child.pid) == {"GITHUB_TOKEN", "HF_TOKEN"}
    finally:
        process.terminate()


@pytest.mark.usefixtures("planted")
def test_the_process_that_sends_requests_gets_its_own_key_only(
    started: list[tuple[str, set[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with run_fake_provider() as server:
        monkeypatch.setenv(KEY_NAME, KEY)
        started.clear()
        [outcome] = run_requests([question("a")], server.settings(), tmp_path)
        assert outcome.response is not None
        assert isinstance(server, FakeProvider)
    [(command, secrets)] = [one for one in started if "mimix_core.vlm" in one[0]]
    assert secrets == {"HTTPS_PROXY"}, command


@pytest.mark.usefixtures("planted")
def test_a_decoder_gets_no_secret(started: list[tuple[str, set[str]]], tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.mp4", [Shot(4)], size=(96, 64)).path
    started.clear()
    assert video_probe.probe_error(video) == ""
    assert [secrets for _, secrets in started] == [set()]


@pytest.mark.usefixtures("planted")
def test_only_the_first_training_process_gets_the_key_of_a_tracker() -> None:
    for trackers, rank, expected in (
        ([], 0, set()),
        (["wandb"], 0, {"WANDB_API_KEY"}),
        (["wandb"], 1, set()),
    ):
        settings = LoraSettings.model_validate({"trackers": trackers})
        given = launcher._environment(rank, settings)
        assert {name for name, value in given.items() if "planted" in value} == expected


@pytest.mark.usefixtures("planted")
def test_a_child_of_prefects_own_server_gets_prefects_secrets_only() -> None:
    before = dict(os.environ)
    with hidden_secrets("PREFECT_"):
        done = subprocess.run(
            [sys.executable, "-c", "import os, json; print(json.dumps(dict(os.environ)))"],
            capture_output=True,
            check=True,
        )
    given = json.loads(done.stdout)
    assert {name for name in PLANTED if name in given} == {
        name for name in PLANTED if name.startswith("PREFECT_")
    }
    assert dict(os.environ) == before


@pytest.mark.parametrize(
    "name",
    ["TOKENIZERS_PARALLELISM", "KEYBOARD", "PWD", "PATH", "OMP_NUM_THREADS", "LANG", "MONKEY"],
)
def test_other_variables_stay(name: str) -> None:
    assert not is_secret(name, "x")
    assert is_secret(name, "redis://:secret@host/0") or name == "PWD"


INHERITING = {"flows/worker_process.py", "flows/studio_prefect.py"}
"""A Prefect worker runs flows, which need keys; the studio passes Prefect's settings on."""


def test_every_child_is_started_with_a_chosen_environment() -> None:
    missing, everything = [], []
    for package in ("mimix_core", "tasks", "flows"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            for node in ast.walk(ast.parse(path.read_text())):
                if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                    continue
                call = ast.unparse(node.func)
                if call not in ("subprocess.Popen", "subprocess.run"):
                    assert not call.startswith(("subprocess.", "os.system", "os.popen")), name
                    continue
                given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
                assert given.get("shell") is None, name
                if "env" not in given:
                    missing.append(name)
                elif "_environment(" not in given["env"]:
                    everything.append(name)
    assert missing == []
    assert set(everything) == INHERITING
