"""Target: what the watch has to notice."""

from __future__ import annotations

import os
from pathlib import Path

from tests.fuzz.mutations import spoil_bytes
from tests.fuzz.target import Target


def misbehave(data: bytes, _: Path) -> None:
    """Do what the input says."""
    match data:
        case b"loop":
            while True:
                pass
        case b"memory":
            bytearray(4_000_000_000)
        case b"error":
            raise KeyError("x")
        case b"exit":
            os._exit(3)


TARGETS = (Target("misbehaving", (b"fine",), spoil_bytes, misbehave),)
