"""How often lines of generated voices are attached to the right character.

``python perf/voices.py`` measures it. Each cast has four characters with eight exemplars each, and
two strangers. Lines of all six, and lines of music and of silence, go through voice activity
detection, the stand-in encoder ``spectral-statistics`` and a bank with calibrated limits, as in a
run. ``distinct``: casts whose voices are at least a major third apart in pitch; ``any``: pitch and
formants at random, so that some pairs are the same voice to anybody; ``distinct_music``: with music
behind all lines, at a tenth of the effective amplitude of the voice. The encoder and the limits
were chosen while looking at casts of other seeds.

``python perf/voices.py --constants`` prints the constants of ``voice_statistics.py`` instead.
Speaker models (backend ``wespeaker``) are not measured here: no weights ship with MiMix, and they
are trained on people.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.characters.bank import Floats
from mimix_core.characters.voice_activity import cut_speech, find_speech
from mimix_core.characters.voice_bank import build_voice_bank
from mimix_core.characters.voice_encoders import VoiceEncoder, load_voice_encoder
from mimix_core.characters.voice_statistics import voice_numbers
from perf.record import record
from tests.voice_factory import RATE, Samples, Voice, music, silence, speak

CASTS, CHARACTERS, STRANGERS = 8, 4, 2
EXEMPLARS, LINES, EMPTY_LINES = 8, 10, 10
FIRST_SEED = 500
MIN_SPEECH_SECONDS = 0.5
THIRD = 1.25
LOWEST, HIGHEST = 85.0, 320.0
WITH_MUSIC = 0.1
"""Root mean square of the music behind a voice, relative to the voice's (-20 dB)."""

COHORT, COHORT_LINES, COHORT_SEED = 40, 4, 5
MAX_WEIGHT, PITCH_WEIGHT = 2.0, 3.0


def random_voice(rng: np.random.Generator) -> Voice:
    """Draw a voice of any pitch and formants."""
    pitch = 2 ** rng.uniform(np.log2(LOWEST), np.log2(HIGHEST))
    return Voice(float(pitch), float(rng.uniform(0.88, 1.25)), float(rng.uniform(0.01, 0.1)))


def draw_cast(rng: np.random.Generator, distinct: bool) -> list[Voice]:
    """Draw the characters, then the strangers."""
    while True:
        cast = [random_voice(rng) for _ in range(CHARACTERS + STRANGERS)]
        pitches = sorted(voice.pitch for voice in cast)
        if not distinct or all(high / low >= THIRD for low, high in pairwise(pitches)):
            return cast


def encode(encoder: VoiceEncoder, samples: Samples) -> Floats | None:
    """Encode a line as the stage does; None without enough speech."""
    spoken = cut_speech(samples, find_speech(samples), 0, len(samples))
    return encoder.encode(spoken) if len(spoken) >= MIN_SPEECH_SECONDS * RATE else None


def line(voice: Voice, rng: np.random.Generator, background: float) -> Samples:
    """Speak a line of 1 to 3 seconds between half seconds without a voice."""
    said = speak(voice, rng.uniform(1, 3), int(rng.integers(1 << 30)))
    pause = silence(0.5)
    whole = np.concatenate([pause, said, pause])
    behind = music(len(whole) / RATE, int(rng.integers(1 << 30)))[: len(whole)]
    louder: Samples = whole + background * effective(said) / effective(behind) * behind
    return louder


def effective(samples: Samples) -> float:
    """Return the root mean square."""
    return float(np.sqrt((samples**2).mean()))


def measure(encoder: VoiceEncoder, distinct: bool, background: float) -> dict[str, float]:
    """Attach the lines of all casts; return precision, recall and what strangers were taken for."""
    counts: Counter[str] = Counter()
    for number in range(CASTS):
        rng = np.random.default_rng(FIRST_SEED + number)
        cast = draw_cast(rng, distinct)
        exemplars: dict[str, list[Floats]] = {}
        for index, voice in enumerate(cast[:CHARACTERS]):
            drawn = (encode(encoder, line(voice, rng, background)) for _ in range(EXEMPLARS))
            exemplars[str(index)] = [vector for vector in drawn if vector is not None]
        bank = build_voice_bank(exemplars, encoder)
        sounds = [
            (str(i), line(v, rng, background)) for i, v in enumerate(cast) for _ in range(LINES)
        ]
        sounds += [("music", music(2, int(rng.integers(1 << 30)))) for _ in range(EMPTY_LINES)]
        sounds += [("silence", silence(2)) for _ in range(EMPTY_LINES)]
        for truth, sound in sounds:
            vector = encode(encoder, sound)
            match = bank.match(vector) if vector is not None else None
            named = match.character if match is not None and match.recognized else ""
            kind = (
                "own"
                if truth in exemplars
                else truth
                if truth in ("music", "silence")
                else "stranger"
            )
            counts[kind] += 1
            counts[f"{kind} named"] += bool(named)
            counts["right"] += named == truth
    all_named = sum(counts[f"{kind} named"] for kind in ("own", "stranger", "music", "silence"))
    return {
        "precision": counts["right"] / all_named,
        "precision_within_cast": counts["right"] / counts["own named"],
        "recall": counts["right"] / counts["own"],
        "strangers_named": counts["stranger named"] / counts["stranger"],
        "music_and_silence_named": (counts["music named"] + counts["silence named"])
        / (counts["music"] + counts["silence"]),
    }


def seconds_per_minute(encoder: VoiceEncoder) -> float:
    """Return the seconds that a minute of dialogue takes, on one thread."""
    rng = np.random.default_rng(FIRST_SEED)
    lines = [line(random_voice(rng), rng, 0) for _ in range(20)]
    encode(encoder, lines[0])
    start = time.perf_counter()
    for samples in lines:
        encode(encoder, samples)
    return 60 * (time.perf_counter() - start) / (sum(map(len, lines)) / RATE)


def print_constants() -> None:
    """Print the center and the spread of the stand-in's numbers over a cohort of voices."""
    rng = np.random.default_rng(COHORT_SEED)
    numbers = np.array(
        [
            [
                voice_numbers(speak(voice, rng.uniform(1, 3), 1000 + 10 * index + repeat))
                for repeat in range(COHORT_LINES)
            ]
            for index in range(COHORT)
            for voice in [random_voice(rng)]
        ]
    ).astype(np.float64)
    within = np.sqrt(numbers.var(axis=1, ddof=1).mean(axis=0))
    weights = np.minimum(numbers.mean(axis=1).std(axis=0) / within, MAX_WEIGHT)
    weights[-1] = PITCH_WEIGHT
    print("center", [round(float(value), 3) for value in numbers.mean(axis=(0, 1))])
    print("spread", [round(float(value), 4) for value in within / weights])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--constants", action="store_true")
    if parser.parse_args().constants:
        print_constants()
        return
    encoder = load_voice_encoder("spectral-statistics", None)
    figures: dict[str, float] = {}
    for name, distinct, background in (
        ("distinct", True, 0.0),
        ("distinct_music", True, WITH_MUSIC),
        ("any", False, 0.0),
    ):
        found = measure(encoder, distinct, background)
        figures |= {f"{name}_{key}": round(value, 4) for key, value in found.items()}
    figures["seconds_per_minute"] = round(seconds_per_minute(encoder), 3)
    units = dict.fromkeys(figures, "share") | {"seconds_per_minute": "s"}
    print(record("voices", figures, units))


if __name__ == "__main__":
    main()
