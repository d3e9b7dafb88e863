"""Settings: one model a stage, defaults as in the paper, and the file that holds them all.

Fields marked ``Immaterial`` change how a stage runs but not what it makes, or name a file whose
content is in the stage's inputs; they stay out of the stage key. Every other field is part of it.
"""

from decimal import Decimal
from fractions import Fraction

from mimix_core.settings.augmentation_settings import (
    CompositeSettings,
    CutoutSettings,
    DatasetSettings,
)
from mimix_core.settings.benchmark_settings import ReportSettings, SampleSettings, ScoreSettings
from mimix_core.settings.config import Config, RunSettings, load_config
from mimix_core.settings.curation_settings import (
    CaptionSettings,
    ClipSettings,
    DuplicateSettings,
    OverlaySettings,
    SceneSettings,
    TranscriptSettings,
)
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.settings.training_settings import (
    BackboneSettings,
    EmbeddingSettings,
    LatentSettings,
    LoraSettings,
)

__all__ = [
    "BackboneSettings",
    "CaptionSettings",
    "ClipSettings",
    "CompositeSettings",
    "Config",
    "CutoutSettings",
    "DatasetSettings",
    "DuplicateSettings",
    "EmbeddingSettings",
    "JudgeSettings",
    "LatentSettings",
    "LoraSettings",
    "OverlaySettings",
    "ReportSettings",
    "RunSettings",
    "SampleSettings",
    "SceneSettings",
    "ScoreSettings",
    "TranscriptSettings",
    "exact",
    "load_config",
]


def exact(seconds: Decimal) -> Fraction:
    """A settings time as an exact fraction of seconds."""
    return Fraction(seconds)
