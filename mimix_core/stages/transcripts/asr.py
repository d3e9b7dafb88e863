"""Recognize speech with faster-whisper."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mimix_core.domain.language_codes import normalize_language_code
from mimix_core.engine import progress
from mimix_core.errors import BadInput, MissingModel
from mimix_core.media import LostAudio, read_audio
from mimix_core.stages.transcripts.dialogue import (
    DialogueLine,
    TimedWord,
    clean_text,
    milliseconds_to_seconds,
    sort_lines,
)

_SAMPLE_RATE = 16_000
_THREADS = 2


@dataclass(frozen=True)
class Transcription:
    """Lines with the times of their words, and the language they are in.

    ``lost_seconds``: audio that could not be decoded and was silence to the model.
    """

    lines: list[DialogueLine]
    language: str
    lost_seconds: Fraction = Fraction(0)


def transcribe(
    video: Path, model: Path, *, start: Fraction, preferred_language: str
) -> Transcription | None:
    """Transcribe an episode's audio with faster-whisper; None when it has no audio.

    ``start``: zero of the returned times, in seconds of the container's clock.
    ``preferred_language``: language to expect, whose audio track is preferred; if empty, it is
    detected from the first 30 s. Raises MissingModel, BadInput, UnreadableVideo.
    """
    from faster_whisper import WhisperModel

    lost = LostAudio()
    samples = read_audio(
        video, rate=_SAMPLE_RATE, start=start, language=preferred_language, lost=lost
    )
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
    # A single temperature: the default retries at higher ones sample at random. Earlier text is
    # not used as context: an error would be repeated to the end.
    try:
        segments, info = whisper.transcribe(
            samples,
            language=normalize_language_code(preferred_language) or None,
            temperature=0.0,
            beam_size=5,
            condition_on_previous_text=False,
            word_timestamps=True,
        )
    except ValueError as error:
        raise BadInput(
            f"the speech model does not know the language {preferred_language!r}",
            where="transcripts.language",
            fix="Name a language that it knows, or leave it empty.",
        ) from error
    lines = []
    for segment in segments:
        words = tuple(
            TimedWord(_exact_seconds(word.start), _exact_seconds(word.end), clean_text(word.word))
            for word in segment.words or ()
            if clean_text(word.word)
        )
        start_seconds, end_seconds = _exact_seconds(segment.start), _exact_seconds(segment.end)
        lines.append(DialogueLine(start_seconds, end_seconds, clean_text(segment.text), words))
        progress.report_progress(int(segment.end), int(info.duration), "seconds transcribed")
    return Transcription(sort_lines(lines), normalize_language_code(info.language), lost.total)


def _exact_seconds(value: float) -> Fraction:
    return milliseconds_to_seconds(round(value * 1000))
