"""What servers return besides a response: each costs what it must, and says what happened."""

from __future__ import annotations

import json
import ssl
import subprocess
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from mimix_core.errors import BadInput
from mimix_core.vlm import (
    BadCredentials,
    BudgetExceeded,
    ChatMessage,
    ImagePart,
    TextPart,
    Unavailable,
    VlmOutcome,
    run_requests,
)
from tests.vlm.fake_provider import PRICE, FakeProvider, Seen, question
from tests.vlm.test_prices import jpeg

RIGHT = '{"who": "Tom", "what": "runs"}'


def ask(
    names: list[str], server: FakeProvider, folder: Path, **settings: Any
) -> dict[str, VlmOutcome[Seen]]:
    outcomes = run_requests(map(question, names), server.settings(**settings), folder)
    return {outcome.id: outcome for outcome in outcomes}


@pytest.mark.e2e
@pytest.mark.parametrize("backend", ["openai", "gemini", "google-generativeai"])
def test_forms_around_the_object_are_read_and_cost_one_request(
    server: FakeProvider, tmp_path: Path, backend: str
) -> None:
    forms = {
        "fence": f"```json\n{RIGHT}\n```",
        "think": f"<think>{{}}</think>\n{RIGHT}",
        "bom": "\ufeff" + RIGHT,
        "prose": f"Here it is: {RIGHT} Enjoy!",
        "twice": RIGHT + RIGHT,
        "comma": RIGHT[:-1] + ",}",
        "extra": RIGHT[:-1] + ', "mood": "angry"}',
        "case": RIGHT.replace("Tom", "TOM"),
    }
    server.control(script={name: [f"text:{text}"] for name, text in forms.items()})
    found = ask(list(forms), server, tmp_path, backend=backend)
    for name, outcome in found.items():
        assert outcome.response is not None, (name, outcome.error)
        assert outcome.response.value == Seen(who="Tom", what="runs")
        assert outcome.attempts == 1
    assert sum(map(len, server.counts()["asked"].values())) == len(forms)


def test_content_as_a_list_of_parts_is_read(server: FakeProvider, tmp_path: Path) -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": RIGHT}]}
    body = {"model": "m", "choices": [{"finish_reason": "stop", "message": message}]}
    server.control(script={"a": [f"raw:200:{json.dumps(body)}"]})
    assert ask(["a"], server, tmp_path)["a"].response is not None


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ('raw:402:{"error": {"message": "Insufficient credits", "code": 402}}', BudgetExceeded,
         "no credit left: HTTP 402 Insufficient credits"),
        ('raw:429:{"error": {"message": "quota", "code": "insufficient_quota"}}', BudgetExceeded,
         "no credit left"),
        ('raw:400:{"error": {"message": "limit", "code": "billing_hard_limit_reached"}}',
         BudgetExceeded, "no credit left"),
        ('raw:429:{"error": {"message": "Limit 200 requests per day (RPD): Used 200"}}',
         BudgetExceeded, "daily quota is used up.*200 requests per day"),
        ('raw:200:{"error": {"message": "free-models-per-day", "code": 429}}', BudgetExceeded,
         "daily quota is used up"),
        ('raw:403:{"error": {"message": "Country not supported"}}', BadCredentials,
         "rejected the API key: HTTP 403 Country not supported"),
        ('raw:403:{"error": "no access"}', BadCredentials, "HTTP 403 no access"),
        ("raw:401:<html><head><title>401</title></head><body><h1>Denied</h1></body></html>",
         BadCredentials, "HTTP 401 401 Denied"),
    ],
)  # fmt: skip
def test_errors_of_the_account_stop_the_run_after_one_request(
    server: FakeProvider, tmp_path: Path, how: str, error: type[Exception], words: str
) -> None:
    server.control(script={"1": [how]})
    with pytest.raises(error, match=words):
        ask(["1", "2", "3"], server, tmp_path, max_concurrency=1)
    assert server.counts()["asked"].keys() <= {"1", "2"}


def test_a_run_that_the_account_stopped_goes_on_when_that_is_mended(
    server: FakeProvider, tmp_path: Path
) -> None:
    server.control(script={"2": ['raw:402:{"error": {"message": "Insufficient credits"}}']})
    with pytest.raises(BudgetExceeded):
        ask(["1", "2", "3"], server, tmp_path, max_concurrency=1)
    server.control(script={})
    assert all(one.response for one in ask(["1", "2", "3"], server, tmp_path).values())
    assert set(server.counts()["right"].values()) == {1}


