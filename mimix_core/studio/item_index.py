"""Search the index of a studio: filters, facets, sorting and full text over all items, in memory.

Columns that are filtered by are arrays of codes; texts remain in the SQLite file. With 52,000 clips
a filter takes milliseconds (perf/studio.py).
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimix_core.project.item_decisions import DecisionAction, ItemState
from mimix_core.studio.studio_items import KINDS

COLUMNS = ("show", "episode", "style", "stage", "status", "reason", "split", "review")
FACETS = (
    *("decision", "review", "status", "stage", "reason"),
    *("show", "episode", "character", "split", "style"),
)
DECISIONS = ("undecided", "approved", "rejected", "kept", "edited", "named", "disputed", "changed")
"""Values of the facet ``decision``.

``edited``: has another caption or another crop. ``named``: a track with a name.
``changed``: the video is another one than was decided on.
"""

RANDOM, LIBRARY, DECIDED = "random", "library", "decided"
"""Orders besides those by a number."""

SAVED_SEARCHES = 16

_VERDICTS = {DecisionAction.APPROVE: 1, DecisionAction.REJECT: 2, DecisionAction.KEEP: 3}

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class ItemQuery:
    """Which items, in which order. ``values``: allowed values by facet; ``ranges``: by number."""

    kind: str
    values: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    text: str = ""
    sort: str = LIBRARY
    descending: bool = False


class _Codes:
    """A column of texts: one code per item, and the text of each code."""

    def __init__(self, size: int) -> None:
        self.codes = np.zeros(size, np.int32)
        self.texts: dict[str, int] = {}

    def set(self, index: int, text: str) -> None:
        self.codes[index] = self.texts.setdefault(text, len(self.texts))

    def among(self, allowed: Iterable[str], span: slice) -> Mask:
        codes = [self.texts[text] for text in allowed if text in self.texts]
        mask: Mask = np.isin(self.codes[span], codes)
        return mask

    def counts(self, mask: Mask, span: slice) -> dict[str, int]:
        found = np.bincount(self.codes[span][mask], minlength=len(self.texts))
        return {text: int(found[code]) for text, code in self.texts.items() if text and found[code]}


class ItemIndex:
    """All items of one index file, and what was decided on them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = Lock()
        self._database = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False
        )
        [(size,)] = self._database.execute("SELECT COUNT(*) FROM items")
        self._columns = {name: _Codes(size) for name in COLUMNS}
        self.spans: dict[str, slice] = {}
        first: dict[str, int] = {}
        columns = ", ".join(COLUMNS)
        for row in self._database.execute(f"SELECT seq, kind, {columns} FROM items ORDER BY seq"):
            first.setdefault(row[1], row[0])
            self.spans[row[1]] = slice(first[row[1]], row[0] + 1)
            for name, text in zip(COLUMNS, row[2:], strict=True):
                self._columns[name].set(row[0], text)
        self._load_characters()
        self._load_numbers(size)
        self.meta = {
            name: json.loads(value)
            for name, value in self._database.execute("SELECT name, value FROM meta")
        }
        self._verdict = np.zeros(size, np.uint8)
        self._decided = np.zeros(size, np.float64)
        self._flags = {
            name: np.zeros(size, bool) for name in ("edited", "named", "disputed", "changed")
        }
        self._edited: dict[int, str] = {}
        self._found: dict[str, NDArray[np.int64]] = {}
        self._random = np.random.default_rng(0).permutation(size)

    def counts(self) -> dict[str, int]:
        """Return the number of items of each kind."""
        return {
            kind: span.stop - span.start
            for kind in KINDS
            if (span := self.spans.get(kind)) is not None
        }

    def number_ranges(self, kind: str) -> dict[str, tuple[float, float]]:
        """Return the smallest and the largest value of each number of a kind."""
        span = self.spans.get(kind, slice(0, 0))
        ranges = {}
        for name, values in self._numbers.items():
            known = values[span][~np.isnan(values[span])]
            if len(known):
                ranges[name] = (float(known.min()), float(known.max()))
        return ranges

    def select(self, query: ItemQuery) -> NDArray[np.int64]:
        """Return the positions of the items that fit, in order."""
        span = self.spans.get(query.kind, slice(0, 0))
        mask = np.ones(span.stop - span.start, bool)
        for one in self._masks(query, span).values():
            mask &= one
        found: NDArray[np.int64] = np.flatnonzero(mask) + span.start
        if query.sort == LIBRARY:
            return found[::-1] if query.descending else found
        if query.sort == RANDOM:
            keys = self._random[found].astype(np.float64)
        elif query.sort == DECIDED:
            keys = self._decided[found]
        else:
            values = self._numbers.get(query.sort)
            keys = np.full(len(found), np.nan) if values is None else values[found]
        # Items without the number come last in either direction.
        order = np.argsort(-keys if query.descending else keys, kind="stable")
        return found[order]

    def facets(self, query: ItemQuery) -> dict[str, dict[str, int]]:
        """Count the values of each facet among the items that fit all other filters."""
        span = self.spans.get(query.kind, slice(0, 0))
        masks = self._masks(query, span)
        counts: dict[str, dict[str, int]] = {}
        for facet in FACETS:
            mask = np.ones(span.stop - span.start, bool)
            for name, one in masks.items():
                if name != facet:
                    mask &= one
            if facet == "character":
                counts[facet] = self._count_characters(mask, span)
            elif facet == "decision":
                found = {name: self._decision_mask(name, span) & mask for name in DECISIONS}
                counts[facet] = {name: int(one.sum()) for name, one in found.items() if one.any()}
            else:
                counts[facet] = self._columns[facet].counts(mask, span)
        return counts

    def rows(self, positions: Sequence[int]) -> list[str]:
        """Return what the page shows of these items, as JSON each, in order."""
        marks = ",".join("?" * len(positions))
        wanted = [int(position) for position in positions]
        with self._lock:
            found = dict(
                self._database.execute(
                    f"SELECT seq, data FROM items WHERE seq IN ({marks})", wanted
                )
            )
        return [found[position] for position in wanted]

    def ids(self, positions: Sequence[int]) -> list[str]:
        """Return the ids of these items, in order."""
        wanted = {int(position) for position in positions}
        if not wanted:
            return []
        with self._lock:
            rows = self._database.execute(
                "SELECT seq, id FROM items WHERE seq BETWEEN ? AND ?", (min(wanted), max(wanted))
            )
            found = {seq: name for seq, name in rows if seq in wanted}
        return [found[int(position)] for position in positions]

    def position(self, kind: str, name: str) -> int | None:
        """Return the position of an item; None if there is none with this id."""
        row = self._one("seq", kind, name)
        return None if row is None else int(row)

    def item(self, kind: str, name: str) -> dict[str, Any] | None:
        """Return what the page shows of an item; None if there is none with this id."""
        row = self._one("data", kind, name)
        return None if row is None else json.loads(row)

    def details(self, kind: str, name: str) -> dict[str, Any]:
        """Return what the page shows of an opened item only."""
        row = self._one("details", kind, name)
        return {} if row is None else json.loads(row)

    def file(self, kind: str, name: str, role: str) -> str | None:
        """Return the path of an item's file relative to the store; None without such a file."""
        row = self._one("files", kind, name)
        path = None if row is None else json.loads(row).get(role)
        return path if isinstance(path, str) else None

    def set_state(self, kind: str, name: str, state: ItemState) -> None:
        """Take over what was decided on an item, if it exists in this index."""
        position = self.position(kind, name)
        if position is None:
            return
        verdict = state.verdict
        self._verdict[position] = 0 if verdict is None else _VERDICTS[verdict.action]
        latest = [one.decided_at.timestamp() for one in state.decisions]
        self._decided[position] = max(latest, default=0.0)
        self._flags["edited"][position] = state.edit is not None or state.crop is not None
        self._flags["named"][position] = state.name is not None
        self._flags["disputed"][position] = state.disputed
        self._edited.pop(position, None)
        if state.edit is not None:
            self._edited[position] = state.edit.caption.casefold()
        changed = False
        if verdict is not None and verdict.seen:
            changed = self._one("digest", kind, name) not in ("", verdict.seen)
        self._flags["changed"][position] = changed

    def clear_states(self) -> None:
        """Forget all decisions, before they are taken over again."""
        self._verdict[:] = 0
        self._decided[:] = 0
        self._edited.clear()
        for flags in self._flags.values():
            flags[:] = False

    def is_changed(self, position: int) -> bool:
        """Return whether an item's video is another one than was decided on."""
        return bool(self._flags["changed"][position])

    def _one(self, column: str, kind: str, name: str) -> Any:
        query = f"SELECT {column} FROM items WHERE kind = ? AND id = ?"
        with self._lock:
            row = self._database.execute(query, (kind, name)).fetchone()
        return None if row is None else row[0]

    def _load_characters(self) -> None:
        pairs = self._database.execute("SELECT seq, name FROM characters").fetchall()
        self._names: dict[str, int] = {}
        self._acting = np.array(
            [(seq, self._names.setdefault(name, len(self._names))) for seq, name in pairs], np.int64
        ).reshape(-1, 2)

    def _load_numbers(self, size: int) -> None:
        self._numbers: dict[str, NDArray[np.float64]] = {}
        for seq, name, value in self._database.execute("SELECT seq, name, value FROM numbers"):
            if name not in self._numbers:
                self._numbers[name] = np.full(size, np.nan)
            self._numbers[name][seq] = np.nan if value is None else value

    def _masks(self, query: ItemQuery, span: slice) -> dict[str, Mask]:
        masks: dict[str, Mask] = {}
        for facet, allowed in query.values.items():
            if facet == "character":
                masks[facet] = self._character_mask(allowed, span)
            elif facet == "decision":
                masks[facet] = np.zeros(span.stop - span.start, bool)
                for name in allowed:
                    masks[facet] |= self._decision_mask(name, span)
            elif facet in self._columns:
                masks[facet] = self._columns[facet].among(allowed, span)
        for name, (low, high) in query.ranges.items():
            values = self._numbers.get(name)
            if values is None:
                masks[f"number {name}"] = np.zeros(span.stop - span.start, bool)
            else:
                masks[f"number {name}"] = (values[span] >= low) & (values[span] <= high)
        if query.text.strip():
            masks["text"] = self._text_mask(query.text, span)
        return masks

    def _search(self, match: str) -> NDArray[np.int64]:
        """Return the positions of all items that a full-text query finds; the last ones are saved.

        A page and its facets ask for the same.
        """
        found = self._found.get(match)
        if found is None:
            query = "SELECT rowid FROM search WHERE search MATCH ?"
            with self._lock:
                rows = self._database.execute(query, (match,)).fetchall()
            found = np.fromiter((seq for (seq,) in rows), np.int64, len(rows))
            self._found[match] = found
            while len(self._found) > SAVED_SEARCHES:
                self._found.pop(next(iter(self._found)), None)
        return found

    def _decision_mask(self, name: str, span: slice) -> Mask:
        if name in self._flags:
            return self._flags[name][span]
        verdicts = ("undecided", "approved", "rejected", "kept")
        code = verdicts.index(name) if name in verdicts else -1
        mask: Mask = self._verdict[span] == code
        if name == "undecided":
            mask &= ~self._flags["edited"][span] & ~self._flags["named"][span]
        return mask

    def _character_mask(self, allowed: Iterable[str], span: slice) -> Mask:
        """Return the items in which all of these characters are."""
        mask = np.ones(span.stop - span.start, bool)
        for name in allowed:
            with_name = np.zeros(span.stop - span.start, bool)
            seqs = self._acting[self._acting[:, 1] == self._names.get(name, -1), 0]
            seqs = seqs[(seqs >= span.start) & (seqs < span.stop)]
            with_name[seqs - span.start] = True
            mask &= with_name
        return mask

    def _count_characters(self, mask: Mask, span: slice) -> dict[str, int]:
        seqs, codes = self._acting[:, 0], self._acting[:, 1]
        inside = (seqs >= span.start) & (seqs < span.stop)
        seqs, codes = seqs[inside] - span.start, codes[inside]
        counts = np.bincount(codes[mask[seqs]], minlength=len(self._names))
        return {name: int(counts[code]) for name, code in self._names.items() if counts[code]}

    def _text_mask(self, text: str, span: slice) -> Mask:
        """Return the items with words that start like all words of ``text``."""
        words = re.findall(r"\w+", text.casefold())
        mask = np.zeros(span.stop - span.start, bool)
        if not words:
            return mask
        found = self._search(" ".join(f'"{word}"*' for word in words))
        mask[found[(found >= span.start) & (found < span.stop)] - span.start] = True
        for position, caption in self._edited.items():
            if span.start <= position < span.stop and all(word in caption for word in words):
                mask[position - span.start] = True
        return mask
