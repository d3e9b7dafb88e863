"""HTTP as fake servers speak it: a request read from a connection, and the reply to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import Any


class Cut(Exception):
    """End the connection, after these bytes."""

    def __init__(self, first: bytes = b"") -> None:
        super().__init__()
        self.first = first


class Reply:
    def __init__(
        self,
        body: Any,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        sent: Callable[[], None] | None = None,
    ) -> None:
        """``sent`` is called once the reply is with a client that was still there."""
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.status, self.headers, self.sent = status, dict(headers or {}), sent

    def encode(self) -> bytes:
        lines = [f"HTTP/1.1 {self.status} X", f"content-length: {len(self.body)}"]
        headers = {"content-type": "application/json"} | self.headers
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode() + self.body


async def read_request(
    reader: asyncio.StreamReader,
) -> tuple[str, str, dict[str, str], bytes] | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode().strip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {
        name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)
    }
    if headers.get("transfer-encoding") == "chunked":
        raw = b""
        while size := int((await reader.readline()).strip(), 16):
            raw += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
        return method, target, headers, raw
    return method, target, headers, await reader.readexactly(int(headers.get("content-length", 0)))


def error_body(status: int, message: str, code: str) -> dict[str, Any]:
    """OpenAI's and Google's fields at once."""
    google = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL"}.get(status, "")
    kind = "invalid_requesterror_body"
    return {"error": {"message": message, "type": kind, "code": code, "status": google}}
