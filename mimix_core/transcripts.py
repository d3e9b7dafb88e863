"""What is said in each clip: the sidecar subtitles first, else speech recognition.

Subtitle times count from the episode's first video frame, as players count them. Source: paper,
section 3.1 (the captioner is given the dialogue).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import pysubs2

from mimix_core import progress, tables
from mimix_core.errors import BadInput, MissingModel
from mimix_core.keys import Immaterial
from mimix_core.media import UnreadableVideo, open_video, read_audio
from mimix_core.refs import FileRef, Frozen, TableRef
from mimix_core.settings import TranscriptSettings
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import Reason, Row
from mimix_core.timeline import clip_duration

_AUDIO_RATE = 16_000
_THREADS = 2


class TranscriptInputs(Frozen):
    """One episode, its clips, and where its words may come from."""

    unit: Annotated[str, Immaterial()]
    video: FileRef
    clips: TableRef
    subtitles: FileRef | None = None
    speech_model: FileRef | None = None


@dataclass(frozen=True)
class Line:
    """Something said, from ``start`` to ``end`` seconds after the episode's first frame."""

    start: Fraction
    end: Fraction
    text: str


def run(inputs: TranscriptInputs, settings: TranscriptSettings, out: Path) -> StageReport:
    """One row per clip. Raises BadInput for unreadable subtitles, MissingModel without a model."""
    clips = list(tables.usable(tables.read(inputs.clips.path, tables.CLIPS)))
    backend, lines = "none", list[Line]()
    if inputs.subtitles is not None:
        backend, lines = "subtitles", read_subtitles(inputs.subtitles.path)
    elif settings.speech == "faster-whisper":
        if inputs.speech_model is None:
            raise MissingModel(
                "speech recognition is asked for, but no model is given",
                where="transcripts.model",
                fix="Name the folder of a faster-whisper model, or set transcripts.speech: none.",
            )
        try:
            heard = _listen(inputs.video.path, inputs.speech_model.path) if clips else []
        except UnreadableVideo as error:
            rows = [_row("faster-whisper", clip, [], error.what) for clip in clips]
            return StageReport(rows, rows_in=len(clips))
        if heard is not None:
            backend, lines = "faster-whisper", heard
    rows = [_row(backend, clip, lines) for clip in clips]
    return StageReport(rows, rows_in=len(clips), notes={"lines": len(lines)})


STAGE = Stage(
    name="transcripts",
    version=1,
    inputs=TranscriptInputs,
    settings=TranscriptSettings,
    table=tables.TRANSCRIPTS,
    run=run,
)


def read_subtitles(path: Path) -> list[Line]:
    """The lines of an .srt, .vtt or .ass file, in order. Raises BadInput."""
    try:
        found = pysubs2.load(str(path), encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, ValueError, pysubs2.exceptions.Pysubs2Error) as error:
        raise BadInput(
            f"not readable as subtitles ({type(error).__name__})",
            where=path.name,
            fix="Give an .srt, .vtt or .ass file in UTF-8.",
        ) from error
    lines = [
        Line(Fraction(event.start, 1000), Fraction(event.end, 1000), _flat(event.plaintext))
        for event in found
        if not event.is_comment and not event.is_drawing
    ]
    return sorted(
        (line for line in lines if line.text), key=lambda line: (line.start, line.end, line.text)
    )


def spoken(clip: Row, lines: Sequence[Line]) -> list[Line]:
    """The lines heard in a clip, however short, with times of its own play, cut to its ends."""
    time_base = Fraction(clip["time_base_num"], clip["time_base_den"])
    start = (clip["source_pts"][0] - clip["origin_pts"]) * time_base
    duration = clip_duration(clip["frames"], Fraction(clip["rate_num"], clip["rate_den"]))
    return [
        Line(max(line.start - start, Fraction(0)), min(line.end - start, duration), line.text)
        for line in lines
        if line.start < start + duration and line.end > start
    ]


def _row(backend: str, clip: Row, lines: Sequence[Line], problem: str = "") -> Row:
    heard = spoken(clip, lines)
    values = {
        "clip_id": clip["clip_id"],
        "backend": backend,
        "text": "\n".join(line.text for line in heard),
        "lines": [
            {
                "start_ms": round(line.start * 1000),
                "end_ms": round(line.end * 1000),
                "text": line.text,
            }
            for line in heard
        ],
    }
    if problem:
        return tables.failed(Reason.UNREADABLE_VIDEO, problem, **values)
    return tables.ok(**values)


def _listen(video: Path, model: Path) -> list[Line] | None:
    """What faster-whisper hears in the whole episode; None when it has no audio."""
    from faster_whisper import WhisperModel

    with open_video(video, threads=1) as opened:
        origin = Fraction(opened.first.pts) * opened.info.time_base
    samples = read_audio(video, rate=_AUDIO_RATE, start=origin)
    if samples is None:
        return None
    try:
        whisper = WhisperModel(
            str(model), device="cpu", compute_type="int8", cpu_threads=_THREADS, num_workers=1
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise MissingModel(
            f"not a faster-whisper model ({error})",
            where=model.name,
            fix="Name a folder with model.bin, config.json and tokenizer.json.",
        ) from error
    # One temperature: the default's retries at higher ones draw at random.
    segments, info = whisper.transcribe(samples, temperature=0.0, beam_size=5)
    lines = []
    for segment in segments:
        text = _flat(segment.text)
        if text:
            lines.append(Line(_seconds(segment.start), _seconds(segment.end), text))
        progress.advance(int(segment.end), int(info.duration), "seconds heard")
    return lines


def _seconds(value: float) -> Fraction:
    return Fraction(round(value * 1000), 1000)


def _flat(text: str) -> str:
    """A line of text without line breaks."""
    return " ".join(text.split())
