"""Inputs that were neither accepted nor refused, or took too long, made small: by target."""

from __future__ import annotations

import json
from pathlib import Path

_LONG = 300_000
_CUE = b"1\n00:00:01,000 --> 00:00:02,000\nHello"
_EVENT = b"[Events]\nDialogue: 0,0:00:01.00,0:00:02.50,Default,,0,0,0,,"
_LIBRARY = (
    b"shows: [{id: a, title: A, style: cartoon, characters: [{name: Tom}], episodes: [{path: %s}]}]"
)


def _completion(**values: object) -> bytes:
    answer = {"choices": [{"message": {"content": "{}"}}], **values}
    return b"O" + json.dumps(answer).encode()


def _adapter(entry: dict[str, object]) -> bytes:
    header = json.dumps({"transformer.blocks.0.attn1.to_q.lora_A.weight": entry}).encode()
    return len(header).to_bytes(8, "little") + header


def _decisions(count: int) -> bytes:
    name = {"kind": "track", "item": "meadow/meadow-one-0000-rinky", "action": "name"}
    body = {"reviewer": "anna", "decisions": [{**name, "character": "Bunny"}] * count}
    request = {"method": "POST", "path": "/api/decisions", "query": {}, "body": body}
    return json.dumps(request).encode()


FINDINGS: dict[str, tuple[bytes, ...]] = {
    "library": (
        # Paths that are too long for any file.
        _LIBRARY % (b"a" * 300),
        _LIBRARY % (b"a" * 300 + b"/*.mp4"),
        _LIBRARY % (b"e01.mp4, subtitles: " + b"a/" * 3000),
        # PyYAML raises an AttributeError.
        b"shows: !!timestamp x",
    ),
    "settings": (
        b"library: " + b"a" * 300,
        # A merged key has no line of its own.
        b"<<: {library: missing.yaml}",
        b'extends: "\\0"',
    ),
    "scripts": (
        b"actions: [{start: null, end: 1, character: Bunny, action: runs}]",
        b"actions: [{start: 1e999999999, end: 2, character: Bunny, action: runs}]",
        b'actions: [{start: "1e-999999999", end: "2", character: Bunny, action: runs}]',
        b'actions: [&a {start: "0", end: "1", character: Nobody, action: runs}, {<<: *a}]',
        b"boxes: [{time: [], character: Bunny, box: [0, 0, 1, 1]}]",
    ),
    "subtitles": (
        (_CUE + b"\n\n") * 20_000,
        _CUE + b"\n\n" + b"9" * 5000,
        _CUE + b"\n" * _LONG,
        _CUE + b"<rt>" * _LONG,
        _CUE + b"<a" * _LONG,
        _CUE + b"<" + b" " * _LONG,
        _CUE + b"{" * _LONG,
        # The sums of all tags before each tag took 30 GB.
        _EVENT + b"{}" * _LONG,
        _EVENT + b"{" * _LONG,
    ),
    "captions": (b"A. " * _LONG, b"[Character: Tom], " + b"A." * _LONG + b" [scene-style:cartoon]"),
    "caption-files": (
        b"J\xff",
        b"O\xff",
        b"T\xff",
        b"C" + b"[" * 100_000 + b"\n",
        b"J" + b"[" * 100_000,
    ),
    "clip-tables": (b"J" + b"[" * 100_000,),
    "model-folders": (
        b'text_encoder/config.json\n{"architectures": 2}',
        b'model_index.json\n{"_class_name": "WanPipeline", "vae": 2}',
        b'transformer/config.json\n{"_class_name": "WanTransformer3DModel", "num_layers": "x"}',
    ),
    "replies": (
        b"W" + b"[" * 100_000,
        b"W" + b"{" * 1_000_000,
        b'W"' + b'\\"' * _LONG,
        b"W" + b"<think>" * _LONG,
        b"W" + b'{"": [' * 5000,
        _completion(usage={"prompt_tokens": "many"}),
        _completion(usage={"prompt_tokens": 1e400}),
        _completion(usage={"prompt_tokens": -5}),
        _completion(choices=[{"message": [1]}]),
        _completion(choices=[{"message": "a"}]),
        b'G{"candidates": [{"finish_reason": [""]}]}',
    ),
    "studio-api": (
        b'{"method": "POST", "path": "/api/undo", "query": {}, "body": {"ids": Infinity}}',
        b'{"method": "POST", "path": "/api/undo", "query": {}, "body": {"\\ud800": 1}}',
        b'{"method": "POST", "path": "/api/undo", "query": {}, "body": {"ids": ["\\ud800"]}}',
        # The item's state was described once for each of its decisions.
        _decisions(2400),
    ),
    "studio-http": (b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: http://[\r\n\r\n",),
    "adapters": (
        # The product of so many sizes took 5 s.
        _adapter({"dtype": "F32", "shape": [96] * 100_000, "data_offsets": [0, 768]}),
    ),
    "provider-errors": (
        b"1 Oct 2222222226 8:0\n{}",
        b"9" * 400 + b"\n{}",
        b"1\n" + b"[" * 100_000,
        b"1\n<html>" + b"<script" * _LONG,
        b"1\n<html>" + b"<" * _LONG,
    ),
}


def found(target: str) -> tuple[bytes, ...]:
    """Return all findings of a target: those above, and the files in ``found``."""
    files = sorted((Path(__file__).parent / "found").glob(f"{target}-*"))
    return FINDINGS.get(target, ()) + tuple(path.read_bytes() for path in files)
