"""Find where somebody speaks, with Silero VAD, whose weights ship with faster-whisper (MIT)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from mimix_core.errors import MissingModel

VOICE_RATE = 16_000
"""Samples per second of all audio that voices are compared in."""

Samples = NDArray[np.float32]
"""Mono audio [samples] in -1..1 at ``VOICE_RATE``."""

Span = tuple[int, int]
"""Indices of the first sample of a span and of the one after its last."""

_THRESHOLD, _MIN_SILENCE_MS, _PADDING_MS = 0.5, 200, 30
"""Silero's own threshold; shorter pauses are part of speech, which is padded a little."""


def find_speech(samples: Samples) -> list[Span]:
    """Return the spans of speech, in order and apart. Raises MissingModel.

    Silence, noise and music without a voice have none.
    """
    try:
        from faster_whisper.vad import VadOptions, get_speech_timestamps
    except ImportError as error:
        raise MissingModel(
            "speech is found with Silero VAD, which is in faster-whisper: it is not installed",
            where="settings, key voices.backend",
            fix="pip install 'mimix[voices]', or set voices.backend: none.",
        ) from error
    if not len(samples):
        return []
    options = VadOptions(
        threshold=_THRESHOLD, min_silence_duration_ms=_MIN_SILENCE_MS, speech_pad_ms=_PADDING_MS
    )
    found = get_speech_timestamps(samples, options, sampling_rate=VOICE_RATE)
    spans = [(int(span["start"]), min(int(span["end"]), len(samples))) for span in found]
    assert all(before[1] <= after[0] for before, after in pairwise(spans)), "spans are apart"
    return spans


def cut_speech(samples: Samples, speech: Sequence[Span], start: int, end: int) -> Samples:
    """Return what is spoken from sample ``start`` to ``end``, without the pauses."""
    parts = [samples[max(a, start) : min(b, end)] for a, b in speech if a < end and b > start]
    return np.concatenate([np.zeros(0, np.float32), *parts])
