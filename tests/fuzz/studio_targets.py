"""Targets: the studio's server on a socket, with requests of any bytes and with odd values."""

from __future__ import annotations

import atexit
import json
import logging
import re
import shutil
import socket
import tempfile
import threading
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import quote

import h11
import uvicorn

from flows.studio_cli import listen
from mimix_core.studio.preview_cache import PreviewCache
from mimix_core.studio.server import create_app
from tests.fuzz.mutations import spoil_json, spoil_text
from tests.fuzz.target import Refused, Target
from tests.studio.studio_project import build_project

_IDLE_SECONDS = 0.5
_LAST = b"GET /favicon.ico HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n"


class ServerFailed(Exception):
    """The server answered with a status from 500."""


class _LastError(logging.Handler):
    """Keeps the exception that the server logged last."""

    error: BaseException | None = None

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.error = record.exc_info[1]


@cache
def studio() -> tuple[int, _LastError]:
    """Start a studio over a made-up run in a thread; return its port, and its last error."""
    folder = Path(tempfile.mkdtemp(prefix="mimix-fuzz-studio-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    project = build_project(folder, tracks=True)
    previews = PreviewCache(project.workspace, workers=1)
    app = create_app(project.session(), previews, None, project.pages(previews))
    listener = listen("127.0.0.1", 0)
    errors = _LastError()
    config = uvicorn.Config(app, log_level="warning", lifespan="off", server_header=False)
    logging.getLogger("uvicorn.error").addHandler(errors)
    server = uvicorn.Server(config)
    threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True).start()
    return int(listener.getsockname()[1]), errors


def send(request: bytes) -> None:
    """Send a request, and a good one after it on the same connection; read all answers.

    Raises the server's own exception for an answer with a status from 500, and Refused for one from
    400. A connection that waits for more is closed.
    """
    port, errors = studio()
    errors.error = None
    answer = exchange(port, request + _LAST)
    statuses = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
    # A request that is malformed after its head is answered with 400, before the application does.
    if errors.error is not None and not isinstance(errors.error, h11.LocalProtocolError):
        raise errors.error
    if any(status >= 500 for status in statuses):
        raise ServerFailed(answer[:2000])
    if b"HTTP/1.1 200" not in exchange(port, _LAST):
        raise ServerFailed("the server does not answer any more")
    if any(status >= 400 for status in statuses):
        raise Refused(answer[:200])


def exchange(port: int, request: bytes) -> bytes:
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.settimeout(10)
        try:
            connection.sendall(request)
            while len(answer) < 1 << 22:
                part = connection.recv(1 << 16)
                if not part:
                    break
                answer += part
                connection.settimeout(_IDLE_SECONDS)
        except (TimeoutError, ConnectionError):
            pass  # it waits for the rest of a body, or closed the connection
    return answer


_CLIP = "meadow-abf8fdae9d-c0000001001"
_SCENE = "meadow-abf8fdae9d-s0000001001"
_TRACK = "meadow/meadow-one-0000-rinky"
_CAPTION = "[Character: Rinky], walks by. [scene-style:cartoon]"
_QUERY = {
    "kind": "clip", "q": "walk hello", "sort": "frames", "desc": "1", "min_frames": "1",
    "max_frames": "90", "status": "ok", "offset": "0", "limit": "10", "show": "meadow",
}  # fmt: skip
_DECISION = {
    "kind": "clip",
    "item": _CLIP,
    "action": "reject",
    "reason": "a logo",
    "seen": "ab" * 32,
}
_CROPPED = {"kind": "clip", "item": _CLIP, "action": "crop", "crop": [60, 30, 104, 60]}
_EDITED = {"kind": "clip", "item": _CLIP, "action": "edit", "caption": _CAPTION}
_NAMED = {"kind": "track", "item": _TRACK, "action": "name", "character": "Bunny"}


def call(method: str, path: str, query: Any = None, body: Any = None) -> bytes:
    """Write down a request to the studio's API as the input of its target."""
    return json.dumps({"method": method, "path": path, "query": query or {}, "body": body}).encode()


_ITEM = {"kind": "clip", "id": _CLIP}
CALLS = (
    call("GET", "/api/items", _QUERY),
    call("GET", "/api/project"),
    *(call("GET", f"/api/{name}", _QUERY) for name in ("facets", "ids")),
    call("GET", "/api/place", _QUERY | {"id": _CLIP}),
    *(call("GET", path, _ITEM) for path in ("/api/item", "/media/video")),
    call("GET", "/media/frame", {"kind": "scene", "id": _SCENE}),
    call("GET", "/media/crop-0", {"kind": "track", "id": _TRACK}),
    call("GET", "/api/changes", {"since": "0"}),
    call("GET", "/api/decisions.jsonl"),
    call("GET", "/static/main.js"),
    call("GET", "/api/walls"),
    call("GET", "/api/wall", {"id": "training-all"}),
    call("GET", "/api/live"),
    call("POST", "/api/check", body={"kind": "clip", "id": _CLIP, "caption": _CAPTION}),
    *(
        call("POST", "/api/decisions", body={"reviewer": "anna", "decisions": [one]})
        for one in (_DECISION, _CROPPED, _EDITED, _NAMED)
    ),
    call("POST", "/api/undo", body={"reviewer": "anna", "ids": ["ab" * 16]}),
)
_OTHERS = (
    *("/preview/sprite", "/preview/source", "/preview/masks", "/media/audio", "/compare/video"),
    *(
        "/compare/sprite",
        "/api/training",
        "/api/runs/start",
        "/api/runs/cancel",
        "/live",
        "/compare",
    ),
)


def spoil_call(data: bytes, rng: Random) -> bytes:
    """Spoil a value of a call, or let another path get what is meant for this one."""
    if rng.random() < 0.1:
        document = json.loads(rng.choice(CALLS))
        path = rng.choice(_OTHERS)
        query = {**_ITEM, "row": "0", "column": "0", "key": "ab" * 32}
        return json.dumps(document | {"path": path, "query": query}).encode()
    return spoil_json(data, rng)


def send_call(data: bytes, _: Path) -> None:
    send(request_bytes(data))


def request_bytes(data: bytes) -> bytes:
    """Return the HTTP request of a written down call, as a browser would send it."""
    try:
        given = json.loads(data)
        method, path, query, body = (given[key] for key in ("method", "path", "query", "body"))
    except (ValueError, KeyError, TypeError, RecursionError):
        method, path, query, body = "POST", "/api/decisions", {}, data.decode("latin-1")
    pairs = query.items() if isinstance(query, dict) else [("kind", query)]
    address = "&".join(f"{_quoted(name)}={_quoted(value)}" for name, value in pairs)
    payload = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{re.sub(r'[^A-Z]', '', str(method)) or 'GET'} /{_quoted(str(path).lstrip('/'), '/')}"
        f"?{address} HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload


def _quoted(value: object, safe: str = "") -> str:
    return quote(str(value).encode("utf-8", "surrogatepass"), safe=safe)


_PARTS = (
    *(
        "\r\n",
        "\r\n\r\n",
        "\n",
        " ",
        "\0",
        "Transfer-Encoding: chunked\r\n",
        "ffffffffffffffff\r\n",
    ),
    *(
        "0\r\n\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Host: x\r\n",
    ),
    *(
        "Expect: 100-continue\r\n",
        "Upgrade: websocket\r\nConnection: Upgrade\r\n",
        "HTTP/1.0",
        "/../",
    ),
    *("%2e%2e%2f", "%00", "%ff", "%", "?", "#", "&", "=", "Range: bytes=0-,1-,2-\r\n", "HTTP/9.9"),
    *("Range: bytes=-1\r\n", "Range: bytes=99999999999999999999-\r\n", "If-None-Match: *\r\n", ":"),
    *("Range: bytes=" + "0-0," * 2000 + "\r\n", "Cookie: " + "a=b;" * 500 + "\r\n", "Host: [\r\n"),
    *(
        "Origin: http://[\r\n",
        "Origin: \r\n",
        "Content-Type: multipart/form-data\r\n",
        "[" * 50_000,
    ),
    *(
        "If-Range: x\r\n",
        "If-Modified-Since: x\r\n",
        "Content-Encoding: gzip\r\n",
        "\xff",
        "GET * ",
    ),
    *("Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n", "X: " + "a" * 70_000 + "\r\n"),
)


def spoil_request(data: bytes, rng: Random) -> bytes:
    return spoil_text(data, rng, _PARTS)


def send_request(data: bytes, _: Path) -> None:
    send(data)


TARGETS = (
    Target("studio-http", tuple(request_bytes(one) for one in CALLS), spoil_request, send_request),
    Target("studio-api", CALLS, spoil_call, send_call),
)
