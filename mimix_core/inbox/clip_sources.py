"""Read clips and captions made elsewhere: a folder, or a metadata file in JSON lines, CSV, Parquet.

A folder's videos have their captions in ``.txt`` files of the same name, unless the folder has a
``metadata.jsonl``, ``.csv`` or ``.parquet``. Rows name videos relative to the metadata file.

A source may come from a stranger. Its rows and links may name files of its own folder only: any
other file of this machine would be copied, moved, or end up as a caption.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from mimix_core.engine.input_files import read_utf8_text
from mimix_core.errors import BadInput
from mimix_core.inbox.parquet_rows import read_parquet_rows

VIDEO_COLUMNS = ("file_name", "video", "video_path", "path", "file", "media", "media_path")
CAPTION_COLUMNS = ("caption", "text", "prompt", "description")
CHARACTER_COLUMNS = ("characters", "character")
METADATA_FILES = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
VIDEO_EXTENSIONS = (
    *(".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".mpeg", ".ts", ".wmv", ".flv"),
    *(".gif", ".ogv"),
)


@dataclass(frozen=True)
class ClipSource:
    """A clip as its source states it; ``problem``: why it cannot be imported, if so.

    ``show``, ``characters`` and ``group`` are empty where the source does not state them.
    """

    path: Path
    caption: str = ""
    show: str = ""
    characters: tuple[str, ...] = ()
    group: str = ""
    problem: str = ""


def read_clip_sources(
    source: Path, group_column: str = "group", root: Path | None = None
) -> list[ClipSource]:
    """Return all clips of a folder or a metadata file, in its order; none is left out silently.

    ``root``: the folder that all files must be in, with links followed; None: the folder of
    ``source``. Raises BadInput when there is no such file, or when its rows name no videos.
    """
    if root is None:
        root = source if source.is_dir() else source.parent
    return [_confine(clip, root) for clip in _read_all(source, group_column, root)]


def _read_all(source: Path, group_column: str, root: Path) -> list[ClipSource]:
    if source.is_dir():
        found = [name for name in METADATA_FILES if (source / name).is_file()]
        if len(found) > 1:
            raise BadInput(
                f"has {' and '.join(found)}", where=str(source), fix="Name one of these files."
            )
        if not found:
            return list(_pair_files(source, root))
        source = source / found[0]
    wanted = {*VIDEO_COLUMNS, *CAPTION_COLUMNS, *CHARACTER_COLUMNS, "show", group_column}
    readers: dict[str, Callable[[Path], Iterator[dict[str, Any] | str]]] = {
        ".jsonl": _read_jsonl,
        ".csv": _read_csv,
        ".parquet": partial(read_parquet_rows, columns=wanted),
    }
    reader = readers.get(source.suffix.lower())
    if not source.is_file() or reader is None:
        problem = "no such file or folder" if not source.exists() else "no metadata file"
        raise BadInput(
            problem,
            where=str(source),
            fix="Name a folder, or a file that ends with .jsonl, .csv or .parquet.",
        )
    clips = []
    for number, row in enumerate(reader(source), start=1):
        if isinstance(row, str):
            clips.append(ClipSource(source, problem=f"row {number}: {row}"))
        else:
            clips.append(_clip_of_row(row, number, source, group_column))
    return clips


def _confine(clip: ClipSource, root: Path) -> ClipSource:
    """Return the clip, with a problem if its video is outside of ``root``."""
    if clip.problem or _is_inside(clip.path, root):
        return clip
    return replace(
        clip,
        problem=f"is outside of {root}, to which its row or a link leads: name a folder that "
        "contains it with --root if you trust the source",
    )


def _is_inside(path: Path, root: Path) -> bool:
    """Return whether a path is below ``root`` when all links are followed."""
    # Not Path.resolve, which raises RuntimeError for a link to itself.
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _pair_files(folder: Path, root: Path) -> Iterator[ClipSource]:
    """Pair the videos below a folder with the text files of their names."""
    texts: set[Path] = set()
    videos: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(parent) / name
            if name.startswith("."):
                continue
            if path.suffix.lower() in VIDEO_EXTENSIONS:
                videos.append(path)
            elif path.suffix.lower() == ".txt":
                texts.add(path)
    for video in videos:
        text = video.with_suffix(".txt")
        texts.discard(text)
        if not text.is_file():
            yield ClipSource(video)
            continue
        if not _is_inside(text, root):
            yield ClipSource(video, problem=f"{text.name} is a link that leads out of {root}")
            continue
        try:
            yield ClipSource(video, caption=text.read_text(encoding="utf-8-sig").strip())
        except (UnicodeDecodeError, OSError) as error:
            yield ClipSource(video, problem=f"{text.name} cannot be read as UTF-8 ({error})")
    for text in sorted(texts):
        yield ClipSource(text, problem="a caption without a video of its name beside it")


def _clip_of_row(row: Mapping[str, Any], number: int, source: Path, group: str) -> ClipSource:
    name = _first_text(row, VIDEO_COLUMNS)
    if not name:
        problem = f"row {number} names no video: none of {', '.join(VIDEO_COLUMNS)} has a value"
        return ClipSource(source, problem=problem)
    if "\0" in name:
        return ClipSource(source, problem=f"row {number}: a path with a NUL")
    return ClipSource(
        source.parent / name,
        caption=_first_text(row, CAPTION_COLUMNS),
        show=_text(row.get("show")),
        characters=_names(next((row[c] for c in CHARACTER_COLUMNS if row.get(c)), ())),
        group=_text(row.get(group)),
    )


def _first_text(row: Mapping[str, Any], columns: Sequence[str]) -> str:
    return next((text for column in columns if (text := _text(row.get(column)))), "")


def _text(value: Any) -> str:
    """Return a cell as text: a video of ``datasets`` is ``{"path": ..., "bytes": ...}``."""
    if isinstance(value, Mapping):
        value = value.get("path")
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value).strip()


def _names(value: Any) -> tuple[str, ...]:
    """Return the names of a list, or of a text that separates them by semicolons or commas."""
    if isinstance(value, str):
        value = value.replace(";", ",").split(",")
    elif not isinstance(value, Sequence):
        value = [value]
    return tuple(dict.fromkeys(name for name in map(_text, value) if name))


def _read_jsonl(path: Path) -> Iterator[dict[str, Any] | str]:
    for line in read_utf8_text(path).split("\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield f"is not JSON ({error})"
            continue
        if not isinstance(row, dict):
            yield "is not a JSON object"
        elif not _is_unicode(row):
            yield "contains half of a character"
        else:
            yield row


def _is_unicode(row: dict[str, Any]) -> bool:
    """Return whether UTF-8 can hold a row's texts; JSON has escapes of halves of characters."""
    try:
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def _read_csv(path: Path) -> Iterator[dict[str, Any] | str]:
    # Captions may be longer than the module's limit of 131,072 characters.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    for row in csv.DictReader(io.StringIO(read_utf8_text(path), newline="")):
        yield "has more cells than the header" if None in row else row
