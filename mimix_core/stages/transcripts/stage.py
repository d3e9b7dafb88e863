"""Stage ``transcripts``: one row per clip with what is said in it.

Sources in order: a subtitle file, a text stream in the video, speech recognition if the settings
ask for it. Subtitle files count from the episode's first video frame, as players do; streams are on
the container's clock. Subtitles that are there and cannot be read fail the clips' rows: taking the
next source instead would hide the broken file, and stopping would cost the night's other episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mimix_core import tables
from mimix_core.domain.language_codes import language
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import MissingModel
from mimix_core.media import UnreadableVideo
from mimix_core.settings import TranscriptSettings
from mimix_core.stages.transcripts.asr import listen
from mimix_core.stages.transcripts.dialogue import Line, Word, episode_start, spoken
from mimix_core.stages.transcripts.embedded_subtitles import read_embedded
from mimix_core.stages.transcripts.subtitle_parser import UnreadableSubtitles, read_subtitles
from mimix_core.tables import Reason, Row

SIDECAR, EMBEDDED, SPEECH, NONE = (
    "subtitles/sidecar",
    "subtitles/embedded",
    "faster-whisper",
    "none",
)


class TranscriptInputs(FrozenModel):
    """One episode, its clips, and where its words may come from.

    ``subtitles_language``: what the name of the subtitle file says; empty: nothing.
    """

    unit: Annotated[str, ExcludeFromKey()]
    video: FileRef
    clips: TableRef
    subtitles: FileRef | None = None
    subtitles_language: str = ""
    speech_model: FileRef | None = None


@dataclass(frozen=True)
class Dialogue:
    """What is said in an episode, and who says so."""

    backend: str
    language: str = ""
    lines: Sequence[Line] = ()
    notes: Mapping[str, str | int | float] = field(default_factory=dict)


def run(inputs: TranscriptInputs, settings: TranscriptSettings, out: Path) -> StageReport:
    """One row per usable clip. Raises MissingModel without the model that is needed."""
    clips = _usable_clips(inputs)
    if not clips:
        return StageReport([], rows_in=0)
    backend = SIDECAR if inputs.subtitles is not None else EMBEDDED
    try:
        dialogue = _from_sidecar(inputs, settings) or _from_stream(inputs, settings, clips[0])
        notes = dict(dialogue.notes)
        if dialogue.backend == NONE and settings.speech == SPEECH:
            backend = SPEECH
            dialogue = _from_speech(inputs, settings, clips[0])
    except UnreadableSubtitles as error:
        return _failed(clips, backend, Reason.SUBTITLES_UNREADABLE, error.what)
    except UnreadableVideo as error:
        return _failed(clips, backend, error.reason, error.what)
    rows = [tables.ok(**_values(clip, dialogue)) for clip in clips]
    return StageReport(rows, rows_in=len(clips), notes={**notes, "lines": len(dialogue.lines)})


def broken(inputs: TranscriptInputs, reason: Reason, detail: str) -> StageReport:
    """The rows of an episode whose process died or hung: every clip failed."""
    return _failed(_usable_clips(inputs), "", reason, detail)


STAGE = Stage(
    name="transcripts",
    title="Transcripts",
    description="Assign dialogue to each clip, from subtitles or by speech recognition.",
    row_noun="clips",
    phase=Phase.CURATION,
    upstream=("duplicates",),
    version=3,
    inputs=TranscriptInputs,
    settings=TranscriptSettings,
    table=tables.TRANSCRIPTS,
    run=run,
    failed_rows=broken,
)


def _usable_clips(inputs: TranscriptInputs) -> list[Row]:
    return list(tables.usable(tables.read(inputs.clips.path, tables.CLIPS)))


def _from_sidecar(inputs: TranscriptInputs, settings: TranscriptSettings) -> Dialogue | None:
    if inputs.subtitles is None:
        return None
    found = read_subtitles(inputs.subtitles.path, settings.fallback_encoding)
    named = language(inputs.subtitles_language)
    notes: dict[str, str | int | float] = {"encoding": found.encoding}
    if found.unread:
        notes["unread_cues"] = found.unread
    return Dialogue(SIDECAR, named, found.lines, notes)


def _from_stream(inputs: TranscriptInputs, settings: TranscriptSettings, clip: Row) -> Dialogue:
    """The dialogue of a subtitle stream; of backend ``none`` where there is none."""
    found = read_embedded(inputs.video.path, start=episode_start(clip), preferred=settings.language)
    left = {"picture_subtitle_streams": found.pictures, "forced_subtitle_streams": found.forced}
    notes: dict[str, str | int | float] = {name: count for name, count in left.items() if count}
    if found.lines:
        return Dialogue(EMBEDDED, found.language, found.lines, notes)
    if found.lines is not None:
        notes["empty_subtitle_stream"] = found.language or "of no stated language"
    return Dialogue(NONE, notes=notes)


def _from_speech(inputs: TranscriptInputs, settings: TranscriptSettings, clip: Row) -> Dialogue:
    if inputs.speech_model is None:
        raise MissingModel(
            "speech recognition is asked for, but no model is given",
            where="transcripts.model",
            fix="Name the folder of a faster-whisper model, or set transcripts.speech: none.",
        )
    heard = listen(
        inputs.video.path,
        inputs.speech_model.path,
        start=episode_start(clip),
        preferred=settings.language,
    )
    return Dialogue(NONE) if heard is None else Dialogue(SPEECH, heard.language, heard.lines)


def _failed(clips: Sequence[Row], backend: str, reason: Reason, detail: str) -> StageReport:
    nothing = Dialogue(backend)
    rows = [tables.failed(reason, detail, **_values(clip, nothing)) for clip in clips]
    return StageReport(rows, rows_in=len(clips))


def _values(clip: Row, dialogue: Dialogue) -> Row:
    heard = spoken(clip, dialogue.lines)
    return {
        "clip_id": clip["clip_id"],
        "backend": dialogue.backend,
        "language": dialogue.language,
        "text": "\n".join(line.text for line in heard),
        "lines": [_timed(line) for line in heard],
        "words": [_timed(word) for line in heard for word in line.words],
    }


def _timed(part: Line | Word) -> Row:
    return {
        "start_ms": round(part.start * 1000),
        "end_ms": round(part.end * 1000),
        "text": part.text,
    }
