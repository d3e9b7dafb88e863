"""Messages between the stage and its training processes, as JSON: the job, progress and results."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.settings import ExpertName, LoraSettings
from mimix_core.wan.adapter_metadata import AdapterMetadata
from mimix_core.wan.model_registry import FULL_RANGE, NoiseRange
from mimix_core.wan.tensor_shards import TensorRef


class TrainingStopped(Exception):
    """Raised in all processes when one was asked to stop; complete steps are preserved."""


class TrainingSample(FrozenModel):
    """One sample: its metadata and references to its precomputed tensors.

    ``regions``: the cells of its characters; None if none has a mask, or the loss is not weighted.
    ``composite``: whether a character was pasted into it. ``image``: whether it is one frame of
    another sample, which is mixed in as often as the settings say.
    """

    sample_id: str
    show: str
    style: str
    characters: tuple[str, ...]
    latents: TensorRef
    text: TensorRef
    regions: TensorRef | None = None
    composite: bool = False
    image: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of its latents_CTHW; a micro batch has samples of one shape."""
        return self.latents.shape


class PreviewConfig(FrozenModel):
    """The inputs for generating videos of ``LoraSettings.preview_prompts``.

    ``prompts``: safetensors file with a text_LD per prompt, named by its number, and ``negative``.
    ``shift``: timestep shift of the scheduler. ``expert``: which of two is trained; then
    ``other_expert`` is the other one's transformer, which has no adapter in the videos.
    ``frame_rate``: of the videos.
    """

    backbone: str
    prompts: Path
    vae: Path
    scheduler: Path
    shift: float
    expert: ExpertName | None = None
    other_expert: Path | None = None
    frame_rate: int = int(CLIP_RATE)


class TrainingJob(FrozenModel):
    """The complete input of a training process, the same for all ranks."""

    settings: LoraSettings
    transformer: Path
    # Adapter to start from; None: a new one.
    initial_adapter: Path | None = None
    # Characters that are added to it.
    new_characters: tuple[str, ...] = ()
    train: tuple[TrainingSample, ...]
    val: tuple[TrainingSample, ...]
    out: Path
    # The noise levels at which the transformer predicts: an expert's, or all.
    levels: NoiseRange = FULL_RANGE
    # Metadata to write into the adapter file.
    adapter_metadata: AdapterMetadata
    # Folder of the run's log, which survives interrupted attempts. Without one the log is written
    # to ``out``, and no timings are logged.
    log_folder: Path | None = None
    preview: PreviewConfig | None = None
    # Folder of the run's checkpoints; None: no checkpoints.
    checkpoints: Path | None = None
    # Path of the file by which the processes find each other; set by the launcher.
    rendezvous: Path = Path()


class ProgressMessage(FrozenModel):
    """``done`` optimizer steps are complete."""

    kind: Literal["progress"] = "progress"
    done: int
    total: int
    note: str


class FinishedMessage(FrozenModel):
    """Training is complete and all files are written. ``notes`` go into the stage's record."""

    kind: Literal["finished"] = "finished"
    notes: dict[str, str | int | float]


class BadInputMessage(FrozenModel):
    """The input or the settings are invalid: the fields of BadInput."""

    kind: Literal["refused"] = "refused"
    what: str
    where: str
    fix: str


class FailedMessage(FrozenModel):
    """Training failed: raised as Transient if ``retryable``, else as StageFailed."""

    kind: Literal["failed"] = "failed"
    message: str
    retryable: bool = False


WorkerMessage = ProgressMessage | FinishedMessage | BadInputMessage | FailedMessage

_messages: TypeAdapter[WorkerMessage] = TypeAdapter(
    Annotated[WorkerMessage, Field(discriminator="kind")]
)


def parse_message(line: str) -> WorkerMessage:
    """Parse the message on one line. Raises ValidationError."""
    return _messages.validate_json(line)
