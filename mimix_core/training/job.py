"""What a training process is told, and what it tells back: JSON between stage and child."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from mimix_core.refs import Frozen
from mimix_core.settings import LoraSettings


class Stopped(Exception):
    """All processes agreed to end between two steps, because one was asked to."""


class Sample(Frozen):
    """One sample with its precomputed files."""

    sample_id: str
    latents: Path
    text: Path


class Job(Frozen):
    """All a training process needs; every rank reads the same."""

    settings: LoraSettings
    transformer: Path
    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    out: Path
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


Message = Annotated[Progress | Finished | Refused, Field(discriminator="kind")]

_messages: TypeAdapter[Progress | Finished | Refused] = TypeAdapter(Message)


def parse(line: str) -> Progress | Finished | Refused:
    """The message on one line. Raises ValidationError."""
    return _messages.validate_json(line)
