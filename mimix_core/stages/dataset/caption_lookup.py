"""Look up the captions of samples without holding those of a whole library."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from sys import intern

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef

_COLUMNS = ("clip_id", "caption", "actions", "backend", "status")

_TABLES_IN_MEMORY = 4
"""Tables of captions in memory: those of a clips table are mostly in one."""


@dataclass(frozen=True, slots=True)
class SampleCaption:
    """What the dataset takes from a caption. ``characters``: in its order, each once."""

    text: str
    backend: str
    characters: tuple[str, ...]


class CaptionLookup:
    """The usable captions of some tables, by id; of two of one id the later one counts.

    Which table has a caption is in memory; the captions themselves are read with their table.
    """

    def __init__(self, refs: Sequence[TableRef]) -> None:
        self._refs = refs
        self._table_of = {
            row["clip_id"]: number
            for number, ref in enumerate(refs)
            for row in tables.usable(
                tables.iterate(ref.path, tables.CAPTIONS, ("clip_id", "status"))
            )
        }
        self._read = lru_cache(_TABLES_IN_MEMORY)(self._read_table)

    @property
    def ids(self) -> Collection[str]:
        """The ids of all captions."""
        return self._table_of.keys()

    def get(self, sample_id: str) -> SampleCaption | None:
        """Return the caption of a sample; None if there is none."""
        number = self._table_of.get(sample_id)
        return None if number is None else self._read(number)[sample_id]

    def _read_table(self, number: int) -> Mapping[str, SampleCaption]:
        rows = tables.iterate(self._refs[number].path, tables.CAPTIONS, _COLUMNS)
        return {
            row["clip_id"]: SampleCaption(
                row["caption"],
                intern(row["backend"]),
                tuple(dict.fromkeys(intern(action["name"]) for action in row["actions"])),
            )
            for row in tables.usable(rows)
        }
