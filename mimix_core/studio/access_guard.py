"""Let only the studio's own page, and with a token only those who have it, talk to the server."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]

COOKIE = "mimix-studio"
LOCAL_NAMES = frozenset({"127.0.0.1", "localhost", "[::1]"})

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)
"""No script, style or connection but the page's own, and no text ever becomes markup."""

_HEADERS = (
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cross-origin-opener-policy", b"same-origin"),
)


class AccessGuard:
    """Wrap an ASGI application.

    Without a token only requests to a name of this machine are answered, so that a web page which
    points its own name here (DNS rebinding) reads nothing. With a token, its holder opens
    ``/?token=...`` once and gets a cookie; everything else is refused. A request that changes
    anything must come from the page itself. ``cookie``: its name; two servers of one machine need
    different names, because cookies do not know ports.
    """

    def __init__(self, app: AsgiApp, token: str | None, cookie: str = COOKIE) -> None:
        self._app = app
        self._token = token
        self._cookie = cookie
        self._session = secrets.token_urlsafe(32)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        host = headers.get("host", "")
        if self._token is None and _name_of(host) not in LOCAL_NAMES:
            await _refuse(send, 403, "Open the studio under http://127.0.0.1 or http://localhost.")
            return
        if self._token is not None and not self._has_cookie(headers.get("cookie", "")):
            await self._admit(scope, send)
            return
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and (
            origin is None or origin.partition("://")[2] != host
        ):
            await _refuse(send, 403, "Decisions are accepted from the studio's own page only.")
            return
        await self._app(scope, receive, _with_headers(send))

    def _has_cookie(self, text: str) -> bool:
        try:
            found = SimpleCookie(text).get(self._cookie)
        except CookieError:
            return False
        return found is not None and _equal(found.value, self._session)

    async def _admit(self, scope: Message, send: Send) -> None:
        """Exchange the token in the address for a cookie; refuse everything else."""
        assert self._token is not None
        query = parse_qs(scope["query_string"].decode("latin-1"))
        [given] = query.pop("token", [""])[:1]
        if scope["path"] != "/" or not _equal(given, self._token):
            await _refuse(send, 401, "Open the address with the token that `mimix studio` printed.")
            return
        cookie = (
            f"{self._cookie}={self._session}; Path=/; HttpOnly; SameSite=Strict; Max-Age=2592000"
        )
        start: Message = {
            "type": "http.response.start",
            "status": 303,
            "headers": [
                (b"location", b"/"),
                (b"set-cookie", cookie.encode()),
                (b"cache-control", b"no-store"),
                *_HEADERS,
            ],
        }
        await send(start)
        await send({"type": "http.response.body", "body": b""})


def _equal(given: str, expected: str) -> bool:
    """Compare in constant time."""
    return hmac.compare_digest(given.encode(), expected.encode())


def _name_of(host: str) -> str:
    """Return a Host header without its port."""
    if host.startswith("["):
        return host[: host.find("]") + 1]
    return host.partition(":")[0]


async def _refuse(send: Send, status: int, text: str) -> None:
    body = text.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _with_headers(send: Send) -> Send:
    async def wrapped(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message["headers"], *_HEADERS]
        await send(message)

    return wrapped
