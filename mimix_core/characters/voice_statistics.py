"""Statistics of a voice's spectrum and pitch: a stand-in for a speaker model, with no weights.

It tells voices of different pitch and formants apart as long as the recordings sound alike. A
speaker model is trained to ignore words, mood, microphone and music; these statistics do not.
"""

from __future__ import annotations

import numpy as np

from mimix_core.characters.bank import Floats, normalize
from mimix_core.characters.speech_features import cepstra, median_pitch, mel_energies
from mimix_core.characters.voice_activity import Samples

_FILTERS, _CEPSTRA = 40, 19
_QUIET_SHARE = 0.3
"""This share of the frames, the quietest, is left out: pauses and the starts of consonants."""

_CENTER_DISTANCE = 30.0
"""Added as one more dimension, so that voices are compared by their distance from each other even
if they are near the center, where a direction means nothing."""

# Mean, and spread divided by weight, of each number over 40 generated voices of 85 to 320 Hz with
# four lines each: `python perf/voices.py --constants` prints them.
# fmt: off
_CENTER = (
    4.262, -8.758, 1.241, -4.518, -2.541, -1.299, -0.827, -0.457, -0.747, -0.356,
    -0.715, -0.928, -0.75, -0.538, -0.383, -0.143, -0.156, 0.22, -0.192,
    18.459, 6.179, 4.288, 2.525, 2.303, 1.857, 1.712, 1.276, 1.111, 1.049,
    1.107, 1.01, 0.916, 0.875, 0.938, 0.956, 0.998, 1.006, 0.979,
    7.448,
)
_SPREAD = (
    4.5886, 1.8584, 1.4831, 0.3152, 0.2816, 0.4682, 0.4369, 0.3258, 0.3236, 0.2665,
    0.1604, 0.1943, 0.1836, 0.1826, 0.1735, 0.1605, 0.1714, 0.1898, 0.1856,
    2.0025, 1.3185, 1.5058, 0.2475, 0.2192, 0.398, 0.3597, 0.2794, 0.1836, 0.2214,
    0.1891, 0.0992, 0.1051, 0.1308, 0.1193, 0.0922, 0.088, 0.0945, 0.1312,
    0.0192,
)
# fmt: on


def voice_numbers(samples: Samples) -> Floats:
    """Describe a voice by the mean and the spread of its cepstra, and its pitch in octaves."""
    energies_TM = mel_energies(samples, _FILTERS)
    loudness_T = energies_TM.mean(axis=1)
    heard_TC = cepstra(energies_TM, _CEPSTRA)[loudness_T > np.quantile(loudness_T, _QUIET_SHARE)]
    pitch = median_pitch(samples)
    octaves = _CENTER[-1] if pitch is None else float(np.log2(pitch))
    return np.array([*heard_TC.mean(axis=0), *heard_TC.std(axis=0), octaves], np.float32)


class VoiceStatistics:
    """Compare voices by ``voice_numbers``, each relative to its spread over voices."""

    name = "spectral-statistics"
    min_limit = 0.9
    uncalibrated_limit = 0.95

    def encode(self, samples: Samples) -> Floats:
        """Return the unit vector of speech of at least half a second."""
        relative = (voice_numbers(samples) - np.array(_CENTER)) / np.array(_SPREAD)
        return normalize(np.append(relative, _CENTER_DISTANCE).astype(np.float32))
