"""What a training process is told, and what it tells back: JSON between stage and child."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.settings import LoraSettings
from mimix_core.wan.adapter_metadata import AdapterMetadata
from mimix_core.wan.tensor_shards import TensorRef


class TrainingStopped(Exception):
    """All processes agreed to end, because one was asked to; the whole steps so far are kept."""


class TrainingSample(FrozenModel):
    """One sample: what is in it, and where its precomputed tensors lie."""

    sample_id: str
    show: str
    style: str
    characters: tuple[str, ...]
    latents: TensorRef
    text: TensorRef

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its latents_CTHW: samples of one shape can share a micro batch."""
        return self.latents.shape


class PreviewConfig(FrozenModel):
    """What videos of ``LoraSettings.preview_prompts`` are made with.

    ``prompts``: safetensors with a ``text_LD`` for each, named by its number, and ``negative``.
    """

    backbone: str
    prompts: Path
    vae: Path
    scheduler: Path


class TrainingJob(FrozenModel):
    """All a training process needs; every rank reads the same."""

    settings: LoraSettings
    transformer: Path
    train: tuple[TrainingSample, ...]
    val: tuple[TrainingSample, ...]
    out: Path
    # What the adapter's file says of its making.
    adapter_metadata: AdapterMetadata
    # The run's own folder: its log grows there, and outlives an attempt that ends early. Without
    # one the log grows in ``out``, and nothing that depends on the clock is kept.
    log_folder: Path | None = None
    preview: PreviewConfig | None = None
    # Where checkpoints of this run are written and looked for; without one there are none.
    checkpoints: Path | None = None
    # An empty file that the processes meet by; the launcher fills it in.
    rendezvous: Path = Path()


class ProgressMessage(FrozenModel):
    """So many optimizer steps are done."""

    kind: Literal["progress"] = "progress"
    done: int
    total: int
    note: str


class FinishedMessage(FrozenModel):
    """Training is done and everything is written. ``notes`` go into the stage's record."""

    kind: Literal["finished"] = "finished"
    notes: dict[str, str | int | float]


class BadInputMessage(FrozenModel):
    """The input or the settings are wrong: the fields of BadInput."""

    kind: Literal["refused"] = "refused"
    what: str
    where: str
    fix: str


class FailedMessage(FrozenModel):
    """Training cannot go on: StageFailed, or Transient when to try again may help."""

    kind: Literal["failed"] = "failed"
    message: str
    retryable: bool = False


WorkerMessage = ProgressMessage | FinishedMessage | BadInputMessage | FailedMessage

_messages: TypeAdapter[WorkerMessage] = TypeAdapter(
    Annotated[WorkerMessage, Field(discriminator="kind")]
)


def parse_message(line: str) -> WorkerMessage:
    """The message on one line. Raises ValidationError."""
    return _messages.validate_json(line)
