"""Stage ``voices``: one row per line of dialogue of a clip, with a vector of the voice in it.

A line of subtitles, or of speech recognition, is a segment of speech with its time. Its time is
generous: pauses, music and noise in it are left out by voice activity detection. Nothing here
depends on who the characters are, so that naming a line encodes no audio again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from mimix_core import tables
from mimix_core.characters.voice_activity import VOICE_RATE, Samples, cut_speech, find_speech
from mimix_core.characters.voice_encoders import VoiceEncoder, load_voice_encoder
from mimix_core.domain.ids import line_id
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.media import LostAudio, UnreadableVideo, read_audio
from mimix_core.settings import VoiceSettings
from mimix_core.tables import Reason, Row, TimedText

_DIGITS = 5
"""Digits of a vector's numbers: more differ between processors."""


class VoiceInputs(FrozenModel):
    """One episode, its clips and their dialogue.

    ``language``: of the audio track that is preferred. ``weights``: of the encoder, if it has any.
    """

    unit: Annotated[str, ExcludeFromKey()]
    video: FileRef
    clips: TableRef
    transcripts: TableRef
    language: str = ""
    weights: FileRef | None = None


@dataclass(frozen=True)
class _Line:
    """A line of dialogue. ``start``: of its clip, in seconds on the container's clock."""

    line_id: str
    clip_id: str
    start: Fraction
    spoken: TimedText


def run(inputs: VoiceInputs, settings: VoiceSettings, out: Path) -> StageReport:
    """Return one row per line of dialogue. Raises MissingModel without the required model."""
    lines = list(_read_lines(inputs))
    if not lines:
        return StageReport([], rows_in=0)
    weights = None if inputs.weights is None else inputs.weights.path
    encoder = load_voice_encoder(settings.backend, weights)
    start = min(line.start for line in lines)
    lost = LostAudio()
    progress.report_progress(0, len(lines), "reading the audio")
    try:
        samples = read_audio(
            inputs.video.path, rate=VOICE_RATE, start=start, language=inputs.language, lost=lost
        )
    except UnreadableVideo as error:
        return _fail_lines(lines, settings.backend, error.reason, error.what)
    if samples is None:
        rows = [
            tables.rejected(
                Reason.NO_VOICE, "the video has no audio", **_columns(line, settings.backend)
            )
            for line in lines
        ]
        return StageReport(rows, rows_in=len(lines))
    rows = _encode_lines(lines, samples, start, settings, encoder)
    lost_ms = round(lost.total * 1000)
    return StageReport(
        rows, rows_in=len(lines), notes={"lost_audio_ms": lost_ms} if lost_ms else {}
    )


def failed_rows(
    inputs: VoiceInputs, _settings: VoiceSettings, reason: Reason, detail: str
) -> StageReport:
    """Return the rows of an episode whose process died or hung: every line failed."""
    return _fail_lines(list(_read_lines(inputs)), "", reason, detail)


STAGE = Stage(
    name="voices",
    title="Voices",
    description="Encode the voice of every line of dialogue, to compare it with those of the "
    "characters; only if voices.backend is set.",
    row_noun="lines",
    phase=Phase.CURATION,
    upstream=("duplicates", "transcripts"),
    version=1,
    inputs=VoiceInputs,
    settings=VoiceSettings,
    table=tables.VOICES,
    run=run,
    failed_rows=failed_rows,
)


def _read_lines(inputs: VoiceInputs) -> Iterator[_Line]:
    """Yield the lines of the usable clips with a usable transcript."""
    clips = {
        clip["clip_id"]: Fraction(clip["start_num"], clip["start_den"])
        for clip in tables.usable(tables.read(inputs.clips.path, tables.CLIPS))
    }
    for row in tables.usable(tables.read(inputs.transcripts.path, tables.TRANSCRIPTS)):
        clip = row["clip_id"]
        starts: Counter[int] = Counter()
        for spoken in row["lines"]:
            repeat = starts[spoken["start_ms"]]
            starts[spoken["start_ms"]] += 1
            yield _Line(line_id(clip, spoken["start_ms"], repeat), clip, clips[clip], spoken)


def _encode_lines(
    lines: Sequence[_Line],
    samples: Samples,
    start: Fraction,
    settings: VoiceSettings,
    encoder: VoiceEncoder,
) -> list[Row]:
    """Encode the speech of each line; ``start``: the time of the first sample."""
    speech = find_speech(samples)
    rows = []
    for number, line in enumerate(lines, start=1):
        first, last = (
            round((line.start - start + Fraction(milliseconds, 1000)) * VOICE_RATE)
            for milliseconds in (line.spoken["start_ms"], line.spoken["end_ms"])
        )
        spoken = cut_speech(samples, speech, first, last)
        columns = _columns(line, settings.backend)
        columns["speech_ms"] = round(1000 * len(spoken) / VOICE_RATE)
        if len(spoken) < settings.min_speech_seconds * VOICE_RATE:
            detail = (
                f"{len(spoken) / VOICE_RATE:.1f} s of speech in "
                f"{max(last - first, 0) / VOICE_RATE:.1f} s, at least "
                f"{settings.min_speech_seconds} s wanted"
            )
            rows.append(tables.rejected(Reason.NO_VOICE, detail, **columns))
        else:
            vector = [round(float(value), _DIGITS) for value in encoder.encode(spoken)]
            rows.append(tables.ok(**{**columns, "vector": vector}))
        progress.report_progress(number, len(lines), line.line_id)
    return rows


def _fail_lines(lines: Sequence[_Line], backend: str, reason: Reason, detail: str) -> StageReport:
    rows = [tables.failed(reason, detail, **_columns(line, backend)) for line in lines]
    return StageReport(rows, rows_in=len(lines))


def _columns(line: _Line, backend: str) -> Row:
    return {
        "line_id": line.line_id,
        "clip_id": line.clip_id,
        **line.spoken,
        "backend": backend,
        "speech_ms": 0,
        "vector": [],
    }
