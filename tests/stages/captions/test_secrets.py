"""The API key reaches the provider only: it is never written to disk or printed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prefect.blocks.system import Secret
from prefect.testing.utilities import prefect_test_harness

from mimix_core.engine.store import Store
from mimix_core.engine.worker import UnitReply, build_request
from mimix_core.errors import BadInput
from mimix_core.settings import CaptionSettings
from mimix_core.stages.captions.stage import STAGE
from tasks.captions import load_captioner_key
from tests.media_factory import Shot, write_video
from tests.stages.captions.test_vlm_captioner import named, settings
from tests.vlm.fake_provider import KEY, KEY_NAME, ROOT, FakeProvider

FRAGMENT = KEY[8:].encode()


def holding(folder: Path, secret: bytes) -> list[str]:
    """Return files below ``folder`` with ``secret`` in their name, bytes or table values."""
    found = []
    for path in sorted(folder.rglob("*")):
        if secret in os.fsencode(path.name):
            found.append(f"{path} (its name)")
        if not path.is_file():
            continue
        if secret in path.read_bytes():
            found.append(str(path))
        if path.suffix == ".parquet":
            table = pq.read_table(path)
            values = repr(table.to_pylist()) + repr(table.schema.metadata)
            if secret in values.encode():
                found.append(f"{path} (its values)")
    return found


def test_the_search_finds_secrets(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "log").write_bytes(b"x" * 100_000 + FRAGMENT)
    assert holding(tmp_path, FRAGMENT) == [str(tmp_path / "a" / "b" / "log")]


@pytest.mark.e2e
def test_a_unit_leaves_no_key(server: FakeProvider, tmp_path: Path) -> None:
    given = named(tmp_path, "a", "b", "c", "d")
    # Replies that say the key themselves, and one that ends the unit with an error.
    server.control(script={"a": ["400"], "b": ["500"], "c": ["invented"]})
    said = [run_unit(tmp_path, given, settings(server, {"max_reprompts": 0}))]
    server.control(script={"d": ["401"]})
    said.append(run_unit(tmp_path, given, settings(server, {"max_reprompts": 0}, model="other")))
    assert UnitReply.model_validate_json(said[0]).ref is not None
    assert UnitReply.model_validate_json(said[1]).error == "bad_input"
    assert not any(FRAGMENT in one.encode() for one in said)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) > 15
    assert holding(tmp_path, FRAGMENT) == []


def run_unit(folder: Path, given: object, how: CaptionSettings) -> str:
    """Run a unit in a separate process and return its reply."""
    asked = build_request(STAGE, Store(folder / "store"), given, how, folder / "unit.log")  # type: ignore[arg-type]
    code = (
        "import sys\n"
        "from mimix_core.engine.worker import UnitRequest, run_request\n"
        "print(run_request(UnitRequest.model_validate_json(sys.stdin.read())).model_dump_json())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        input=asked.model_dump_json(),
        capture_output=True,
        text=True,
        check=True,
    )
    (folder / "unit.log").write_text(done.stderr)
    return done.stdout.splitlines()[-1]


SETTINGS = """\
library: library.yaml
workspace: workspace
run: {{retries: 0}}
overlays: {{backend: none}}
clips: {{width: 160, height: 96, preset: ultrafast, min_motion: 0, min_sharpness: 0}}
captions:
  backend: vlm
  vlm: {{model: seer, base_url: {url}/v1, api_key_env: {name}, max_attempts: 1}}
"""
LIBRARY = """\
shows:
  - id: toons
    title: Toons
    style: cartoon
    characters: [{name: Tom}, {name: Jerry}]
    episodes: [{path: a.mp4}]
"""


@pytest.mark.e2e
def test_a_run_leaves_no_key(server: FakeProvider, tmp_path: Path) -> None:
    """The real command with Prefect's own server: a rejected key first, then a valid one."""
    write_video(tmp_path / "a.mp4", [Shot(24 * 12)], size=(160, 96))
    (tmp_path / "library.yaml").write_text(LIBRARY)
    (tmp_path / "mimix.yaml").write_text(SETTINGS.format(url=server.url, name=KEY_NAME))
    wrong = "sk-wrong-9876543210-of-somebody"
    printed = []
    for key, code in ((wrong, 2), (KEY, 0)):
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
        done = subprocess.run(
            [sys.executable, "-m", "flows.cli", "curate", str(tmp_path / "mimix.yaml")],
            cwd=ROOT,
            env={**kept, KEY_NAME: key, "PREFECT_HOME": str(tmp_path / "prefect")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert done.returncode == code, done.stdout.decode()
        printed.append(done.stdout)
    assert server.counts()["right"]
    assert (tmp_path / "prefect" / "prefect.db").stat().st_size > 100_000
    for secret in (FRAGMENT, wrong[9:].encode()):
        assert not any(secret in one for one in printed)
        assert holding(tmp_path, secret) == []


@pytest.fixture(scope="module")
def prefect_server() -> Iterator[None]:
    with prefect_test_harness(server_startup_timeout=120):
        yield


@pytest.mark.e2e
def test_a_secret_block_provides_the_key(
    prefect_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY_NAME, "")
    how = CaptionSettings.model_validate(
        {"backend": "vlm", "vlm_secret": "mimix-test", "vlm": {"api_key_env": KEY_NAME}}
    )
    with pytest.raises(BadInput, match="no Secret block mimix-test"):
        load_captioner_key(how)
    Secret(value=KEY).save("mimix-test")
    load_captioner_key(how)
    assert os.environ[KEY_NAME] == KEY
    # What the environment has is not overwritten.
    monkeypatch.setenv(KEY_NAME, "another")
    load_captioner_key(how)
    assert os.environ[KEY_NAME] == "another"


def test_a_key_is_required_only_where_it_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_NAME, "")
    load_captioner_key(CaptionSettings())
    own = {"backend": "vlm", "vlm": {"base_url": "http://localhost:1/v1"}}
    load_captioner_key(CaptionSettings.model_validate(own))
    named_key = {"backend": "vlm", "vlm": {"api_key_env": KEY_NAME}}
    with pytest.raises(BadInput, match=KEY_NAME):
        load_captioner_key(CaptionSettings.model_validate(named_key))
