"""Speech recognition with faster-whisper."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from mimix_core.domain.language_codes import language
from mimix_core.engine import progress
from mimix_core.errors import BadInput, MissingModel
from mimix_core.media import read_audio
from mimix_core.stages.transcripts.dialogue import Line, Word, flat, milliseconds, ordered

_AUDIO_RATE = 16_000
_THREADS = 2


@dataclass(frozen=True)
class Heard:
    """Lines with their words, and the language they are in."""

    lines: list[Line]
    language: str


def listen(video: Path, model: Path, *, start: Fraction, preferred: str) -> Heard | None:
    """What faster-whisper hears in the whole episode; None when it has no audio.

    Times count from ``start`` of the container's clock. ``preferred`` is the language to expect;
    empty: it is told from the first half minute. Raises MissingModel, BadInput, UnreadableVideo.
    """
    from faster_whisper import WhisperModel

    samples = read_audio(video, rate=_AUDIO_RATE, start=start)
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
    # One temperature: the default's retries at higher ones draw at random. What was heard before
    # is not given as context: a slip would be repeated to the end.
    try:
        segments, info = whisper.transcribe(
            samples,
            language=language(preferred) or None,
            temperature=0.0,
            beam_size=5,
            condition_on_previous_text=False,
            word_timestamps=True,
        )
    except ValueError as error:
        raise BadInput(
            f"the speech model does not know the language {preferred!r}",
            where="transcripts.language",
            fix="Name one that it knows, or leave it empty.",
        ) from error
    lines = []
    for segment in segments:
        words = tuple(
            Word(_seconds(word.start), _seconds(word.end), flat(word.word))
            for word in segment.words or ()
            if flat(word.word)
        )
        lines.append(
            Line(_seconds(segment.start), _seconds(segment.end), flat(segment.text), words)
        )
        progress.advance(int(segment.end), int(info.duration), "seconds heard")
    return Heard(ordered(lines), language(info.language))


def _seconds(value: float) -> Fraction:
    return milliseconds(round(value * 1000))
