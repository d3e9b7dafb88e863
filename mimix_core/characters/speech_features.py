"""Features of speech: logarithmic mel energies as Kaldi computes them, cepstra and pitch."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimix_core.characters.voice_activity import VOICE_RATE, Samples
from mimix_core.errors import MissingModel

FRAME, HOP = 400, 160
"""Samples of a frame (25 ms), and from one frame to the next (10 ms)."""

_FFT, _LOWEST_HZ, _PREEMPHASIS = 512, 20.0, 0.97
_FLOOR = float(np.finfo(np.float32).eps)
_FULL_SCALE = 32768.0
"""Kaldi counts in 16-bit samples."""


def mel_energies(samples: Samples, filters: int) -> NDArray[np.float32]:
    """Return logarithmic mel energies [frames, filters] as Kaldi's ``compute-fbank-feats`` does.

    With a Hamming window and without dither. Frames that would reach over the end are left out, so
    audio shorter than one frame has none. Raises MissingModel without transformers.
    """
    if len(samples) < FRAME:
        return np.zeros((0, filters), np.float32)
    spectrogram, window, bank_FM = _kaldi_front_end(filters)
    energies_MT = spectrogram(
        samples.astype(np.float64) * _FULL_SCALE,
        window,
        frame_length=FRAME,
        hop_length=HOP,
        fft_length=_FFT,
        power=2.0,
        center=False,
        preemphasis=_PREEMPHASIS,
        mel_filters=bank_FM,
        log_mel="log",
        mel_floor=_FLOOR,
        remove_dc_offset=True,
    )
    energies: NDArray[np.float32] = energies_MT.T.astype(np.float32)
    return energies


@cache
def _kaldi_front_end(filters: int) -> tuple[Any, NDArray[np.float64], NDArray[np.float64]]:
    try:
        from transformers.audio_utils import mel_filter_bank, spectrogram, window_function
    except ImportError as error:
        raise MissingModel(
            "voices are compared by features of transformers, which is not installed",
            where="settings, key voices.backend",
            fix="pip install 'mimix[voices]', or set voices.backend: none.",
        ) from error
    bank_FM = mel_filter_bank(
        num_frequency_bins=_FFT // 2 + 1,
        num_mel_filters=filters,
        min_frequency=_LOWEST_HZ,
        max_frequency=VOICE_RATE / 2,
        sampling_rate=VOICE_RATE,
        norm=None,
        mel_scale="kaldi",
        triangularize_in_mel_space=True,
    )
    return spectrogram, window_function(FRAME, "hamming", periodic=False), bank_FM


def cepstra(energies_TM: NDArray[np.float32], count: int) -> NDArray[np.float64]:
    """Return the cepstral coefficients 1 to ``count`` of each frame; 0 would be the loudness."""
    from scipy.fft import dct

    coefficients: NDArray[np.float64] = dct(
        energies_TM.astype(np.float64), type=2, norm="ortho", axis=1
    )[:, 1 : count + 1]
    return coefficients


_LOWEST_PITCH, _HIGHEST_PITCH = 60, 500
_PITCH_FRAME = 640
_PITCH_FFT = 2048
_PITCH_BAND = 900
"""Only frequencies below show the period of a voice clearly."""
_PERIODIC = 0.6
"""Autocorrelation from which a frame counts as voiced."""
_VOICED_SHARE = 0.2
"""Noise has a period now and then: with fewer voiced frames there is no pitch."""
_NEAR_PEAK = 0.85
"""The first lag that reaches this share of the highest autocorrelation is the period, not twice
the period."""
_AUDIBLE = 0.01
"""Frames with less than this share of the loudest frame's energy are left out."""


def median_pitch(samples: Samples) -> float | None:
    """Return the median fundamental frequency of the voiced frames in Hz; None without any.

    By the autocorrelation of frames, divided by that of their window (Boersma, 1993).
    """
    from scipy.signal import butter, sosfiltfilt

    if len(samples) < 2 * _PITCH_FRAME:
        return None
    low = sosfiltfilt(butter(4, _PITCH_BAND, fs=VOICE_RATE, output="sos"), samples)
    frames_TN = np.lib.stride_tricks.sliding_window_view(low, _PITCH_FRAME)[::HOP]
    frames_TN = frames_TN - frames_TN.mean(axis=1, keepdims=True)
    energy_T = (frames_TN**2).mean(axis=1)
    if energy_T.max() <= 0:
        return None
    frames_TN = frames_TN[energy_T > _AUDIBLE * energy_T.max()]
    window_N = np.hanning(_PITCH_FRAME)
    first, last = VOICE_RATE // _HIGHEST_PITCH, VOICE_RATE // _LOWEST_PITCH
    window_lags = _autocorrelation(window_N[None])[0]
    lags_TL = _autocorrelation(frames_TN * window_N)
    periodic_TL = lags_TL[:, first:last] / lags_TL[:, :1]
    periodic_TL = periodic_TL / (window_lags[first:last] / window_lags[0])
    highest_T = periodic_TL.max(axis=1)
    near_T = (periodic_TL >= _NEAR_PEAK * highest_T[:, None]).argmax(axis=1)
    periods = [
        first + start + int(row[start : start + first].argmax())
        for row, start, highest in zip(periodic_TL, near_T, highest_T, strict=True)
        if highest > _PERIODIC
    ]
    if len(periods) < _VOICED_SHARE * len(frames_TN):
        return None
    return float(np.median(VOICE_RATE / np.array(periods)))


def _autocorrelation(frames_TN: NDArray[np.float64]) -> NDArray[np.float64]:
    spectrum = np.abs(np.fft.rfft(frames_TN, _PITCH_FFT)) ** 2
    lags: NDArray[np.float64] = np.fft.irfft(spectrum)
    return lags
