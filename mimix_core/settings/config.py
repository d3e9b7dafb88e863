"""The one YAML file that holds all settings."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from mimix_core.domain.library import invalid, read_yaml
from mimix_core.engine.artifacts import Frozen
from mimix_core.errors import BadInput
from mimix_core.settings.augmentation_settings import (
    CompositeSettings,
    CutoutSettings,
    DatasetSettings,
)
from mimix_core.settings.benchmark_settings import ReportSettings, SampleSettings, ScoreSettings
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


class RunSettings(Frozen):
    """How the work is done; nothing here changes a result."""

    workers: int = Field(2, ge=1, description="Units of work at the same time.")
    runner: Literal["threads", "dask"] = Field(
        "threads",
        description="Where units are run: on this machine, or by the workers of a Dask cluster, "
        "which all see the workspace under the same path (docs/scale.md).",
    )
    dask_scheduler: str | None = Field(
        None,
        description="Address of that cluster's scheduler, e.g. tcp://head:8786. Empty: a cluster "
        "of run.workers processes on this machine.",
    )
    timeout_minutes: float | None = Field(
        None,
        gt=0,
        description="A unit that takes longer is killed. Empty: none is; training, and waiting for "
        "a provider's batch, take days.",
    )
    retries: int = Field(2, ge=0, description="For failures that a retry can help.")
    stall_minutes: float = Field(
        10, gt=0, description="A unit that reads videos and says nothing for so long is killed."
    )
    memory_gb: float = Field(
        16, gt=0, description="A unit that reads videos may allocate so much, on Linux."
    )
    review: bool = Field(
        False, description="Wait for a person's approval of the dataset before training."
    )
    workspace_url: str | None = Field(
        None,
        pattern="^https?://",
        description="Where the workspace's folder is served, so that links in the Prefect UI open. "
        "Empty: they name the file.",
    )


class Config(Frozen):
    """The one YAML file: where the library and the workspace are, and each stage's settings."""

    library: Path = Field(description="library.yaml")
    workspace: Path = Field(Path("workspace"), description="Where all results go.")
    inbox: Path | None = Field(
        None, description="Where new episodes are put, in a folder named by the id of their show."
    )
    run: RunSettings = RunSettings()
    scenes: SceneSettings = SceneSettings()
    overlays: OverlaySettings = OverlaySettings()
    clips: ClipSettings = ClipSettings()
    duplicates: DuplicateSettings = DuplicateSettings()
    transcripts: TranscriptSettings = TranscriptSettings()
    captions: CaptionSettings = CaptionSettings()
    cutouts: CutoutSettings = CutoutSettings()
    composites: CompositeSettings = CompositeSettings()
    dataset: DatasetSettings = DatasetSettings()
    backbone: BackboneSettings = BackboneSettings()
    latents: LatentSettings = LatentSettings()
    embeddings: EmbeddingSettings = EmbeddingSettings()
    lora: LoraSettings = LoraSettings()
    samples: SampleSettings = SampleSettings()
    scores: ScoreSettings = ScoreSettings()
    judge: JudgeSettings = JudgeSettings()
    report: ReportSettings = ReportSettings()


def load_config(path: Path) -> Config:
    """Read and check the settings file; paths in it come back absolute.

    Raises BadInput with one message that names every problem, each with its line and key.
    """
    document, lines = read_yaml(path)
    try:
        config = Config.model_validate(document)
    except ValidationError as error:
        raise invalid(path, error, lines) from error
    if not path.resolve().parent.joinpath(config.library).is_file():
        line = lines[("library",)]
        raise BadInput(
            f"no file {path.resolve().parent / config.library}",
            where=f"{path}, line {line}, key library",
            fix="Write the path of your library.yaml, relative to this file.",
        )
    return _absolute(config, path.resolve().parent)


def _absolute(config: Config, base: Path) -> Config:
    changes: dict[str, object] = {
        "library": base / config.library,
        "workspace": base / config.workspace,
        "inbox": None if config.inbox is None else base / config.inbox,
    }
    for name in Config.model_fields:
        section = getattr(config, name)
        if isinstance(section, Frozen):
            paths = {
                field: base / value
                for field in type(section).model_fields
                if isinstance(value := getattr(section, field), Path)
            }
            if paths:
                changes[name] = section.model_copy(update=paths)
    return config.model_copy(update=changes)
