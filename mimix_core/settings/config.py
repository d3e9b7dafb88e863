"""The settings file: one YAML file with the settings of all stages."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.input_files import file_exists
from mimix_core.engine.yaml_files import format_location, validation_error
from mimix_core.errors import BadInput
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
    CharacterScoreSettings,
    ReportSettings,
    SampleSettings,
    ScoreSettings,
)
from mimix_core.settings.caption_settings import CaptionSettings
from mimix_core.settings.curation_settings import (
    ClipSettings,
    DuplicateSettings,
    OverlaySettings,
    SceneSettings,
    TranscriptSettings,
)
from mimix_core.settings.extension_settings import validate_extensions
from mimix_core.settings.judge_settings import JudgeSettings
from mimix_core.settings.renamed_settings import reject_renamed_settings
from mimix_core.settings.settings_file import read_settings_file
from mimix_core.settings.training_settings import LoraSettings
from mimix_core.settings.unknown_keys import hint_for_unknown_key
from mimix_core.settings.voice_settings import SpeakerSettings, VoiceSettings


class RunSettings(FrozenModel):
    """How a run executes; nothing here changes a result."""

    max_workers: int = Field(
        2, ge=1, description="Maximum number of units processed at the same time."
    )
    task_runner: Literal["threads", "dask"] = Field(
        "threads",
        description="Where units run: in threads of this machine, or on the workers of a Dask "
        "cluster, which all need the workspace under the same path (docs/scale.md).",
    )
    dask_scheduler: str | None = Field(
        None,
        description="Address of the Dask scheduler, e.g. tcp://head:8786. Empty: start a "
        "cluster of run.max_workers processes on this machine.",
    )
    timeout_minutes: float | None = Field(
        None,
        gt=0,
        description="Kill a unit after this many minutes. Empty: no limit, because training and "
        "the wait for a provider's batch take days.",
    )
    retries: int = Field(
        2, ge=0, description="Number of retries after a failure that a retry can resolve."
    )
    stall_timeout_minutes: float = Field(
        10,
        gt=0,
        description="Kill a unit that reads videos after this many minutes without progress.",
    )
    memory_limit_gb: float = Field(
        16,
        gt=0,
        description="Memory in GB that a unit that reads videos may allocate (Linux only).",
    )
    require_approval: bool = Field(
        False,
        description="Pause before training until the dataset is approved with `mimix review`.",
    )
    review_share: Decimal = Field(
        Decimal(0),
        ge=0,
        le=1,
        description="Share of the dataset's composites, drawn at random, that people must have "
        "looked at in `mimix studio` before training. 0: none, 1: all.",
    )
    workspace_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s<>\"]+$",
        description="URL under which the workspace folder is served, for links in the Prefect "
        "UI. Empty: links are file paths.",
    )


class Config(FrozenModel):
    """The settings file: paths of the library and the workspace, and the settings of each stage."""

    library: Path = Field(
        description="Path of library.yaml, which lists shows, characters and episodes."
    )
    workspace: Path = Field(
        Path("workspace"), description="Folder that all results are written to."
    )
    decisions: Path = Field(
        Path("decisions.jsonl"),
        description="File of people's decisions on clips, cutouts and composites, which `mimix "
        "studio` writes and every run obeys.",
    )
    inbox: Path | None = Field(
        None,
        description="Folder that new episodes are put into, each in a subfolder named by the id "
        "of its show.",
    )
    inbox_settle_seconds: float = Field(
        10,
        ge=0,
        le=86_400,
        description="A new file is complete when it has not changed for this many seconds. Choose "
        "more than the longest pause of the program that writes it.",
    )
    run: RunSettings = Field(
        RunSettings(), description="Execution of a run: parallelism, timeouts and retries."
    )
    scenes: SceneSettings = Field(
        SceneSettings(), description="Detection of scenes and measurement of their quality."
    )
    overlays: OverlaySettings = Field(
        OverlaySettings(), description="Detection of subtitles, credits and letterboxes."
    )
    clips: ClipSettings = Field(
        ClipSettings(), description="Extraction of fixed-length clips from scenes."
    )
    duplicates: DuplicateSettings = Field(
        DuplicateSettings(), description="Rejection of clips with footage of an earlier clip."
    )
    transcripts: TranscriptSettings = Field(
        TranscriptSettings(), description="Dialogue from subtitles or speech recognition."
    )
    voices: VoiceSettings = Field(VoiceSettings(), description="Voices of the lines of dialogue.")
    speakers: SpeakerSettings = Field(
        SpeakerSettings(), description="Which character speaks each line of dialogue."
    )
    captions: CaptionSettings = Field(
        CaptionSettings(), description="Captions of clips from scripts or a vision-language model."
    )
    cutouts: CutoutSettings = Field(
        CutoutSettings(), description="Location and segmentation of characters."
    )
    composites: CompositeSettings = Field(
        CompositeSettings(), description="Characters composited into scenes of the opposite style."
    )
    dataset: DatasetSettings = Field(
        DatasetSettings(), description="Training, validation and test splits of the dataset."
    )
    backbone: BackboneSettings = Field(
        BackboneSettings(), description="The text-to-video model that is fine-tuned."
    )
    latents: LatentSettings = Field(
        LatentSettings(), description="Precomputed VAE latents of the clips."
    )
    embeddings: EmbeddingSettings = Field(
        EmbeddingSettings(), description="Precomputed text embeddings of the captions."
    )
    lora: LoraSettings = Field(LoraSettings(), description="Training of the LoRA adapter.")
    samples: SampleSettings = Field(
        SampleSettings(), description="Generation of videos from the benchmark prompts."
    )
    scores: ScoreSettings = Field(
        ScoreSettings(), description="Automatic metrics of the generated videos."
    )
    character_scores: CharacterScoreSettings = Field(
        CharacterScoreSettings(),
        description="Scores of each asked-for character of the generated videos.",
    )
    judge: JudgeSettings = Field(
        JudgeSettings(), description="Ratings of the generated videos by a vision-language model."
    )
    report: ReportSettings = Field(ReportSettings(), description="The HTML report of a run.")
    extensions: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="Settings of stages from outside MiMix, by the dotted name of the stage's "
        "module.",
    )


def load_config(path: Path) -> Config:
    """Load and validate the settings file; relative paths are resolved against its folder.

    A file that extends another one (``settings_file``) has the settings of both; each is valid.
    Raises BadInput with one message that names the line and key of every problem.
    """
    file = read_settings_file(path)
    document, lines = file.document, file.lines
    if file.extended is not None:
        load_config(file.extended)
    reject_renamed_settings(document, path, lines)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise validation_error(
            path, error, lines, hint_for_unknown=lambda key: hint_for_unknown_key(Config, key)
        ) from error
    if not file_exists(path.resolve().parent / config.library):
        raise BadInput(
            f"{path.resolve().parent / config.library} does not exist",
            where=format_location(path, lines, ("library",)),
            fix="Write the path of your library.yaml, relative to this file.",
        )
    if config.extensions:
        extensions = validate_extensions(config.extensions, path, lines)
        config = config.model_copy(update={"extensions": extensions})
    return _resolve_paths(config, path.resolve().parent)


def with_absolute_paths(config: Config) -> Config:
    """Resolve the relative paths of settings that a form or a program filled in.

    As in a settings file next to it, they are relative to the folder of library.yaml. Raises
    BadInput when the path of the library itself is relative.
    """
    if not config.library.is_absolute():
        raise BadInput(
            f"{config.library} is a relative path",
            where="settings, key library",
            fix="Write the absolute path of library.yaml, as the worker sees it.",
        )
    return _resolve_paths(config, config.library.parent)


def _resolve_paths(config: Config, base: Path) -> Config:
    """Resolve the relative paths of the config and its sections against ``base``."""
    changes: dict[str, object] = {
        "library": base / config.library,
        "workspace": base / config.workspace,
        "decisions": base / config.decisions,
        "inbox": None if config.inbox is None else base / config.inbox,
    }
    for name in Config.model_fields:
        section = getattr(config, name)
        if isinstance(section, FrozenModel):
            resolved = _resolve_section_paths(section, base)
            if resolved is not section:  # a default that is set counts as written by the user
                changes[name] = resolved
    return config.model_copy(update=changes)


def _resolve_section_paths(section: FrozenModel, base: Path) -> FrozenModel:
    """Resolve the relative paths of a section, and those in its lists of models."""
    changes: dict[str, object] = {}
    for field in type(section).model_fields:
        value = getattr(section, field)
        if isinstance(value, Path):
            changes[field] = base / value
        elif isinstance(value, tuple) and any(isinstance(item, FrozenModel) for item in value):
            changes[field] = tuple(_resolve_section_paths(item, base) for item in value)
    return section.model_copy(update=changes) if changes else section
