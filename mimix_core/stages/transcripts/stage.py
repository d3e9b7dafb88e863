"""Stage ``transcripts``: one row per clip with its dialogue.

Sources in order: a subtitle file, a text stream in the video, speech recognition if enabled.
Subtitle files count from the episode's first video frame, as in players; streams are on the
container's clock. Existing subtitles that cannot be read fail the clips' rows: falling back to the
next source would hide the broken file, and stopping would cost the run's other episodes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from mimix_core import tables
from mimix_core.domain.language_codes import normalize_language_code
from mimix_core.domain.sidecar_index import SUBTITLE_EXTENSIONS
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import MissingModel
from mimix_core.media import UnreadableVideo
from mimix_core.settings import TranscriptSettings
from mimix_core.stages.transcripts.asr import transcribe
from mimix_core.stages.transcripts.dialogue import (
    DialogueLine,
    TimedWord,
    episode_start_seconds,
    select_clip_lines,
)
from mimix_core.stages.transcripts.embedded_subtitles import read_embedded_subtitles
from mimix_core.stages.transcripts.subtitle_parser import UnreadableSubtitles, read_subtitle_file
from mimix_core.tables import ClipRow, Reason, Row, TimedText

SIDECAR, EMBEDDED, SPEECH, NONE = (
    "subtitles/sidecar",
    "subtitles/embedded",
    "faster-whisper",
    "none",
)


class TranscriptInputs(FrozenModel):
    """One episode, its clips and the sources of its dialogue.

    ``subtitles_language``: from the name of the subtitle file; empty if that has none.
    ``language``: of the show, instead of that in the settings; empty if the library states none.
    """

    unit: Annotated[str, ExcludeFromKey()]
    video: FileRef
    clips: TableRef
    subtitles: FileRef | None = None
    subtitles_language: str = ""
    speech_model: FileRef | None = None
    language: str = ""


@dataclass(frozen=True)
class EpisodeTranscript:
    """The dialogue of an episode and the backend it comes from."""

    backend: str
    language: str = ""
    lines: Sequence[DialogueLine] = ()
    notes: Mapping[str, str | int | float] = field(default_factory=dict)


def run(inputs: TranscriptInputs, settings: TranscriptSettings, out: Path) -> StageReport:
    """Return one row per usable clip. Raises MissingModel without the required model."""
    clips = _usable_clips(inputs)
    if not clips:
        return StageReport([], rows_in=0)
    backend = SIDECAR if inputs.subtitles is not None else EMBEDDED
    try:
        transcript = _from_sidecar(inputs, settings) or _from_stream(inputs, settings, clips[0])
        notes = dict(transcript.notes)
        if transcript.backend == NONE and settings.asr_backend == SPEECH:
            backend = SPEECH
            transcript = _from_speech(inputs, settings, clips[0])
            notes |= transcript.notes
    except UnreadableSubtitles as error:
        return _fail_clips(clips, backend, Reason.SUBTITLES_UNREADABLE, error.what)
    except UnreadableVideo as error:
        return _fail_clips(clips, backend, error.reason, error.what)
    rows = [tables.ok(**_columns(clip, transcript)) for clip in clips]
    return StageReport(rows, rows_in=len(clips), notes={**notes, "lines": len(transcript.lines)})


def failed_rows(
    inputs: TranscriptInputs, _settings: TranscriptSettings, reason: Reason, detail: str
) -> StageReport:
    """Return the rows of an episode whose process died or hung: every clip failed."""
    return _fail_clips(_usable_clips(inputs), "", reason, detail)


STAGE = Stage(
    name="transcripts",
    title="Transcripts",
    description="Assign dialogue to each clip, from subtitles or by speech recognition.",
    row_noun="clips",
    phase=Phase.CURATION,
    upstream=("duplicates",),
    version=6,
    inputs=TranscriptInputs,
    settings=TranscriptSettings,
    table=tables.TRANSCRIPTS,
    run=run,
    failed_rows=failed_rows,
)


def _usable_clips(inputs: TranscriptInputs) -> list[ClipRow]:
    return list(tables.usable(tables.read(inputs.clips.path, tables.CLIPS)))


def _from_sidecar(
    inputs: TranscriptInputs, settings: TranscriptSettings
) -> EpisodeTranscript | None:
    """Read the subtitle file; None without one."""
    if inputs.subtitles is None:
        return None
    preferred = normalize_language_code(inputs.language or settings.language)
    subtitles = read_subtitle_file(inputs.subtitles.path, settings.fallback_encoding, preferred)
    language = normalize_language_code(inputs.subtitles_language)
    if subtitles.other_language_lines:
        language = preferred
    notes: dict[str, str | int | float] = {"encoding": subtitles.encoding}
    counts = {
        "unread_cues": subtitles.invalid_cues,
        "undecodable_bytes": subtitles.replaced_bytes,
        "signs_and_songs": subtitles.typesetting_events,
        "lines_in_another_language": subtitles.other_language_lines,
    }
    notes |= {name: n for name, n in counts.items() if n}
    return EpisodeTranscript(SIDECAR, language, subtitles.lines, notes)


def _from_stream(
    inputs: TranscriptInputs, settings: TranscriptSettings, clip: ClipRow
) -> EpisodeTranscript:
    """Read the best subtitle stream; the backend is ``none`` without lines."""
    subtitles = read_embedded_subtitles(
        inputs.video.path,
        start=episode_start_seconds(clip),
        preferred_language=inputs.language or settings.language,
    )
    skipped = {
        "picture_subtitle_streams": subtitles.image_streams,
        "forced_subtitle_streams": subtitles.forced_streams,
        "signs_or_commentary_streams": subtitles.other_streams,
        "signs_and_songs": subtitles.typesetting_events,
        "lines_in_another_language": subtitles.other_language_lines,
    }
    notes: dict[str, str | int | float] = {name: n for name, n in skipped.items() if n}
    if subtitles.lines:
        return EpisodeTranscript(EMBEDDED, subtitles.language, subtitles.lines, notes)
    if subtitles.lines is not None:
        notes["empty_subtitle_stream"] = subtitles.language or "of no stated language"
    if inputs.subtitles is None:
        notes["no_subtitle_file"] = (
            f"none next to the video has its name and {', '.join(SUBTITLE_EXTENSIONS)}"
        )
    return EpisodeTranscript(NONE, notes=notes)


def _from_speech(
    inputs: TranscriptInputs, settings: TranscriptSettings, clip: ClipRow
) -> EpisodeTranscript:
    """Recognize the speech; the backend is ``none`` for a video without audio."""
    if inputs.speech_model is None:
        raise MissingModel(
            "speech recognition is enabled, but no model is set",
            where="transcripts.asr_model",
            fix="Name the folder of a faster-whisper model, or set transcripts.asr_backend: none.",
        )
    transcription = transcribe(
        inputs.video.path,
        inputs.speech_model.path,
        start=episode_start_seconds(clip),
        preferred_language=inputs.language or settings.language,
    )
    if transcription is None:
        return EpisodeTranscript(NONE)
    lost_ms = round(transcription.lost_seconds * 1000)
    notes: dict[str, str | int | float] = {"lost_audio_ms": lost_ms} if lost_ms else {}
    return EpisodeTranscript(SPEECH, transcription.language, transcription.lines, notes)


def _fail_clips(clips: Sequence[ClipRow], backend: str, reason: Reason, detail: str) -> StageReport:
    empty = EpisodeTranscript(backend)
    rows = [tables.failed(reason, detail, **_columns(clip, empty)) for clip in clips]
    return StageReport(rows, rows_in=len(clips))


def _columns(clip: ClipRow, transcript: EpisodeTranscript) -> Row:
    lines = select_clip_lines(clip, transcript.lines)
    return {
        "clip_id": clip["clip_id"],
        "backend": transcript.backend,
        "language": transcript.language,
        "text": "\n".join(line.text for line in lines),
        "lines": [_timed_text(line) for line in lines],
        "words": [_timed_text(word) for line in lines for word in line.words],
    }


def _timed_text(part: DialogueLine | TimedWord) -> TimedText:
    return {
        "start_ms": round(part.start * 1000),
        "end_ms": round(part.end * 1000),
        "text": part.text,
    }
