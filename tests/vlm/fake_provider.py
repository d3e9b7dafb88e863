"""Run the fake provider in a separate process, and build requests for it."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from mimix_core.settings.vlm_settings import PriceSettings, VlmSettings
from mimix_core.vlm import ChatMessage, TextPart, VlmRequest, strict_schema

ROOT = Path(__file__).parent.parent.parent
KEY = "sk-test-0123456789-of-nobody"
KEY_NAME = "MIMIX_TEST_KEY"
PRICE = PriceSettings(input=Decimal(2), cached=Decimal(1), output=Decimal(8))
RESPONSE_COST = Decimal("0.0020")
"""600 fresh, 400 cached and 50 output tokens at this price."""


class Seen(BaseModel):
    """The response model of the tests."""

    who: Literal["Tom", "Jerry"]
    what: str


@dataclass(frozen=True)
class FakeProvider:
    url: str

    def control(self, **settings: Any) -> None:
        data = json.dumps(settings).encode()
        with urllib.request.urlopen(f"{self.url}/control", data):
            pass

    def counts(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.url}/counts") as reply:
            found: dict[str, Any] = json.load(reply)
        return found

    def settings(self, **changed: Any) -> VlmSettings:
        backend = changed.get("backend", "openai")
        return VlmSettings.model_validate(
            {
                "model": "seer",
                "base_url": self.url + ("/v1" if backend == "openai" else ""),
                "api_key_env": KEY_NAME,
                "price": PRICE,
                "request_timeout_seconds": 20.0,
                **changed,
            }
        )


@contextmanager
def run_fake_provider() -> Iterator[FakeProvider]:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.vlm.fake_server"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as server:
        assert server.stdout is not None
        assert server.stdin is not None
        try:
            yield FakeProvider(f"http://127.0.0.1:{int(server.stdout.readline())}")
        finally:
            server.stdin.close()


def question(name: str, **changed: Any) -> VlmRequest[Seen]:
    messages = (
        ChatMessage("system", (TextPart("Say who does what."),)),
        ChatMessage("user", (TextPart(f"Here is the clip [[{name}]]."),)),
    )
    given = {"messages": messages, "max_output_tokens": 100, **changed}
    return VlmRequest(id=name, response_model=Seen, schema=strict_schema(Seen), **given)


def find_workers(process: int) -> list[int]:
    """Return the worker processes that a process started."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just exited
        if parent == process and b"mimix_core.vlm" in words:
            found.append(int(entry.name))
    return found
