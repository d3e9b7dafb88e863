"""Serve the files of the studio's pages, JSON, and previews that may have to be made first."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from importlib import resources
from pathlib import Path

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, Response

from mimix_core.errors import BadInput

_TYPES = {
    ".html": "text/html",
    ".css": "text/css",
    ".js": "text/javascript",
    ".svg": "image/svg+xml",
}
UNCHANGING = {"cache-control": "private, max-age=31536000, immutable"}
FRESH = {"cache-control": "no-store"}


def _read_files() -> dict[str, bytes]:
    return {
        entry.name: entry.read_bytes()
        for entry in resources.files("mimix_core.studio").joinpath("static").iterdir()
        if Path(entry.name).suffix in _TYPES
    }


_files = _read_files()


def serve_page(name: str) -> Response:
    """Send a file of the page by its name. Raises HTTPException 404 for any other name."""
    if name not in _files:
        raise HTTPException(404, "no such file")
    media_type = f"{_TYPES[Path(name).suffix]}; charset=utf-8"
    return Response(_files[name], media_type=media_type, headers={"cache-control": "no-cache"})


def json_response(value: object) -> Response:
    """Send a value as JSON that is not cached."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return Response(text, media_type="application/json", headers=FRESH)


def answer_invalid_requests(app: FastAPI) -> None:
    """Answer invalid requests with the problems alone.

    FastAPI repeats the values, of which not all can be written as JSON: Infinity, and half of a
    surrogate pair.
    """

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        problems = [{name: one[name] for name in ("type", "loc", "msg")} for one in error.errors()]
        text = json.dumps({"detail": problems})
        return Response(text, 422, media_type="application/json", headers=FRESH)


async def when_made(path: Path, pending: Future[None] | None) -> Response:
    """Send a preview when it is there. Raises HTTPException 422 if it cannot be made."""
    if pending is not None:
        try:
            await asyncio.shield(asyncio.wrap_future(pending))
        except (BadInput, BrokenProcessPool) as error:
            raise HTTPException(422, f"no preview: {error}") from error
    return FileResponse(path, media_type="image/webp", headers=UNCHANGING)
