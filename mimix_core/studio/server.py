"""The studio's HTTP server: its page, its items, its media and the decisions of people.

Files are named by the ids of items only, and looked up in the index: no path comes from a request.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from pydantic import Field

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.errors import BadInput, is_disk_full
from mimix_core.project.item_decisions import (
    ItemDecision,
    ItemKind,
    format_decision_lines,
)
from mimix_core.studio.access_guard import AccessGuard
from mimix_core.studio.clip_source import source_moment
from mimix_core.studio.decision_requests import (
    DecisionBatch,
    RefusedDecision,
    Text,
    UndoRequest,
    build_decision,
)
from mimix_core.studio.item_index import FACETS, ItemQuery
from mimix_core.studio.page_files import FRESH as _FRESH
from mimix_core.studio.page_files import UNCHANGING as _UNCHANGING
from mimix_core.studio.page_files import answer_invalid_requests, serve_page
from mimix_core.studio.page_files import json_response as _json
from mimix_core.studio.page_files import when_made as _when_made
from mimix_core.studio.preview_cache import MASK_COLUMNS, SPRITE_FRAMES, PreviewCache
from mimix_core.studio.studio_session import DECIDABLE, StudioSession
from mimix_core.studio.track_items import CROP_ROLES

PAGE_SIZE_LIMIT = 500

_MEDIA_TYPES = {
    ".mp4": "video/mp4",
    ".m4a": "audio/mp4",
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
}


class CaptionDraft(FrozenModel):
    """A caption that is being written for an item."""

    kind: Text
    id: Text
    caption: Text = Field(max_length=8000)


def create_app(
    session: StudioSession,
    previews: PreviewCache,
    token: str | None,
    pages: Sequence[Callable[[FastAPI], None]] = (),
) -> AccessGuard:
    """Build the application. ``token``: what to open the page with; None for this machine only.

    ``pages``: add further pages to it, with their own routes.
    """
    app = FastAPI(title="MiMix Studio", docs_url=None, redoc_url=None, openapi_url=None)
    answer_invalid_requests(app)
    _add_page(app)
    _add_items(app, session)
    _add_decisions(app, session)
    _add_media(app, session, previews)
    for add_page in pages:
        add_page(app)
    return AccessGuard(app, token)


def _add_page(app: FastAPI) -> None:
    @app.get("/")
    async def page() -> Response:
        return serve_page("index.html")

    @app.get("/favicon.ico")
    async def icon() -> Response:
        return serve_page("icon.svg")

    @app.get("/static/{name}")
    async def static(name: str) -> Response:
        return serve_page(name)


def parse_query(request: Request) -> ItemQuery:
    """Build the query from the address: facets, ``min_``/``max_`` of numbers, q, sort, desc."""
    params = request.query_params
    ranges: dict[str, tuple[float, float]] = {}
    for name in params:
        for edge, prefix in ((0, "min_"), (1, "max_")):
            if name.startswith(prefix):
                try:
                    value = float(params[name])
                except ValueError as error:
                    raise HTTPException(422, f"{name} is not a number") from error
                pair = list(ranges.get(name[4:], (-float("inf"), float("inf"))))
                pair[edge] = value
                ranges[name[4:]] = (pair[0], pair[1])
    return ItemQuery(
        kind=params.get("kind", "clip"),
        values={name: frozenset(params.getlist(name)) for name in FACETS if name in params},
        ranges=ranges,
        text=params.get("q", ""),
        sort=params.get("sort", "library"),
        descending="desc" in params,
    )


def _add_items(app: FastAPI, session: StudioSession) -> None:
    @app.get("/api/project")
    async def project() -> Response:
        index = session.index
        counts = index.counts()
        return _json(
            {
                **{name: value for name, value in index.meta.items() if name != "sources"},
                "counts": counts,
                "numbers": {kind: index.number_ranges(kind) for kind in counts},
                "reviewer": session.reviewer,
                "version": session.version,
                "index": index.path.stem,
                "sprite_frames": SPRITE_FRAMES,
                "mask_columns": MASK_COLUMNS,
            }
        )

    @app.get("/api/items")
    async def items(
        request: Request,
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=1, le=PAGE_SIZE_LIMIT)] = 60,
    ) -> Response:
        text = session.item_page(parse_query(request), offset, limit)
        return Response(text, media_type="application/json", headers=_FRESH)

    @app.get("/api/facets")
    async def facets(request: Request) -> Response:
        return _json(session.index.facets(parse_query(request)))

    @app.get("/api/ids")
    async def ids(request: Request) -> Response:
        index = session.index
        return _json(index.ids(list(index.select(parse_query(request)))))

    @app.get("/api/place")
    async def place(request: Request, id: str) -> Response:
        """Return where an item is among those that fit; -1 if it does not."""
        query = parse_query(request)
        position = session.index.position(query.kind, id)
        found = session.index.select(query)
        places = [] if position is None else (found == position).nonzero()[0].tolist()
        return _json(places[0] if places else -1)

    @app.get("/api/item")
    async def item(kind: str, id: str) -> Response:
        shown = session.index.item(kind, id)
        if shown is None:
            raise HTTPException(404, "no such item")
        history = []
        if kind in DECIDABLE:
            ledger = session.log.ledger
            history = [
                {**json.loads(one.model_dump_json()), "undone": ledger.is_undone(one)}
                for one in ledger.history(ItemKind(kind), id)
            ]
        details = session.index.details(kind, id)
        return _json(
            {
                "item": shown,
                "state": session.state(kind, id),
                "details": details,
                "history": history,
            }
        )


def _states(session: StudioSession, added: Sequence[ItemDecision]) -> list[dict[str, Any]]:
    """Return what counts now for each item of decisions, once for each item."""
    items = dict.fromkeys((one.kind, one.item) for one in added)
    return [{"kind": kind, "id": item, "state": session.state(kind, item)} for kind, item in items]


def _add_decisions(app: FastAPI, session: StudioSession) -> None:
    @app.post("/api/decisions")
    def decide(batch: DecisionBatch) -> Response:
        reviewer = batch.reviewer.strip() or session.reviewer
        decisions = []
        for one in batch.decisions:
            shown = session.index.item(one.kind, one.item)
            if shown is None:
                raise HTTPException(404, f"no such {one.kind.value}: {one.item}")
            try:
                decisions.append(build_decision(one, shown, session, reviewer, batch.batch))
            except RefusedDecision as error:
                raise HTTPException(422, str(error)) from error
        expected = [one.expected for one in batch.decisions]
        added, conflicts = session.decide(decisions, expected)
        return _json(
            {
                "ids": [one.decision_id for one in added],
                "states": _states(session, added),
                "conflicts": [vars(conflict) for conflict in conflicts],
            }
        )

    @app.post("/api/undo")
    def undo(request: UndoRequest) -> Response:
        added = session.undo(request.ids, request.reviewer.strip() or session.reviewer)
        return _json({"states": _states(session, added)})

    @app.post("/api/check")
    def check(draft: CaptionDraft) -> Response:
        shown = session.index.item(draft.kind, draft.id)
        if shown is None:
            raise HTTPException(404, "no such item")
        return _json(session.caption_problems(shown, draft.caption))

    @app.get("/api/changes")
    def changes(since: int) -> Response:
        session.refresh()
        return _json(
            {
                "version": session.version,
                "index": session.index.path.stem,
                "states": [
                    {"kind": kind, "id": item, "state": session.state(kind, item)}
                    for kind, item in session.changes_since(since)
                ],
            }
        )

    @app.get("/api/decisions.jsonl")
    def export() -> Response:
        session.refresh()
        return PlainTextResponse(
            format_decision_lines(session.log.ledger.by_id.values()),
            media_type="application/x-ndjson",
            headers={"content-disposition": 'attachment; filename="decisions.jsonl"', **_FRESH},
        )

    @app.exception_handler(BadInput)
    async def bad_input(_: Request, error: BadInput) -> Response:
        return JSONResponse({"detail": str(error)}, 500)

    @app.exception_handler(OSError)
    async def not_written(_: Request, error: OSError) -> Response:
        reason = "the disk is full" if is_disk_full(error) else str(error.strerror or error)
        return JSONResponse({"detail": f"not saved: {reason}"}, 500)


def _add_media(app: FastAPI, session: StudioSession, previews: PreviewCache) -> None:
    def require(kind: str, name: str, role: str) -> Path:
        path = session.file(kind, name, role)
        if path is None:
            raise HTTPException(404, f"no {role} of this item")
        return path

    @app.get("/media/{role}")
    async def media(role: str, kind: str, id: str) -> Response:
        if role not in ("video", "audio", "frame", *CROP_ROLES):
            raise HTTPException(404, "no such file")
        path = require(kind, id, role)
        media_type = _MEDIA_TYPES.get(path.suffix)
        if media_type is None:
            raise HTTPException(404, "not a file that the page shows")
        return FileResponse(path, media_type=media_type, headers=_UNCHANGING)

    @app.get("/preview/sprite")
    async def sprite(kind: str, id: str) -> Response:
        video = require(kind, id, "video")
        shown = session.index.item(kind, id) or {}
        frames = int(shown.get("frames") or 81)
        return await _when_made(*previews.sprite(_digest(shown, "digest"), video, frames))

    @app.get("/preview/source")
    async def source(kind: str, id: str) -> Response:
        shown = session.index.item(kind, id) or {}
        video = session.source(shown) if shown.get("crop") else None
        if video is None:
            raise HTTPException(404, "no source of this item")
        moment = source_moment(shown)
        return await _when_made(*previews.source_frame(_digest(shown, "digest"), video, moment))

    @app.get("/preview/masks")
    async def masks(kind: str, id: str) -> Response:
        path = require(kind, id, "masks")
        shown = session.index.item(kind, id) or {}
        return await _when_made(*previews.mask_sheet(_digest(shown, "masks_digest"), path))


def _digest(shown: dict[str, Any], name: str) -> str:
    digest = str(shown.get(name, ""))
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise HTTPException(404, "the file has no digest")
    return digest
