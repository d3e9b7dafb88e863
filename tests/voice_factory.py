"""Generated voices with a known pitch and length of the vocal tract, and sounds that are no voice.

A voice is a source-filter synthesis: glottal pulses through resonances at the formants of American
vowels (Peterson and Barney, 1952), scaled by the vocal tract, with consonants of noise between.
Each seed says other syllables. Silero VAD takes them for speech.
"""

from __future__ import annotations

import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

RATE = 16_000
Samples = NDArray[np.float32]
Signal = NDArray[np.float64]

_VOWELS = np.array(
    [
        (730, 1090, 2440),
        (270, 2290, 3010),
        (300, 870, 2240),
        (530, 1840, 2480),
        (570, 840, 2410),
        (660, 1720, 2410),
        (440, 1020, 2240),
    ]
)
_UPPER_FORMANTS, _BANDWIDTHS = (3500, 4500), (80, 100, 140, 220, 300)
_GLIDE_STEPS = 6
_PEAK = 0.5


@dataclass(frozen=True)
class Voice:
    """``pitch``: mean fundamental frequency in Hz. ``formants``: their scale; 1.0: a man's.

    ``breath``: amplitude of the noise in the source.
    """

    pitch: float
    formants: float
    breath: float = 0.02


LOW = Voice(100, 0.95)
MIDDLE = Voice(165, 1.05)
HIGH = Voice(270, 1.2)
STRANGER = Voice(210, 0.9, 0.08)
"""Three voices that are easily told apart, and one that belongs to none of a cast."""


def speak(voice: Voice, seconds: float, seed: int) -> Samples:
    """Say random syllables for as long."""
    rng = np.random.default_rng(seed)
    parts: list[Signal] = []
    missing = round(seconds * RATE)
    while missing > 0:
        parts += [_syllable(voice, rng), _consonant(voice, rng)]
        missing -= sum(map(len, parts[-2:]))
    said = np.concatenate(parts)[: round(seconds * RATE)]
    return (said / np.abs(said).max() * _PEAK).astype(np.float32)


def _syllable(voice: Voice, rng: np.random.Generator) -> Signal:
    count = round(rng.uniform(0.12, 0.28) * RATE)
    octaves = rng.normal(0, 0.12) + np.linspace(rng.normal(0, 0.1), rng.normal(0, 0.1), count)
    jitter = 1 + 0.01 * rng.standard_normal(count).cumsum() / np.sqrt(count)
    phase = np.cumsum(voice.pitch * 2**octaves * jitter) / RATE % 1
    opening = 0.5 * (1 - np.cos(np.pi * phase / 0.4)) * (phase < 0.4)
    closing = np.cos(np.pi * (phase - 0.4) / 0.4) * ((phase >= 0.4) & (phase < 0.6))
    pulses = np.diff(opening + closing, prepend=0)
    source = pulses + 0.03 * voice.breath * rng.standard_normal(count)
    first, last = _VOWELS[rng.integers(len(_VOWELS), size=2)]
    sound = np.zeros(count)
    position = np.arange(count) / count * (_GLIDE_STEPS - 1)
    for step in range(_GLIDE_STEPS):
        share = step / (_GLIDE_STEPS - 1)
        formants = np.array([*((1 - share) * first + share * last), *_UPPER_FORMANTS])
        filtered = source
        for frequency, bandwidth in zip(formants * voice.formants, _BANDWIDTHS, strict=True):
            filtered = _resonate(filtered, frequency, bandwidth)
        sound += filtered * np.clip(1 - np.abs(position - step), 0, 1)
    fade = np.minimum(1, np.minimum(np.arange(count), np.arange(count)[::-1]) / (0.02 * RATE))
    return sound * fade


def _consonant(voice: Voice, rng: np.random.Generator) -> Signal:
    count = round(rng.uniform(0.03, 0.1) * RATE)
    noise = np.diff(rng.standard_normal(count) * np.hanning(count), prepend=0)
    frequency = rng.uniform(2500, 5500) * voice.formants
    return _resonate(noise, frequency, 900) * rng.choice([0, 0.3, 0.6])


def _resonate(sound: Signal, frequency: float, bandwidth: float) -> Signal:
    if frequency > 0.475 * RATE:
        return sound
    radius, angle = np.exp(-np.pi * bandwidth / RATE), 2 * np.pi * frequency / RATE
    poles = np.array([1, -2 * radius * np.cos(angle), radius**2])
    return np.asarray(lfilter([poles.sum()], poles, sound))


def silence(seconds: float) -> Samples:
    """Return digital silence."""
    return np.zeros(round(seconds * RATE), np.float32)


def music(seconds: float, seed: int = 0) -> Samples:
    """Return struck chords with harmonics: music without a voice."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    sound = np.zeros(len(time))
    for start in np.arange(0, seconds, 0.5):
        since = np.clip(time - start, 0, None)
        for tone in 220 * 2 ** (rng.choice([0, 4, 7, 12, 16], 3, replace=False) / 12):
            for harmonic in (1, 2, 3):
                strength = np.exp(-4 * since) / harmonic * (time >= start)
                sound += np.sin(2 * np.pi * tone * harmonic * since) * strength
    return (sound / np.abs(sound).max() * _PEAK).astype(np.float32)


def write_wave(path: Path, samples: Samples) -> Path:
    """Write mono 16-bit PCM."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes((samples * 32767).astype("<i2").tobytes())
    return path
