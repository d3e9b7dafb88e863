"""Targets: captions by their grammar, and the files that captions are imported from."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from mimix_core.domain.caption_grammar import CaptionVariant, parse_caption, render_caption
from mimix_core.domain.imported_clips import CLIPS_FILE, read_imported_clips
from mimix_core.domain.library import Style
from mimix_core.stages.captions.import_export import (
    find_edited_captions,
    find_edited_sidecars,
    read_caption_sidecars,
    read_captions_jsonl,
)
from mimix_core.stages.captions.imported_captions import parse_imported_caption
from mimix_core.stages.captions.overrides import read_overrides
from mimix_core.tables import CaptionRow
from tests.fuzz.mutations import spoil_bytes, spoil_json, spoil_text
from tests.fuzz.target import Target

CAPTION = "[Character: Tom], chases Dr. Jerry. [Character: Jerry], hides. A kitchen. At night. "
CAPTION += "[scene-style:cartoon]"
PLAIN = "Tom chases a mouse through the kitchen. It is night, e.g. 9 p.m."

_PARTS = (
    *(
        "[Character: ",
        "[Character: Tom], ",
        "]",
        "[",
        "], ",
        ". ",
        "...",
        "!",
        "?",
        " ",
        "Dr. ",
        "A. ",
    ),
    *(
        "[scene-style:cartoon]",
        " [scene-style:",
        "e.g. ",
        "\u00a0",
        "\u3002",
        '"',
        "'",
        ".)",
        '." ',
    ),
    *("U.S.A. ", "1. ", "\u2026", "\n", "Mr", "a.b.c."),
)


def spoil_caption(data: bytes, rng: Random) -> bytes:
    return spoil_text(data, rng, _PARTS)


def read_caption(data: bytes, _: Path) -> None:
    text = data.decode("utf-8", "surrogateescape")
    imported = parse_imported_caption(text, ("Tom",), Style.CARTOON)
    for variant in CaptionVariant:
        render_caption(imported, variant)
    if "[" in text:
        parse_caption(text)


_ROW = CaptionRow(
    clip_id="bunny-e01-0001",
    status="ok",
    reason=None,
    detail=None,
    actions=[{"name": "Tom", "action": "runs"}],
    context="A kitchen",
    style="cartoon",
    backend="script",
)  # type: ignore[typeddict-item]  # only what an import reads
_SECOND_CLIP = "bunny-e01-0002"
_ROWS = {"bunny-e01-0001": _ROW, _SECOND_CLIP: _ROW}

_EXPORTED = {
    "clip_id": "bunny-e01-0001",
    "video_path": "clips/1.mp4",
    "caption": "[Character: Tom], sits. A kitchen. [scene-style:cartoon]",
    "actions": [{"name": "Tom", "action": "runs"}],
    "context": "A kitchen",
    "style": "cartoon",
    "variant": "both",
}
_CLIP = {
    "file": "a.mp4",
    "sha256": "ab" * 32,
    "name": "a.mp4",
    "caption": CAPTION,
    "characters": ["Tom"],
    "group": "g",
}


def _lines(*records: object) -> bytes:
    return b"".join(json.dumps(record).encode() + b"\n" for record in records)


CAPTION_FILES = (
    b"J" + _lines(_EXPORTED, _EXPORTED | {"clip_id": _SECOND_CLIP, "caption": ""}),
    b"O" + _lines({"clip_id": "a", "caption": CAPTION}, {"clip_id": "b", "caption": ""}),
    b"C" + _lines(_CLIP, _CLIP),
    b"T" + CAPTION.encode(),
)
"""Their first letter says which of the files it is."""


def spoil_caption_file(data: bytes, rng: Random) -> bytes:
    kind, content = data[:1], data[1:]
    if kind == b"T" or rng.random() < 0.4:
        return kind + spoil_caption(content, rng)
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    lines[place] = spoil_json(lines[place], rng) if lines[place] else spoil_bytes(b"{}", rng)
    return kind + b"\n".join(lines)


def read_caption_file(data: bytes, folder: Path) -> None:
    kind, content = data[:1], data[1:]
    path = folder / {b"C": CLIPS_FILE, b"T": "bunny-e01-0001.txt"}.get(kind, "captions.jsonl")
    path.write_bytes(content)
    if kind == b"J":
        find_edited_captions(_ROWS, read_captions_jsonl(path))
    elif kind == b"C":
        read_imported_clips(folder)
    elif kind == b"T":
        find_edited_sidecars(_ROWS, read_caption_sidecars(folder))
    else:
        read_overrides(path)


TARGETS = (
    Target("captions", (CAPTION.encode(), PLAIN.encode()), spoil_caption, read_caption),
    Target("caption-files", CAPTION_FILES, spoil_caption_file, read_caption_file),
)
