"""Speaker embeddings: what an encoder has to offer, and the encoders that there are."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from mimix_core.characters.bank import Floats
from mimix_core.characters.voice_activity import Samples
from mimix_core.characters.wespeaker_download import WESPEAKER_DOWNLOAD
from mimix_core.errors import BadInput, MissingModel


class VoiceEncoder(Protocol):
    """Turn speech into a unit vector: the more alike two voices, the greater the dot product.

    ``min_limit``: no calibrated limit is lower, since voices of two people reach about this
    similarity. ``uncalibrated_limit``: of a character with one exemplar, which cannot be compared
    with another.
    """

    name: str
    min_limit: float
    uncalibrated_limit: float

    def encode(self, samples: Samples, /) -> Floats: ...


def load_voice_encoder(backend: str, weights: Path | None) -> VoiceEncoder:
    """Load the encoder of the setting ``voices.backend``. Raises MissingModel, BadInput."""
    if backend == "spectral-statistics":
        from mimix_core.characters.voice_statistics import VoiceStatistics

        return VoiceStatistics()
    if backend == "wespeaker":
        from mimix_core.characters.wespeaker import WespeakerEncoder

        if weights is None:
            raise MissingModel(
                "voices are compared with WeSpeaker, but no model is set",
                where="settings, key voices.weights",
                fix=f"{WESPEAKER_DOWNLOAD} Or set voices.backend: none.",
            )
        return WespeakerEncoder(weights)
    raise BadInput(f"no voice encoder {backend!r}", where="settings, key voices.backend")
