"""A writer of MiMix, and what several of them write."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.crash_states import MARK

COUNT = 3
"""How often each writer writes."""


def mark(promised: int) -> None:
    """Say that so many writes are finished."""
    os.write(1, f"{MARK}{promised}\n".encode())


@dataclass(frozen=True)
class Scenario:
    """A writer. ``prepare`` makes the old state, of which ``check`` is told as promise 0."""

    name: str
    prepare: Callable[[Path], None]
    write: Callable[[Path], None]
    check: Callable[[Path, int], None]


def prepare_nothing(_: Path) -> None:
    """Start with an empty folder."""


def content(number: int) -> bytes:
    return f"{number}:".encode() + bytes(range(256)) * 40


def keys() -> list[str]:
    return [f"{number:064x}" for number in range(1, COUNT + 1)]
