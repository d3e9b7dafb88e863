"""What a report card is made from: videos, their scores, and the dataset behind them."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from mimix_core import tables
from mimix_core.domain.prompts import CharacterOrigin, VideoPrompt
from mimix_core.engine.artifacts import TableRef
from mimix_core.errors import BadInput
from mimix_core.tables import (
    CHARACTER_SCORES,
    COMPOSITES,
    DATASET,
    CharacterScoreRow,
    DatasetRow,
    Status,
)


@dataclass(frozen=True)
class Resemblance:
    """How alike two characters' exemplars are, and whether that is an alarm (look-alikes)."""

    similarity: float
    alarming: bool


Resemblances = Mapping[frozenset[str], Resemblance]
"""Resemblance of each pair of names."""


@dataclass(frozen=True)
class CardInputs:
    """A system's videos and scores, and the project's dataset.

    ``videos``: prompt id -> file. ``store``: what the dataset's videos are relative to.
    ``sheets``: composite -> picture of how it was made. ``resemblances``: may be empty.
    """

    system: str
    videos: Mapping[str, Path]
    prompts: tuple[VideoPrompt, ...]
    origins: tuple[CharacterOrigin, ...]
    scores: tuple[CharacterScoreRow, ...]
    dataset: tuple[DatasetRow, ...]
    sheets: Mapping[str, Path]
    store: Path
    resemblances: Resemblances = field(default_factory=dict)


def load_card_inputs(
    system: str,
    videos: Mapping[str, Path],
    prompts: Iterable[VideoPrompt],
    origins: Iterable[CharacterOrigin],
    scores: Path,
    dataset: TableRef,
    composites: TableRef,
    store: Path,
    resemblances: Resemblances,
) -> CardInputs:
    """Load the tables. Raises BadInput if no video of several characters has scores."""
    asked = tuple(prompts)
    several = {prompt.id for prompt in asked if len(set(prompt.characters)) > 1}
    if not several:
        raise BadInput(
            "no prompt has two characters",
            where=f"prompts of {system}",
            fix="A report card is about pairs: write prompts with two or three characters.",
        )
    rows = tuple(
        row
        for row in tables.read(scores, CHARACTER_SCORES)
        if row["video_id"] in videos or row["status"] != Status.OK
    )
    if not any(row["video_id"] in several and row["status"] == Status.OK for row in rows):
        raise BadInput(
            f"no video of {system} with two characters has scores",
            where=str(scores),
            fix="Score these videos with these prompts: mimix bench characters.",
        )
    return CardInputs(
        system,
        videos,
        asked,
        tuple(origins),
        rows,
        tuple(tables.read(dataset.path, DATASET)),
        {
            row["composite_id"]: composites.folder / row["sheet_file"]
            for row in tables.usable(tables.read(composites.path, COMPOSITES))
            if row["sheet_file"]
        },
        store,
        resemblances,
    )


def read_resemblances(path: Path) -> Resemblances:
    """Read pairs written by ``mimix characters look-alikes --csv``. Raises BadInput."""
    fix = "Write it with mimix characters look-alikes SETTINGS --csv FILE."
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        found = {
            frozenset((row["first"], row["second"])): Resemblance(
                float(row["similarity"]), row["alarm"] == "1"
            )
            for row in rows
        }
    except FileNotFoundError as error:
        raise BadInput("no such file", where=str(path), fix=fix) from error
    except (KeyError, ValueError, TypeError, csv.Error) as error:
        raise BadInput(
            f"is not a table of look-alikes ({error})", where=str(path), fix=fix
        ) from error
    if not found:
        raise BadInput("is not a table of look-alikes (it has no pairs)", where=str(path), fix=fix)
    return found
