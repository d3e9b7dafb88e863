"""Hand-made rows and tables for tests of single stages."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.domain.caption_grammar import parse_caption
from mimix_core.engine.artifacts import TableRef, digest_file
from mimix_core.engine.stage import count_rows
from mimix_core.media import ClipWriter
from mimix_core.stages.captions.caption_rows import caption_columns
from mimix_core.tables import Row, Table


def table_ref(folder: Path, table: Table, rows: Iterable[Row], *, unit: str = "one") -> TableRef:
    """Write a table as the store would, and give the reference to it."""
    rows = list(rows)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "table.parquet"
    key = hashlib.sha256(str(folder).encode()).hexdigest()
    tables.write(path, table, rows, stage_key=key)
    return TableRef(
        stage=table.name,
        unit=unit,
        key=key,
        sha256=digest_file(path),
        path=path,
        counts=count_rows(rows, len(rows)),
    )


def clip(name: str, *, start: int = 0, **values: Any) -> Row:
    """An ok clip of 64 x 48 pixels from a source of 128 x 96, PTS in milliseconds."""
    row: Row = {
        "clip_id": name,
        "scene_id": f"{name}-scene",
        "episode_id": "show-episode",
        "show": "show",
        "style": "cartoon",
        "origin_pts": 0,
        "time_base_num": 1,
        "time_base_den": 1000,
        "start_num": start,
        "start_den": 1000,
        "source_pts": [start + round(n * 62.5) for n in range(81)],
        "source_width": 128,
        "source_height": 96,
        "crop": [0, 0, 128, 96],
        "width": 64,
        "height": 48,
        "frames": 81,
        "rate_num": 16,
        "rate_den": 1,
        "motion": 0.01,
        "sharpness": 100.0,
        "black_share": 0.0,
        "frozen_share": 0.0,
        "repeat_share": 0.0,
        "file": f"clips/{name}.mp4",
        "sha256": "",
        "audio_file": "",
        "audio_sha256": "",
        "lost_audio_ms": 0,
        "text_remains": "",
        "fingerprint": b"",
        "inset_fingerprint": b"",
    }
    return tables.ok(**row | values)


UNASKED: Row = {
    "model": "",
    "attempts": 0,
    "input_tokens": 0,
    "cached_tokens": 0,
    "output_tokens": 0,
    "cost_usd": 0.0,
}
"""Of a caption that no model was asked for."""


def caption(
    name: str, text: str = "[Character: Tom], runs. [scene-style:cartoon]", **more: Any
) -> Row:
    parsed = parse_caption(text)
    return tables.ok(**caption_columns(name, "test", parsed, parsed.style) | more)


def video(path: Path, frames_NHWC: NDArray[np.uint8]) -> str:
    """Write frames as a clip; gives its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = frames_NHWC.shape[1:3]
    with ClipWriter(path, width, height, crf=8, preset="ultrafast") as writer:
        for frame in frames_NHWC:
            writer.write_rgb(frame)
    return digest_file(path)
