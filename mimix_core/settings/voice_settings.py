"""Settings of the stages that say who speaks."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.cache_key import ExcludeFromKey


class VoiceSettings(FrozenModel):
    """Vectors of the voices that speak the lines of dialogue."""

    backend: Literal["none", "spectral-statistics", "wespeaker"] = Field(
        "none",
        description="What voices are compared with. wespeaker: a speaker model, whose weights "
        "`mimix models` says how to get. spectral-statistics: a stand-in that needs no weights, "
        "for voices of clearly different pitch. none: captions do not say who speaks.",
    )
    weights: Annotated[Path | None, ExcludeFromKey()] = Field(
        None, description="File of a WeSpeaker model in ONNX; for backend wespeaker."
    )
    min_speech_seconds: Decimal = Field(
        Decimal("0.5"),
        ge=Decimal("0.2"),
        description="Minimum seconds of speech in a line's time; of a line with less nothing is "
        "said from its voice.",
    )


class SpeakerSettings(FrozenModel):
    """Attachment of each line of dialogue to the character who speaks it."""

    named_lines: bool = Field(
        True,
        description="Trust subtitles that name the speaker, as in `Teddy: hello`: such lines are "
        "exemplars of the character's voice.",
    )
    min_similarity: float | None = Field(
        None,
        gt=-1,
        le=1,
        description="Similarity of a line's voice from which it is a character's, instead of the "
        "limits calibrated from each character's exemplars.",
    )
