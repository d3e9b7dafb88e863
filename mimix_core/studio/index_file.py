"""Write the index of a studio: all items in one SQLite file, named by what it was made from.

The file is written by a separate process (``flows/studio_tables.py``) and read by the server, which
so needs neither Parquet nor Prefect in its memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.atomic_io import fsync_path
from mimix_core.studio.studio_item import StudioItem

FOLDER = "studio"
"""Folder of the index and of the previews, below the workspace."""

VERSION = 3
"""Raised whenever the same tables give another index."""

RETAINED_FILES = 2
"""Index files that remain: the newest, and the one that a server may still read."""

_SCHEMA = """
CREATE TABLE items (
    seq INTEGER PRIMARY KEY, kind TEXT, id TEXT, show TEXT, episode TEXT, style TEXT, stage TEXT,
    status TEXT, reason TEXT, split TEXT, review TEXT, digest TEXT, masks_digest TEXT, data TEXT,
    files TEXT, details TEXT
);
CREATE TABLE characters (seq INTEGER, name TEXT);
CREATE TABLE numbers (seq INTEGER, name TEXT, value REAL);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT);
CREATE VIRTUAL TABLE search USING fts5(
    caption, dialogue, id, detail, tokenize = "unicode61 remove_diacritics 2"
);
"""


def index_path(workspace: Path, refs: Mapping[str, Sequence[TableRef]], meta: Any) -> Path:
    """Return the path of the index of these tables and of what the page shows besides them."""
    names = {stage: [[ref.key, ref.sha256] for ref in found] for stage, found in refs.items()}
    text = json.dumps([VERSION, names, meta], sort_keys=True)
    return workspace / FOLDER / f"index-{hashlib.sha256(text.encode()).hexdigest()[:24]}.sqlite"


def write_index(path: Path, items: Iterable[StudioItem], meta: Mapping[str, Any]) -> None:
    """Write an index file completely or not at all, and remove older ones."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, part = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    os.close(descriptor)
    try:
        connection = sqlite3.connect(part)
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.executescript(_SCHEMA)
        for seq, item in enumerate(items):
            _insert(connection, seq, item)
        connection.execute("CREATE UNIQUE INDEX by_id ON items (kind, id)")
        connection.executemany(
            "INSERT INTO meta VALUES (?, ?)",
            [(name, json.dumps(value)) for name, value in meta.items()],
        )
        connection.execute("INSERT INTO search (search) VALUES ('optimize')")
        connection.commit()
        connection.close()
        fsync_path(Path(part))
        Path(part).replace(path)
    finally:
        Path(part).unlink(missing_ok=True)
    older = sorted(
        path.parent.glob("index-*.sqlite"), key=lambda file: file.stat().st_mtime_ns, reverse=True
    )
    for file in older[RETAINED_FILES:]:
        file.unlink(missing_ok=True)


def _insert(connection: sqlite3.Connection, seq: int, item: StudioItem) -> None:
    shown = {
        **item.data,
        "kind": item.kind,
        "id": item.id,
        "show": item.show,
        "episode": item.episode,
        "style": item.style,
        "stage": item.stage,
        "status": item.status,
        "reason": item.reason,
        "detail": item.detail,
        "split": item.split,
        "review": item.review,
        "characters": item.characters,
        "caption": item.caption,
        "dialogue": item.dialogue,
        "digest": item.digest,
        "masks_digest": item.masks_digest,
        "numbers": {name: round(value, 6) for name, value in item.numbers.items()},
        "has": sorted(item.files),
    }
    connection.execute(
        f"INSERT INTO items VALUES ({', '.join('?' * 16)})",
        (
            *(seq, item.kind, item.id, item.show, item.episode, item.style, item.stage),
            *(item.status, item.reason, item.split, item.review, item.digest, item.masks_digest),
            *(json.dumps(value, ensure_ascii=False) for value in (shown, item.files, item.details)),
        ),
    )
    connection.executemany(
        "INSERT INTO characters VALUES (?, ?)", [(seq, name) for name in item.characters]
    )
    connection.executemany(
        "INSERT INTO numbers VALUES (?, ?, ?)",
        [(seq, name, value) for name, value in item.numbers.items()],
    )
    connection.execute(
        "INSERT INTO search (rowid, caption, dialogue, id, detail) VALUES (?, ?, ?, ?, ?)",
        (seq, item.caption, item.dialogue, item.id, item.detail),
    )
