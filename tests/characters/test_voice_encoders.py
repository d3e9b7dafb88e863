"""Encoders of voices: against known voices, Kaldi's own figures and a network written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimix_core.characters.speech_features import median_pitch, mel_energies
from mimix_core.characters.voice_activity import cut_speech, find_speech
from mimix_core.characters.voice_encoders import load_voice_encoder
from mimix_core.errors import BadInput, MissingModel
from tests.characters.onnx_file import weights, write_model
from tests.voice_factory import HIGH, LOW, MIDDLE, RATE, Voice, music, silence, speak

KALDI = (
    (13.298, 13.993, 10.745, 10.388, 9.999),
    (13.311, 15.153, 15.929, 13.845, 13.08),
    (13.53, 14.751, 16.114, 15.902, 14.216),
    (13.387, 14.304, 15.066, 25.891, 15.344),
)
"""By kaldi-native-fbank 1.22.4: 80 bins, window hamming, no dither, no energy, 16-bit samples."""


def test_speech_is_found_where_it_is_and_nowhere_in_music_or_silence() -> None:
    pause = silence(0.7)
    spoken_parts = speak(MIDDLE, 2, 1), speak(HIGH, 1.5, 2)
    sound = np.concatenate([pause, spoken_parts[0], pause, music(2), pause, spoken_parts[1]])
    speech = find_speech(sound)
    spoken = np.zeros(len(sound), bool)
    for start, end in speech:
        spoken[start:end] = True

    def share(start: float, end: float) -> float:
        return float(spoken[round(start * RATE) : round(end * RATE)].mean())

    assert share(0, 0.6) == 0
    assert share(0.7, 2.7) > 0.85
    assert share(2.9, 6) < 0.15
    assert share(6.2, 7.6) > 0.6
    assert find_speech(music(3)) == find_speech(silence(3)) == []
    assert find_speech(np.zeros(0, np.float32)) == []


def test_only_speech_within_a_time_is_cut_out() -> None:
    samples = np.arange(100, dtype=np.float32)
    spans = [(10, 20), (50, 60), (90, 95)]
    assert cut_speech(samples, spans, 15, 55).tolist() == [*range(15, 20), *range(50, 55)]
    assert cut_speech(samples, spans, 20, 50).tolist() == []


def test_features_are_those_of_kaldi() -> None:
    time = np.arange(RATE // 2) / RATE
    chirp = (0.4 * np.sin(2 * np.pi * (200 * time + 3000 * time**2))).astype(np.float32)
    energies = mel_energies(chirp, 80)
    assert energies.shape == (48, 80)
    assert energies[::12, ::16] == pytest.approx(np.array(KALDI), abs=2e-3)
    assert mel_energies(chirp[:399], 80).shape == (0, 80)


@pytest.mark.parametrize("pitch", [90, 140, 200, 300])
def test_the_pitch_is_that_of_the_voice(pitch: float) -> None:
    found = median_pitch(speak(Voice(pitch, 1.0), 3, round(pitch)))
    assert found == pytest.approx(pitch, rel=0.12)


def test_what_has_no_period_has_no_pitch() -> None:
    noise = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    assert median_pitch(noise) is None
    assert median_pitch(silence(1)) is None
    assert median_pitch(silence(0.05)) is None


def test_the_stand_in_tells_voices_apart_whatever_they_say() -> None:
    encoder = load_voice_encoder("spectral-statistics", None)
    said = {
        voice: np.stack([encoder.encode(speak(voice, 2, seed)) for seed in range(3)])
        for voice in (LOW, MIDDLE, HIGH)
    }
    for voice, own in said.items():
        assert np.linalg.norm(own, axis=1) == pytest.approx(1, abs=1e-5)
        others = np.concatenate([vectors for other, vectors in said.items() if other != voice])
        assert (own @ own.T).min() > (own @ others.T).max() + 0.1


def test_wespeaker_reads_mean_free_features_of_kaldi(tmp_path: Path) -> None:
    encoder = load_voice_encoder("wespeaker", write_model(tmp_path / "model.onnx"))
    samples = speak(MIDDLE, 1.2, 3)
    features = mel_energies(samples, 80)
    first, second = weights(80)
    hidden = np.maximum((features - features.mean(axis=0)) @ first, 0).mean(axis=0) @ second
    vector = encoder.encode(samples)
    assert vector == pytest.approx(hidden / np.linalg.norm(hidden), abs=1e-4)
    again = load_voice_encoder("wespeaker", tmp_path / "model.onnx").encode(samples)
    assert again.tobytes() == vector.tobytes()


def test_a_file_of_anything_else_is_one_clear_error(tmp_path: Path) -> None:
    page = tmp_path / "page.onnx"
    page.write_text("<html>Not found</html>")
    with pytest.raises(MissingModel, match=r"page\.onnx: not a WeSpeaker model in ONNX.*Download"):
        load_voice_encoder("wespeaker", page)
    half = tmp_path / "half.onnx"
    half.write_bytes(write_model(tmp_path / "whole.onnx").read_bytes()[:2000])
    with pytest.raises(MissingModel, match="not a WeSpeaker model"):
        load_voice_encoder("wespeaker", half)
    other = write_model(tmp_path / "other.onnx", filters=40)
    with pytest.raises(MissingModel, match=r"reads .*40.*, not one \[batch, frames, 80\]"):
        load_voice_encoder("wespeaker", other)
    with pytest.raises(MissingModel, match=r"voices\.weights: .*no model is set"):
        load_voice_encoder("wespeaker", None)
    with pytest.raises(BadInput, match="no voice encoder 'ecapa'"):
        load_voice_encoder("ecapa", None)
