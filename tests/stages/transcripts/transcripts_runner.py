"""Run the transcripts stage on given clips, subtitles and audio."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa

from mimix_core import tables
from mimix_core.engine.artifacts import FileRef, file_ref
from mimix_core.engine.stage import StageReport
from mimix_core.settings import TranscriptSettings
from mimix_core.stages import transcripts
from tests.media_factory import commit_table

SRT = """1
00:00:00,500 --> 00:00:01,500
Too early.

2
00:00:01,900 --> 00:00:02,100
<i>Over the</i>
beginning.

3
00:00:04,000 --> 00:00:05,250
In the middle.

4
00:00:07,000 --> 00:00:09,000
Over the end.

5
00:00:07,063 --> 00:00:09,000
Too late.
"""
VTT = "WEBVTT\n\n00:00:04.000 --> 00:00:05.250\nIn the <b>middle</b>.\n"
ASS = (
    "[Script Info]\nScriptType: v4.00+\n\n[V4+ Styles]\nFormat: Name\n\n[Events]\n"
    "Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text\n"
    "Comment: 0,0:00:04.00,0:00:05.25,Default,,0,0,0,,not said\n"
    "Dialogue: 0,0:00:04.00,0:00:05.25,Default,,0,0,0,,{\\i1}In the\\Nmiddle.\n"
)


def clip(start: int = 2000, *, origin: int = 0, **changes: Any) -> tables.Row:
    """A clip that starts ``start`` ms after the episode's first frame."""
    row: tables.Row = {
        field.name: [] if pa.types.is_list(field.type) else 0 for field in tables.CLIPS.schema
    }
    for name in (
        "show",
        "style",
        "text_remains",
        "file",
        "sha256",
        "audio_file",
        "audio_sha256",
    ):
        row[name] = ""
    row |= {
        "clip_id": f"demo-c{start}",
        "scene_id": "demo-s0",
        "episode_id": "demo",
        "origin_pts": origin,
        "time_base_num": 1,
        "time_base_den": 1000,
        "start_num": origin + start,
        "start_den": 1000,
        "source_pts": [origin + start + k * 1000 // 16 for k in range(81)],
        "frames": 81,
        "rate_num": 16,
        "rate_den": 1,
        "fingerprint": b"",
        "inset_fingerprint": b"",
    }
    values = {k: v for k, v in row.items() if k not in ("status", "reason", "detail")}
    return tables.ok(**values) | changes


def run(
    folder: Path,
    clips: list[tables.Row],
    *,
    subtitles: str | bytes | None = None,
    suffix: str = ".srt",
    video: Path | None = None,
    model: FileRef | None = None,
    language: str = "",
    **settings: Any,
) -> list[tables.Row]:
    return list(report(folder, clips, subtitles, suffix, video, model, language, settings).rows)


def report(
    folder: Path,
    clips: list[tables.Row],
    subtitles: str | bytes | None = None,
    suffix: str = ".srt",
    video: Path | None = None,
    model: FileRef | None = None,
    language: str = "",
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> StageReport:
    beside = folder / f"words{suffix}"
    if subtitles is not None:
        content = subtitles.encode() if isinstance(subtitles, str) else subtitles
        beside.write_bytes(content)
    if video is None:
        video = folder / "v.mp4"
        video.write_bytes(b"not looked at")
    inputs = transcripts.TranscriptInputs(
        unit="v",
        video=file_ref(video),
        clips=commit_table(folder / "clips", tables.CLIPS, clips),
        subtitles=None if subtitles is None else file_ref(beside),
        subtitles_language=language,
        speech_model=model,
    )
    found = transcripts.run(inputs, TranscriptSettings(**settings), folder)
    tables.validate(tables.TRANSCRIPTS, found.rows)
    assert found.rows_in == len(found.rows)
    return found
