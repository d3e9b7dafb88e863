"""The voices of a character bank: whose voice a line of dialogue is, or that of none of the cast.

Exemplars are lines whose speaker is known, and pieces of recordings of one character. As for faces,
no limit is chosen by hand: each exemplar is left out in turn, which says how alike two lines of one
character are in this show; the other characters' exemplars say how alike those of two are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimix_core.characters.bank import CharacterBank, Floats, build_bank
from mimix_core.characters.voice_activity import (
    VOICE_RATE,
    Samples,
    cut_speech,
    find_speech,
)
from mimix_core.characters.voice_encoders import VoiceEncoder
from mimix_core.errors import BadInput
from mimix_core.media import UnreadableVideo, read_recording

MIN_EXEMPLAR_MS = 700
"""Speech of an exemplar; less does not tell a voice well."""

MAX_EXEMPLARS = 60
"""Of a character, those with the most speech: more do not change the limits."""

_PIECE_SECONDS = 2.5
"""Speech of one exemplar of a recording, about as long as a line of dialogue."""

_REACHED_BY = 0.1
"""One exemplar of ten may be worse: subtitles name the wrong speaker now and then."""

_TYPICAL_DISTANCES = 2.0
"""A line may be as many times as far (one minus the similarity) from the nearest exemplar as
exemplars left out are on average."""


_REPLACE = (
    "Name a file in which only the character speaks, best without music, or remove it from the "
    "character's voices in library.yaml."
)


@dataclass(frozen=True)
class VoiceMatch:
    """The character whose voice is most similar, and the similarity from which it counts."""

    character: str
    similarity: float
    limit: float

    @property
    def recognized(self) -> bool:
        """Whether the voice is the character's, as opposed to one that is not known."""
        return self.similarity >= self.limit


@dataclass(frozen=True)
class VoiceBank:
    """Exemplars of voices by character, as vectors of one encoder.

    ``min_limit`` and ``uncalibrated_limit``: of the encoder. ``fixed_limit``: for all characters,
    instead of calibrated ones.
    """

    bank: CharacterBank
    min_limit: float
    uncalibrated_limit: float
    fixed_limit: float | None = None

    def limit(self, name: str) -> float:
        """Return the similarity from which a line may be the character's.

        Half-way between the similarity that nine of ten of its own exemplars left out reach, and
        the most similar exemplar of another character; but not far below what its own usually
        reach, since a stranger may be nearer than the others of the cast are.
        """
        if self.fixed_limit is not None:
            return self.fixed_limit
        own = np.array(self.bank.leave_one_out(name))
        if not len(own):
            return max(self.min_limit, self.uncalibrated_limit)
        typical = 1 - _TYPICAL_DISTANCES * float((1 - own).mean())
        nearest = self._nearest_other(name)
        between = (
            typical if nearest is None else (float(np.quantile(own, _REACHED_BY)) + nearest) / 2
        )
        return round(max(self.min_limit, typical, between), 4)

    def _nearest_other(self, name: str) -> float | None:
        """Return how similar the most similar exemplar of another character is; None without."""
        others = [vectors for other, vectors in self.bank.vectors.items() if other != name]
        if not others:
            return None
        return float(self.bank.similarity(name, np.concatenate(others)).max())

    def match(self, vector: Floats) -> VoiceMatch | None:
        """Return the character with the most similar voice; None if no voice is known."""
        matches = [
            VoiceMatch(name, float(self.bank.similarity(name, vector[None])[0]), self.limit(name))
            for name in self.bank.vectors
        ]
        return max(matches, key=lambda match: match.similarity, default=None)


def build_voice_bank(
    exemplars: Mapping[str, Sequence[Floats]],
    encoder: VoiceEncoder,
    fixed_limit: float | None = None,
) -> VoiceBank:
    """Build a bank from the unit vectors of each character's exemplars."""
    origin = np.zeros(1, np.float32)  # encoders return vectors relative to a center already
    bank = build_bank(exemplars, origin)
    return VoiceBank(bank, encoder.min_limit, encoder.uncalibrated_limit, fixed_limit)


def encode_recording(encoder: VoiceEncoder, path: Path) -> list[Floats]:
    """Encode a recording of one character, in pieces about as long as a line of dialogue.

    Raises BadInput for a file that cannot be read, has no audio or no speech; MissingModel.
    """
    samples = read_voice(path)
    spoken = cut_speech(samples, find_speech(samples), 0, len(samples))
    pieces = max(1, round(len(spoken) / (_PIECE_SECONDS * VOICE_RATE)))
    if len(spoken) * 1000 < MIN_EXEMPLAR_MS * VOICE_RATE:
        raise BadInput(
            f"{len(spoken) / VOICE_RATE:.1f} s of speech in this recording of a voice, at least "
            f"{MIN_EXEMPLAR_MS / 1000} s wanted",
            where=str(path),
            fix=_REPLACE,
        )
    return [encoder.encode(piece) for piece in np.array_split(spoken, pieces)][:MAX_EXEMPLARS]


def read_voice(path: Path) -> Samples:
    """Read a recording of a voice. Raises BadInput for a damaged one and one without audio."""
    try:
        samples = read_recording(path, rate=VOICE_RATE)
    except UnreadableVideo as error:
        raise BadInput(
            f"this recording of a voice cannot be read: {error.what}", where=str(path), fix=_REPLACE
        ) from error
    if samples is None or not len(samples):
        raise BadInput("this recording of a voice has no audio", where=str(path), fix=_REPLACE)
    return samples
