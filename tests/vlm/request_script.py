"""What a fake provider received, and what it does about each request, in no provider's format.

A request is identified by a ``[[name]]`` somewhere in its texts.

``script``: name -> what to do at the 1st, 2nd, ... time it is sent (the last one repeats):
``right``, ``slow:SECONDS``, ``invented`` (violates an enum), ``not_json``, ``wrong_schema``,
``empty``, ``truncated``, ``refused``, ``filtered``, ``429:SECONDS``, ``429date:SECONDS``, ``429``,
``text:TEXT`` (the content of the message), ``raw:STATUS:BODY``, ``no_usage``,
``reset:SECONDS``, ``quota``, ``400``, ``401``, ``404``, ``500``, ``garbage`` (not JSON), ``cut``
(before the response), ``cut_mid`` (inside it); in a batch also ``expired``.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections import defaultdict
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from tests.vlm.http_messages import Cut, Reply, error_body

NAME = re.compile(r"\[\[(.+?)\]\]")
# As the retired Google SDK writes them.
GOOGLE_TYPES = {
    "1": "string",
    "2": "number",
    "3": "integer",
    "4": "boolean",
    "5": "array",
    "6": "object",
}
USAGE = {"prompt": 1000, "cached": 400, "completion": 50}


def filled(schema: Any, name: str, invented: bool = False) -> Any:
    """An answer that fits a strict schema; with ``invented``, but for its enums."""
    if "enum" in schema:
        return "Nobody Known" if invented and len(schema["enum"]) > 1 else schema["enum"][0]
    for key in ("anyOf", "any_of"):
        if key in schema:
            return filled(schema[key][0], name, invented)
    kind = str(schema.get("type")).lower()
    kind = GOOGLE_TYPES.get(kind, kind)
    if kind == "object":
        return {key: filled(one, name, invented) for key, one in schema["properties"].items()}
    if kind == "array":
        return [filled(schema["items"], name, invented)]
    return {"integer": 1, "number": 1.0, "boolean": False, "null": None}.get(kind, f"does {name}")


class RequestScript:
    def __init__(self) -> None:
        self.settings: dict[str, Any] = {}
        self.asked: defaultdict[str, list[str]] = defaultdict(list)
        self.right: defaultdict[str, int] = defaultdict(int)
        self.times: list[float] = []
        self.bodies: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.calls: defaultdict[str, int] = defaultdict(int)
        self.files: dict[str, dict[str, Any]] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.numbered = 0
        self.now = 0
        self.most_at_once = 0
        self.busy_seconds = 0.0

    def how(self, name: str) -> str:
        script = self.settings.get("script", {}).get(name) or [self.settings.get("all", "right")]
        done = len(self.asked[name])
        how = str(script[min(done, len(script) - 1)])
        self.asked[name].append(how)
        return how

    def answer(self, how: str, name: str, schema: Any) -> str:
        if how.startswith("text:"):
            return how.removeprefix("text:")
        if how == "not_json":
            return "I see a cat and a mouse."
        if how == "wrong_schema":
            return '{"something": "else"}'
        if how == "empty":
            return ""
        value = self.settings.get("answers", {}).get(name)
        if value is None or how == "invented":
            value = filled(schema, name, how == "invented")
        text = json.dumps(value)
        return text[: len(text) // 2] if how == "truncated" else text

    def count(self, how: str, name: str) -> Callable[[], None] | None:
        def right() -> None:
            self.right[name] += 1

        return right if how == "right" or how.startswith(("slow", "reset")) else None

    async def early(self, how: str) -> Reply | None:
        """Replies that look the same whoever is asked."""
        kind, _, seconds = how.partition(":")
        if kind == "slow":
            await asyncio.sleep(float(seconds))
        if kind == "cut":
            raise Cut
        if kind == "cut_mid":
            raise Cut(b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{")
        if kind == "raw":
            status, _, body = seconds.partition(":")
            return Reply(body.encode(), int(status))
        if kind == "garbage":
            return Reply(b"<html>bad gateway</html>")
        if kind in ("429", "429date"):
            headers = {}
            if kind == "429date":
                headers["retry-after"] = formatdate(time.time() + float(seconds), usegmt=True)
            elif seconds:
                headers["retry-after"] = seconds
            return Reply(error_body(429, "rate limit reached", "rate_limit_exceeded"), 429, headers)
        if kind == "quota":
            return Reply(error_body(429, "you exceeded your quota", "insufficient_quota"), 429)
        if kind in ("400", "401", "404", "500", "503"):
            said = f"no good: {self.settings.get('key', '')}"
            return Reply(error_body(int(kind), said, "some_code"), int(kind))
        return None


def named(body: Any) -> str:
    """The last ``[[name]]`` in a request's texts."""
    texts = []
    for message in body.get("messages") or body.get("contents"):
        content = message.get("content") or message.get("parts")
        if isinstance(content, str):
            texts.append(content)
        else:
            texts += [part["text"] for part in content if "text" in part]
    names = NAME.findall("\n".join(texts))
    return names[-1] if names else "something"
