"""The API key is only in the environment and in the requests."""

from __future__ import annotations

import logging
import pickle
import traceback
from pathlib import Path

import pytest

from mimix_core.errors import BadInput
from mimix_core.vlm import BadCredentials, read_api_key, run_requests
from mimix_core.vlm.api_keys import redact
from mimix_core.vlm.backends.openai import OpenAIBackend
from tests.vlm.fake_provider import KEY, KEY_NAME, FakeProvider, question
from tests.vlm.test_client import BACKENDS, SCRIPT


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_key_in_anything_that_a_run_leaves_behind(
    server: FakeProvider,
    tmp_path: Path,
    backend: str,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    # The server's errors repeat the key.
    caplog.set_level(logging.DEBUG)
    server.control(script=SCRIPT)
    settings = server.settings(backend=backend, max_attempts=2)
    outcomes = list(run_requests(map(question, SCRIPT), settings, tmp_path))
    said = [repr(outcomes), repr(settings), settings.model_dump_json(), *map(str, outcomes)]
    said += [repr(pickle.dumps(outcomes)), caplog.text, *capfd.readouterr()]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 5
    said += [path.read_bytes().decode() + path.name for path in files]
    assert "no good: ***" in said[0], "the server's words are told, without the key"
    assert not any(KEY in text for text in said)


@pytest.mark.parametrize("backend", ["openai", "gemini"])
def test_no_key_in_an_error_and_in_what_led_to_it(
    server: FakeProvider, tmp_path: Path, backend: str
) -> None:
    server.control(all="401")
    with pytest.raises(BadCredentials) as told:
        list(run_requests([question("a")], server.settings(backend=backend), tmp_path))
    whole = "".join(traceback.format_exception(told.value))
    assert "rejected the API key" in whole
    assert KEY not in whole
    assert KEY[:12] not in whole


def test_no_key_in_a_backend_that_is_shown(server: FakeProvider) -> None:
    assert KEY not in repr(OpenAIBackend(server.settings(), KEY))


@pytest.mark.parametrize(
    "text",
    [
        "Incorrect API key provided: sk-proj-****abcd1234.",
        "GET https://host/v1?key=AIzaSyA-1234567890abcdef failed",
        "header Authorization: Bearer abcdef123456",
        "x-goog-api-key: AIzaSyA-1234567890abcdef",
        "my own secret",
    ],
)
def test_whatever_looks_like_a_key_is_taken_out(text: str) -> None:
    clean = redact(text, "my own secret")
    for piece in ("abcd1234", "1234567890", "abcdef123456", "my own secret"):
        assert piece not in clean


def test_where_keys_come_from(server: FakeProvider) -> None:
    own = server.settings(base_url=None, api_key_env=None)
    assert read_api_key(own, {"OPENAI_API_KEY": " k \n"}) == "k"
    assert read_api_key(server.settings(), {KEY_NAME: "k"}) == "k"
    # A server of one's own mostly wants none, and gets no key that was meant for another.
    assert read_api_key(server.settings(api_key_env=None), {"OPENAI_API_KEY": "k"}) == "no-key"
    with pytest.raises(BadInput, match="OPENAI_API_KEY"):
        read_api_key(own, {})
