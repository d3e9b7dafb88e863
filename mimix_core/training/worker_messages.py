"""What a training process is told, and what it tells back: JSON between stage and child."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from mimix_core.engine.artifacts import Frozen
from mimix_core.settings import LoraSettings
from mimix_core.wan.adapter_metadata import Card
from mimix_core.wan.tensor_shards import TensorRef


class Stopped(Exception):
    """All processes agreed to end, because one was asked to; the whole steps so far are kept."""


class Sample(Frozen):
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


class Preview(Frozen):
    """What videos of ``LoraSettings.preview_prompts`` are made with.

    ``prompts``: safetensors with a ``text_LD`` for each, named by its number, and ``negative``.
    """

    backbone: str
    prompts: Path
    vae: Path
    scheduler: Path


class Job(Frozen):
    """All a training process needs; every rank reads the same."""

    settings: LoraSettings
    transformer: Path
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    out: Path
    # What the adapter's file says of its making.
    card: Card
    # The run's own folder: its log grows there, and outlives an attempt that ends early. Without
    # one the log grows in ``out``, and nothing that depends on the clock is kept.
    journal: Path | None = None
    preview: Preview | None = None
    # Where checkpoints of this run are written and looked for; without one there are none.
    checkpoints: Path | None = None
    # An empty file that the processes meet by; the launcher fills it in.
    rendezvous: Path = Path()


class Progress(Frozen):
    """So many optimizer steps are done."""

    kind: Literal["progress"] = "progress"
    done: int
    total: int
    note: str


class Finished(Frozen):
    """Training is done and everything is written. ``notes`` go into the stage's record."""

    kind: Literal["finished"] = "finished"
    notes: dict[str, str | int | float]


class Refused(Frozen):
    """The input or the settings are wrong: the fields of BadInput."""

    kind: Literal["refused"] = "refused"
    what: str
    where: str
    fix: str


class Failed(Frozen):
    """Training cannot go on: StageFailed, or Transient when to try again may help."""

    kind: Literal["failed"] = "failed"
    message: str
    again: bool = False


Told = Progress | Finished | Refused | Failed

_messages: TypeAdapter[Told] = TypeAdapter(Annotated[Told, Field(discriminator="kind")])


def parse(line: str) -> Told:
    """The message on one line. Raises ValidationError."""
    return _messages.validate_json(line)