def test_a_daily_quota_of_gemini_stops_the_run(server: FakeProvider, tmp_path: Path) -> None:
    quota = {"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}
    details = [{"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [quota]}]
    error = {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "quota", "details": details}
    server.control(all=f"raw:429:{json.dumps({'error': error})}")
    with pytest.raises(BudgetExceeded, match="daily quota is used up"):
        ask(["1", "2"], server, tmp_path, backend="gemini")


MODERATED = {
    "error": {
        "code": 403,
        "message": "Your chosen model requires moderation and your input was flagged",
        "metadata": {"reasons": ["violence"], "flagged_input": "..."},
    }
}


ERRORS_OF_ONE_REQUEST = [
    (f"raw:403:{json.dumps(MODERATED)}", "refused", "your input was flagged"),
    ('raw:400:{"error": {"message": "x", "code": "content_policy_violation"}}', "refused", "x"),
    ("raw:413:<html><body><h1>413 Request Entity Too Large</h1></body></html>", "rejected",
     "too large for the server: HTTP 413 413 Request Entity Too Large. Send fewer"),
    ('raw:429:{"error": {"message": "Request too large for gpt-4o: Limit 30000"}}', "rejected",
     "Request too large for gpt-4o"),
    ('raw:200:{"choices": [{"finish_reason": "error", "message": {"content": ""}}]}',
     "unavailable", "ended the response with an error"),
    ('raw:200:{"choices": [{"error": {"code": 502, "message": "upstream"}, "message": {}}]}',
     "unavailable", "upstream"),
    ('raw:200:{"error": "the model crashed"}', "unavailable", "the model crashed"),
    ('raw:500:{"error": "the model crashed"}', "unavailable", "the model crashed"),
]  # fmt: skip
"""What the server returns, the kind of the error and words in it."""


def test_errors_of_one_request_cost_that_request_and_say_why(
    server: FakeProvider, tmp_path: Path
) -> None:
    script = {str(n): [how] for n, (how, _, _) in enumerate(ERRORS_OF_ONE_REQUEST)}
    server.control(script=script)
    found = ask([*script, "sound"], server, tmp_path, max_attempts=1)
    assert found["sound"].response is not None
    for name, (_, kind, words) in zip(script, ERRORS_OF_ONE_REQUEST, strict=True):
        error = found[name].error
        assert error is not None
        assert (error.kind, words in str(error)) == (kind, True), str(error)


def test_a_limit_inside_a_response_is_waited_for(server: FakeProvider, tmp_path: Path) -> None:
    server.control(script={"1": ['raw:200:{"error": {"code": 429, "message": "slow"}}', "right"]})
    assert ask(["1"], server, tmp_path)["1"].response is not None


def test_missing_and_impossible_counts_of_tokens_are_charged(
    server: FakeProvider, tmp_path: Path
) -> None:
    message = {"role": "assistant", "content": RIGHT}
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 300},
    }
    body = {"choices": [{"finish_reason": "stop", "message": message}], "usage": usage}
    server.control(script={"none": ["no_usage"], "odd": [f"raw:200:{json.dumps(body)}"]})
    found = ask(["none", "odd"], server, tmp_path)
    lines = map(json.loads, (tmp_path / "ledger.jsonl").read_text().splitlines())
    assert all(Decimal(line["usd"]) > 0 for line in lines)
    odd, none = found["odd"].response, found["none"].response
    assert odd is not None
    assert odd.cost_usd == (100 * PRICE.cached + 10 * PRICE.output) / 1_000_000
    assert none is not None
    assert none.usage.input_tokens > 0
    assert none.usage.output_tokens > 0


@pytest.mark.e2e
def test_the_body_is_what_the_settings_say(
    server: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PORTAL_TOKEN", "s3cret")
    server.control(keep_bodies=True)
    settings = {
        "seed": 7,
        "extra_body": {"top_p": 0.9},
        "output_limit": "max_completion_tokens",
        "reasoning_tokens": 500,
        "headers_env": {"X-Portal": "PORTAL_TOKEN"},
    }
    messages = (ChatMessage("user", (TextPart("[[1]]"), ImagePart(jpeg(8, 8)))),)
    for response_format in ("json_schema", "json_object", "prompt"):
        requests = [question("1", messages=messages)]
        chosen = server.settings(**settings, response_format=response_format)
        [outcome] = run_requests(requests, chosen, tmp_path)
        assert outcome.response is not None
        assert not outcome.cached
    bodies = server.counts()["bodies"]
    assert [body.get("response_format", {}).get("type") for body in bodies] == [
        "json_schema",
        "json_object",
        None,
    ]
    for body in bodies:
        assert (body["seed"], body["top_p"], body["max_completion_tokens"]) == (7, 0.9, 600)
        assert "max_tokens" not in body
    for body in bodies[1:]:
        assert "JSON schema" in body["messages"][-1]["content"][-1]["text"]
    assert {headers.get("x-portal") for headers in server.counts()["headers"]} == {"s3cret"}
    stored = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "s3cret" not in stored


def test_a_missing_header_variable_is_said_before_anything_is_sent(
    server: FakeProvider, tmp_path: Path
) -> None:
    with pytest.raises(BadCredentials, match=r"headers_env: .*MISSING_ONE"):
        ask(["1"], server, tmp_path, headers_env={"X-Portal": "MISSING_ONE"})
    assert server.counts()["asked"] == {}


def test_gemini_has_room_for_its_thoughts(server: FakeProvider, tmp_path: Path) -> None:
    server.control(keep_bodies=True)
    ask(["1"], server, tmp_path, backend="gemini", model="gemini-2.5-flash")
    [body] = server.counts()["bodies"]
    assert body["generationConfig"]["maxOutputTokens"] == 100 + 8192


def test_an_untrusted_certificate_is_explained(tmp_path: Path) -> None:
    new = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    files = ["-keyout", tmp_path / "key.pem", "-out", tmp_path / "certificate.pem"]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*new, *files, *names], check=True, capture_output=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "certificate.pem", tmp_path / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    provider = FakeProvider(f"https://localhost:{server.server_port}")
    try:
        with pytest.raises(BadInput, match=r"certificate is not trusted.*SSL_CERT_FILE"):
            ask(["1"], provider, tmp_path / "answers", api_key_env=None)
    finally:
        server.shutdown()


@pytest.mark.e2e
def test_a_proxy_in_the_way_of_a_local_server_is_named(
    server: FakeProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("no_proxy", "NO_PROXY", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"proxy of HTTP_PROXY: add 127.0.0.1 to NO_PROXY"):
        ask([str(n) for n in range(10)], server, tmp_path, max_attempts=1)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert ask(["1"], server, tmp_path)["1"].response is not None
