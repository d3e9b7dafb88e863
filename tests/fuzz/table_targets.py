"""Targets: tables and folders of clips made elsewhere, as ``mimix dataset import`` reads them."""

from __future__ import annotations

import datetime
import io
import json
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core.inbox.clip_import import ClipDefaults, import_clips
from mimix_core.inbox.clip_sources import METADATA_FILES, read_clip_sources
from tests.fuzz.mutations import odd_value, spoil_bytes, spoil_json, spoil_text, spoil_value
from tests.fuzz.target import Target

LIBRARY = b"""\
shows:
  - {id: bunny, title: B, style: cartoon, characters: [{name: Bunny}], clips: clips/bunny}
"""
_ROWS: list[dict[str, Any]] = [
    {"file_name": "a.mp4", "text": "Bunny runs.", "show": "bunny", "group": "g", "n": 1},
    {"file_name": "b/c.mp4", "text": "Bunny sits.", "characters": "Bunny", "group": None, "n": 2},
]
_CSV = b"file_name,caption,show,characters\na.mp4,Bunny runs.,bunny,Bunny\nb/c.mp4,,bunny,\n"
_PARTS = (
    ",",
    ",,,,",
    '"',
    '""',
    '"\n',
    "\0",
    ";",
    "\r",
    "file_name",
    "x" * 200_000,
    "\ufeff",
    "{",
    "[]",
)


def parquet_bytes(table: pa.Table, compression: str = "zstd") -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, compression=compression)
    return stream.getvalue()


def table_seeds() -> tuple[bytes, ...]:
    """Return a table in each format; the first letter says which it is."""
    lists: list[dict[str, Any]] = [row | {"characters": ["Bunny"]} for row in _ROWS]
    videos = [{"video": {"path": "a.mp4", "bytes": b"x"}, "caption": "Bunny runs."}]
    return (
        b"J" + b"".join(json.dumps(row).encode() + b"\n" for row in _ROWS),
        b"C" + _CSV,
        b"P" + parquet_bytes(pa.Table.from_pylist(_ROWS)),
        b"P" + parquet_bytes(pa.Table.from_pylist(lists), "snappy"),
        b"P" + parquet_bytes(pa.Table.from_pylist(videos)),
    )


def spoil_table(data: bytes, rng: Random) -> bytes:
    kind, content = data[:1], data[1:]
    if kind == b"J" and rng.random() < 0.5:
        lines = content.split(b"\n")
        place = rng.randrange(len(lines))
        lines[place] = spoil_json(lines[place] or b"{}", rng)
        return kind + b"\n".join(lines)
    if kind != b"P":
        return kind + spoil_text(content, rng, _PARTS)
    if rng.random() < 0.4:
        return kind + spoil_bytes(content, rng)
    try:
        first = next(pq.ParquetFile(io.BytesIO(content)).iter_batches(100))
        table = pa.Table.from_batches([first])
        return kind + parquet_bytes(_spoil_columns(table, rng))
    except Exception:  # whatever pyarrow raises for values that it cannot write
        return kind + spoil_bytes(content, rng)


def _spoil_columns(table: pa.Table, rng: Random) -> pa.Table:
    """Give a column other values or another type, or the table very many rows."""
    name = rng.choice(table.column_names)
    place, rows = table.column_names.index(name), table.num_rows
    match rng.randrange(6):
        case 0:
            long = pa.table(
                {name: pa.array(["x" * 10]).take([0] * 1000) for name in ("path", "text")}
            )
            count = rng.choice((10, 2000))
            return pa.concat_tables([long] * count)
        case 1:
            values = spoil_value(table.to_pylist(), rng)
            return pa.Table.from_pylist(values)
        case 2:
            return table.rename_columns(
                [rng.choice(("path", "caption", "", "a.b", old)) for old in table.column_names]
            )
        case 3:
            return table.set_column(place, name, pa.array([odd_value(rng)] * rows))
        case _:
            return table.set_column(place, name, rng.choice(_odd_arrays(max(1, rows)))[:rows])


def _odd_arrays(rows: int) -> list[pa.Array]:
    """Return columns of types and values that no caption has."""
    moment = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    return [
        pa.array([b"\xff\0"] * rows),
        pa.array([2**62] * rows, pa.timestamp("ns")),
        pa.array([-(2**62)] * rows, pa.timestamp("s", "Europe/Berlin")),
        pa.array([moment] * rows, pa.timestamp("us", "+99:99")),
        pa.array([1] * rows, pa.time64("ns")),
        pa.array([2**31 - 1] * rows, pa.date32()),
        pa.array([2**62] * rows, pa.duration("ns")),
        pa.array([float("nan")] * rows),
        pa.array([None] * rows),
        pa.array([[["a"], None]] * rows),
        pa.array([{"path": None, "bytes": b""}] * rows),
        pa.array([[("a", 1), ("a", 2)]] * rows, pa.map_(pa.string(), pa.int64())),
        pa.array(["a"] * rows).dictionary_encode(),
        pa.array([True] * rows),
        pa.array([b"\xff\xfe"] * rows, pa.binary(2)),
        pa.array([b"\xff\xfe"] * rows).view(pa.string()),
        pa.array(["a\0b.mp4"] * rows),
        pa.array(["../" * 2000 + "a.mp4"] * rows),
        pa.array(["/dev/zero"] * rows),
    ]


def read_clip_table(data: bytes, folder: Path) -> None:
    kind, content = data[:1], data[1:]
    path = folder / {b"C": "m.csv", b"P": "m.parquet"}.get(kind, "m.jsonl")
    path.write_bytes(content)
    _import(folder, path)


def _import(folder: Path, source: Path) -> None:
    (folder / "b").mkdir(exist_ok=True)
    for name in ("a.mp4", "b/c.mp4"):
        (folder / name).write_bytes(name.encode())
    library = folder / "library.yaml"
    library.write_bytes(LIBRARY)
    sources = read_clip_sources(source)
    import_clips(library, sources[:200], ClipDefaults("bunny"))


FOLDER = json.dumps(
    {"a.txt": "Bunny runs.", "c.mp4": "video", "sub/d.mp4": "video", "sub/d.txt": "Bunny sits."}
).encode()


def read_clip_folder(data: bytes, folder: Path) -> None:
    """Import a folder that has these files; names that the file system refuses are left out."""
    inside = folder / "given"
    inside.mkdir()
    try:
        files = json.loads(data)
    except (ValueError, RecursionError):
        files = {"a.txt": data.decode("latin-1"), METADATA_FILES[0]: data.decode("latin-1")}
    for name, content in files.items() if isinstance(files, dict) else ():
        path = inside / name.lstrip("/")
        if ".." in path.parts or len(name) > 1000:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(str(content).encode("utf-8", "surrogateescape"))
        except (OSError, ValueError):
            continue
    _import(folder, inside)


TARGETS = (
    Target("clip-tables", table_seeds(), spoil_table, read_clip_table),
    Target("clip-folders", (FOLDER,), spoil_json, read_clip_folder),
)
