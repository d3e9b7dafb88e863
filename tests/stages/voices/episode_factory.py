"""An episode of generated voices, and its clips and transcripts as earlier stages leave them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mimix_core import tables
from mimix_core.engine.artifacts import FileRef, TableRef, file_ref
from mimix_core.settings import SpeakerSettings, VoiceSettings
from mimix_core.stages import speakers, voices
from mimix_core.tables import Row
from tests.media.test_audio import write_audio
from tests.media_factory import commit_table
from tests.stages.transcripts.transcripts_runner import clip
from tests.voice_factory import RATE, Samples, Voice, music, silence, speak

SECONDS = 5
"""Of a clip; they follow one another."""


@dataclass(frozen=True)
class Spoken:
    """A line from 1 s to 4 s of its clip, by a voice, or with music or nothing in its place."""

    text: str
    by: Voice | str


def write_episode(path: Path, lines: Sequence[Spoken]) -> FileRef:
    """Write the audio of an episode with one line in each clip."""
    parts: list[Samples] = []
    for number, line in enumerate(lines):
        if isinstance(line.by, Voice):
            sound = speak(line.by, 3, 700 + number)
        else:
            sound = music(3, number) if line.by == "music" else silence(3)
        parts += [silence(1), sound, silence(SECONDS - 4)]
    wide = np.repeat(np.concatenate(parts), 3)  # 48 kHz
    assert 3 * RATE == 48_000
    samples = (wide * 32767).astype(np.int16)[None]
    return file_ref(write_audio(path, samples, "flac" if path.suffix == ".mkv" else "aac"))


def commit_clips(folder: Path, lines: Sequence[Spoken]) -> tuple[TableRef, TableRef]:
    """Write the tables of clips and transcripts."""
    clips = [clip(SECONDS * 1000 * number) for number in range(len(lines))]
    transcripts = [
        tables.ok(
            clip_id=row["clip_id"],
            backend="subtitles/sidecar",
            language="en",
            text=line.text,
            lines=[{"start_ms": 1000, "end_ms": 4000, "text": line.text}] if line.text else [],
            words=[],
        )
        for row, line in zip(clips, lines, strict=True)
    ]
    return (
        commit_table(folder / "clips", tables.CLIPS, clips),
        commit_table(folder / "transcripts", tables.TRANSCRIPTS, transcripts),
    )


def encode(folder: Path, video: FileRef, lines: Sequence[Spoken], **settings: Any) -> list[Row]:
    """Run the stage ``voices``, by default with the stand-in."""
    clips, transcripts = commit_clips(folder, lines)
    inputs = voices.VoiceInputs(unit="e", video=video, clips=clips, transcripts=transcripts)
    found = voices.run(inputs, VoiceSettings(**{"backend": STAND_IN, **settings}), folder)
    tables.validate(tables.VOICES, found.rows)
    assert found.rows_in == len(found.rows)
    return list(found.rows)


STAND_IN = "spectral-statistics"


def attach(
    folder: Path, rows: Sequence[Row], settings: SpeakerSettings | None = None, **inputs: Any
) -> dict[str, Row]:
    """Run the stage ``speakers``; rows by text."""
    given = speakers.SpeakerInputs(
        unit="e",
        voices=commit_table(folder / "voices", tables.VOICES, rows),
        roster=("Teddy", "Ann"),
        aliases={"Ted": "Teddy"},
        backend=STAND_IN,
        **inputs,
    )
    found = speakers.run(given, settings or SpeakerSettings(), folder)
    tables.validate(tables.SPEAKERS, found.rows)
    assert found.rows_in == len(found.rows) == len(rows)
    return {row["text"]: row for row in found.rows}
