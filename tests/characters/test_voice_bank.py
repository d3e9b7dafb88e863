"""The voices of the bank: limits whose parts are known by construction, and recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mimix_core.characters.bank import Floats
from mimix_core.characters.voice_bank import VoiceBank, build_voice_bank, encode_recording
from mimix_core.characters.voice_encoders import VoiceEncoder, load_voice_encoder
from mimix_core.errors import BadInput
from tests.media_factory import Shot, write_video
from tests.voice_factory import HIGH, LOW, MIDDLE, STRANGER, music, silence, speak, write_wave


class PlaneEncoder:
    """Limits of an encoder whose vectors lie in a plane."""

    name, min_limit, uncalibrated_limit = "plane", 0.2, 0.5

    def encode(self, samples: Floats, /) -> Floats:
        raise NotImplementedError


def at(*degrees: float) -> list[Floats]:
    return [np.array([np.cos(a), np.sin(a)], np.float32) for a in np.radians(degrees)]


def bank(fixed_limit: float | None = None, **exemplars: Sequence[Floats]) -> VoiceBank:
    return build_voice_bank(exemplars, PlaneEncoder(), fixed_limit)


def cosine(degrees: float) -> float:
    return float(np.cos(np.radians(degrees)))


def test_a_limit_lies_between_ones_own_voice_and_the_next() -> None:
    # Each of Tom's exemplars is 10 degrees from another; Jerry's nearest is 50 from Tom's nearest.
    both = bank(Tom=at(0, 10, 20), Jerry=at(70, 80))
    assert both.limit("Tom") == pytest.approx(1 - 2 * (1 - cosine(10)), abs=1e-3), "twice as far"
    uneven = bank(Tom=at(0, 20, 60), Jerry=at(150, 160))
    own = np.array([cosine(20), cosine(20), cosine(40)])
    assert uneven.limit("Tom") == pytest.approx(1 - 2 * (1 - own).mean(), abs=1e-3)
    near = bank(Tom=at(0, 20, 60), Jerry=at(65, 75))
    assert near.limit("Tom") == pytest.approx((np.quantile(own, 0.1) + cosine(5)) / 2, abs=1e-3)


def test_one_wrong_exemplar_of_many_does_not_open_the_door() -> None:
    right = list(range(0, 40, 2))
    clean = bank(Tom=at(*right), Jerry=at(100, 102))
    spoilt = bank(Tom=at(*right, 99), Jerry=at(100, 102))
    assert clean.limit("Tom") > 0.9
    assert spoilt.limit("Tom") > cosine(45)


def test_limits_without_anything_to_compare() -> None:
    assert bank(Tom=at(0)).limit("Tom") == 0.5
    assert bank(Tom=at(0, 120), Jerry=at(240)).limit("Tom") == 0.2, "never below the encoder's"
    assert bank(Tom=at(0, 60)).limit("Tom") == 0.2
    assert bank(Tom=at(0, 20)).limit("Tom") == pytest.approx(2 * cosine(20) - 1, abs=1e-3)
    assert bank(0.7, Tom=at(0, 10)).limit("Tom") == 0.7
    assert bank(Tom=[]).match(at(0)[0]) is None


def test_a_voice_is_the_nearest_characters_or_a_strangers() -> None:
    one = bank(Tom=at(0, 10, 30), Jerry=at(80, 90, 110))
    found = one.match(at(15)[0])
    assert found is not None
    assert (found.character, found.recognized) == ("Tom", True)
    stranger = one.match(at(190)[0])
    assert stranger is not None
    assert not stranger.recognized


@pytest.fixture(scope="module")
def encoder() -> VoiceEncoder:
    return load_voice_encoder("spectral-statistics", None)


def test_recordings_become_a_bank_that_knows_its_cast_and_no_strangers(
    tmp_path: Path, encoder: VoiceEncoder
) -> None:
    cast = {"Tom": LOW, "Jerry": HIGH, "Ann": MIDDLE}
    exemplars = {}
    for number, (name, voice) in enumerate(cast.items()):
        pause = silence(1)
        sound = np.concatenate([pause, speak(voice, 8, 50 + number), pause, music(2)])
        exemplars[name] = encode_recording(encoder, write_wave(tmp_path / f"{name}.wav", sound))
        assert len(exemplars[name]) == 3, "8 s of speech in pieces of 2.5 s, without the music"
    known = build_voice_bank(exemplars, encoder)
    for name, voice in cast.items():
        for seed in range(4):
            found = known.match(encoder.encode(speak(voice, 2.5, seed)))
            assert found is not None
            assert found.character == name
    for seed in range(4):
        found = known.match(encoder.encode(speak(STRANGER, 2.5, seed)))
        assert found is not None
        assert not found.recognized


def test_a_recording_that_cannot_be_used_is_one_clear_error(
    tmp_path: Path, encoder: VoiceEncoder
) -> None:
    with pytest.raises(BadInput, match=r"song\.wav: 0\.0 s of speech .* remove it from the charac"):
        encode_recording(encoder, write_wave(tmp_path / "song.wav", music(3)))
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(b"RIFF" + bytes(range(200)))
    with pytest.raises(BadInput, match=r"damaged\.wav: this recording of a voice cannot be read"):
        encode_recording(encoder, damaged)
    silent = write_video(tmp_path / "silent.mp4", [Shot(8)]).path
    with pytest.raises(BadInput, match=r"silent\.mp4: this recording of a voice has no audio"):
        encode_recording(encoder, silent)
