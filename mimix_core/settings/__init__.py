"""Settings: one model per stage with the paper's values as defaults, and the settings file.

Fields marked ``ExcludeFromKey`` change how a stage runs but not its result, or name a file whose
content is in the stage's inputs; they are not part of the stage key. All other fields are.
"""

from decimal import Decimal
from fractions import Fraction

from mimix_core.settings.augmentation_settings import (
    CompositeSettings,
    CutoutSettings,
    DatasetSettings,
)
from mimix_core.settings.backbone_settings import (
    BackboneSettings,
    EmbeddingSettings,
    LatentSettings,
)
from mimix_core.settings.benchmark_settings import (
    AdapterSettings,
    CharacterScoreSettings,
    ReportSettings,
    SampleSettings,
    ScoreSettings,
)
from mimix_core.settings.caption_settings import CaptionSettings
from mimix_core.settings.config import Config, RunSettings, load_config, with_absolute_paths
from mimix_core.settings.curation_settings import (
    ClipSettings,
    DuplicateSettings,
    OverlaySettings,
    SceneSettings,
    TranscriptSettings,
)
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.settings.training_settings import ExpertName, LoraSettings
from mimix_core.settings.voice_settings import SpeakerSettings, VoiceSettings

__all__ = [
    "AdapterSettings",
    "BackboneSettings",
    "CaptionSettings",
    "CharacterScoreSettings",
    "ClipSettings",
    "CompositeSettings",
    "Config",
    "CutoutSettings",
    "DatasetSettings",
    "DuplicateSettings",
    "EmbeddingSettings",
    "ExpertName",
    "JudgeSettings",
    "LatentSettings",
    "LoraSettings",
    "OverlaySettings",
    "ReportSettings",
    "RunSettings",
    "SampleSettings",
    "SceneSettings",
    "ScoreSettings",
    "SpeakerSettings",
    "TranscriptSettings",
    "VoiceSettings",
    "exact_seconds",
    "load_config",
    "with_absolute_paths",
]


def exact_seconds(seconds: Decimal) -> Fraction:
    """Convert a time in seconds from the settings to an exact fraction."""
    return Fraction(seconds)
