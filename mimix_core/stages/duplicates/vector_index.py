"""An inverted file of vectors: find those with a high product without comparing with all.

The vectors are divided into lists by pivots, each a sample of them: a vector belongs to the list of
a pivot near it, and a search visits the lists of the pivots nearest to the query. Pivots are
divided in the same way, so that neither adding nor searching compares with all of them (Sivic and
Zisserman, "Video Google", 2003; Jégou et al., "Product quantization for nearest neighbor search",
2011, section IV). All products are of integers and exact as float32: the result is the same on
every machine, and depends on the vectors added so far only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LIST_VECTORS = 256
"""Vectors in a list, on average, when pivots are chosen; then up to twice as many."""

LISTS_VISITED = 32
"""Lists that a search visits, the nearest ones."""

MAX_VISITED = 16 * LIST_VECTORS
"""Vectors of a list that a search visits, the first ones: equal vectors are all in one list."""

_BRANCHES_VISITED = 8
"""Groups of pivots among which a search looks for the nearest lists."""

_PIVOT_LENGTH = 127
_MAX_SCORE = 2**18
"""Products of a vector with a pivot stay below, for vectors of up to ``_MAX_VALUES`` values."""

_MAX_VALUES = 128
_ROWS = 8192
"""Vectors whose lists are looked for at a time."""

_DIVIDED = 2**18
"""Vectors that are divided by new pivots at a time: then each list is appended to a few times."""


@dataclass(frozen=True)
class IndexHits:
    """Vectors found for queries: the row of the query, the owner of the vector, their product."""

    queries: NDArray[np.int64]
    owners: NDArray[np.int64]
    products: NDArray[np.float32]


class VectorIndex:
    """Search among vectors int8 [vectors, values], each with the number of its owner."""

    def __init__(self, values: int) -> None:
        if values > _MAX_VALUES:
            raise ValueError(f"vectors have up to {_MAX_VALUES} values, not {values}")
        self._values = values
        self._count = 0
        self._pivoted = 0
        # One list with all vectors, until there are enough of them for more.
        self._branches = np.zeros((1, values), np.float32)
        self._pivots = [np.zeros((1, values), np.float32)]
        self._lists = [_VectorList(values)]

    def __len__(self) -> int:
        return self._count

    def add(self, owners: NDArray[np.int64], vectors: NDArray[np.int8]) -> None:
        """Add vectors [vectors, values] of these owners [vectors]."""
        self._insert(owners, vectors)
        self._count += len(vectors)
        if self._count > max(2 * self._pivoted, LIST_VECTORS):
            self._choose_pivots()

    def search(self, queries: NDArray[np.int8], min_product: float) -> Iterator[IndexHits]:
        """Yield the vectors of the lists visited whose product with a query is high enough.

        ``queries``: [queries, values].
        """
        rows, lists = self._visited_lists(queries)
        values = queries.astype(np.float32)
        # Many short lists are visited, and most have no hit: what is done for each of them counts.
        for number, members in _group(lists):
            vectors, owners = self._lists[number].first(MAX_VISITED)
            asking = rows[members]
            products = values[asking] @ vectors.astype(np.float32).T
            if products.size and products.max() >= min_product:
                hits = np.flatnonzero(products >= min_product)
                found, columns = np.divmod(hits, len(vectors))
                own = owners[columns].astype(np.int64)
                yield IndexHits(asking[found], own, products.reshape(-1)[hits])

    def _insert(self, owners: NDArray[np.int64], vectors: NDArray[np.int8]) -> None:
        lists = np.zeros(len(vectors), np.int64)
        for start in range(0, len(vectors), _ROWS):
            some = vectors[start : start + _ROWS].astype(np.float32)
            lists[start : start + _ROWS] = self._nearest_lists(some, lists=1, branches=1)[:, 0]
        for number, members in _group(lists):
            self._lists[number].append(vectors[members], owners[members])

    def _visited_lists(
        self, queries: NDArray[np.int8]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return rows of ``queries`` and the lists that each visits, as pairs."""
        rows, lists = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for start in range(0, len(queries), _ROWS):
            some = queries[start : start + _ROWS].astype(np.float32)
            nearest = self._nearest_lists(some, LISTS_VISITED, _BRANCHES_VISITED)
            found, column = np.nonzero(nearest >= 0)
            rows.append(found + start)
            lists.append(nearest[found, column])
        return np.concatenate(rows), np.concatenate(lists)

    def _nearest_lists(
        self, vectors: NDArray[np.float32], lists: int, branches: int
    ) -> NDArray[np.int64]:
        """Return the numbers of the nearest lists [vectors, lists]; -1 where there are fewer."""
        nearest = _highest(vectors @ self._branches.T, branches)
        count, slots = nearest.shape
        scores = np.full((count, slots, lists), -_MAX_SCORE, np.float32)
        numbers = np.full((count, slots, lists), -1, np.int64)
        first = np.cumsum([0, *(len(pivots) for pivots in self._pivots)])
        for branch, members in _group(nearest.reshape(-1)):
            pivots = self._pivots[branch]
            rows, slot = np.divmod(members, slots)
            products = vectors[rows] @ pivots.T
            best = _highest(products, lists)
            scores[rows, slot, : best.shape[1]] = np.take_along_axis(products, best, axis=1)
            numbers[rows, slot, : best.shape[1]] = first[branch] + best
        best = _highest(scores.reshape(count, -1), lists)
        return np.take_along_axis(numbers.reshape(count, -1), best, axis=1)

    def _choose_pivots(self) -> None:
        """Choose pivots among the vectors added, and divide these by them."""
        old = self._lists
        pivots = _unit_pivots(self._sample(max(1, self._count // LIST_VECTORS)))
        self._branches = pivots[:: math.isqrt(len(pivots))]
        nearest = _highest(pivots @ self._branches.T, 1)[:, 0]
        self._pivots = [pivots[nearest == branch] for branch in range(len(self._branches))]
        self._lists = [_VectorList(self._values) for _ in pivots]
        self._pivoted = self._count
        while old:
            # As many as are divided at a time, and no more: memory is that of one copy.
            parts: list[tuple[NDArray[np.int8], NDArray[np.int32]]] = []
            count = 0
            while old and count < _DIVIDED:
                parts.append(old.pop().first(None))
                count += len(parts[-1][0])
            owners = np.concatenate([owners for _, owners in parts]).astype(np.int64)
            self._insert(owners, np.concatenate([vectors for vectors, _ in parts]))
        # In the order in which they were added: a search may visit the first ones only.
        for one in self._lists:
            one.sort()

    def _sample(self, count: int) -> NDArray[np.int8]:
        """Return ``count`` of the vectors, evenly spaced over all lists."""
        wanted = (2 * np.arange(count) + 1) * self._count // (2 * count)
        ends = np.cumsum([len(one) for one in self._lists])
        parts = []
        for number, members in _group(np.searchsorted(ends, wanted, side="right")):
            vectors, _ = self._lists[number].first(None)
            parts.append(vectors[wanted[members] - (ends[number] - len(vectors))])
        return np.concatenate(parts)


class _VectorList:
    """Vectors and their owners, in arrays that grow by a quarter."""

    def __init__(self, values: int) -> None:
        self._size = 0
        self._vectors = np.zeros((0, values), np.int8)
        self._owners = np.zeros(0, np.int32)

    def __len__(self) -> int:
        return self._size

    def append(self, vectors: NDArray[np.int8], owners: NDArray[np.int64]) -> None:
        size = self._size + len(vectors)
        if size > len(self._vectors):
            grown = np.empty((size + size // 4, self._vectors.shape[1]), np.int8)
            grown[: self._size] = self._vectors[: self._size]
            own = np.empty(len(grown), np.int32)
            own[: self._size] = self._owners[: self._size]
            self._vectors, self._owners = grown, own
        self._vectors[self._size : size] = vectors
        self._owners[self._size : size] = owners
        self._size = size

    def first(self, count: int | None) -> tuple[NDArray[np.int8], NDArray[np.int32]]:
        stop = self._size if count is None else min(count, self._size)
        return self._vectors[:stop], self._owners[:stop]

    def sort(self) -> None:
        """Sort by owner."""
        order = np.argsort(self._owners[: self._size], kind="stable")
        self._vectors[: self._size] = self._vectors[order]
        self._owners[: self._size] = self._owners[order]


def _unit_pivots(vectors: NDArray[np.int8]) -> NDArray[np.float32]:
    """Scale vectors to about one length, rounded to integers, so that products rank by angle."""
    length = np.sqrt((vectors.astype(np.int64) ** 2).sum(axis=1, keepdims=True).astype(np.float64))
    scaled: NDArray[np.float32] = np.rint(vectors * (_PIVOT_LENGTH / np.maximum(length, 1))).astype(
        np.float32
    )
    return scaled


def _highest(scores: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """Return the columns of the ``count`` highest scores of each row; of equal ones, the first.

    Scores are integers from -``_MAX_SCORE`` to ``_MAX_SCORE``.
    """
    columns = scores.shape[1]
    if columns <= count:
        return np.broadcast_to(np.arange(columns), scores.shape)
    if count == 1:
        nearest: NDArray[np.int64] = scores.argmax(axis=1, keepdims=True)
        return nearest
    # Keys without ties, which hold their columns: which of equal elements a partition returns
    # differs between machines. Short integers are partitioned several times faster.
    short = columns * (_MAX_SCORE + 1) < 2**31
    keys: NDArray[np.signedinteger] = scores.astype(np.int32 if short else np.int64)
    keys *= -columns
    keys += np.arange(columns, dtype=keys.dtype)
    highest: NDArray[np.int64] = np.partition(keys, count - 1, axis=1)[:, :count] % columns
    return highest.astype(np.int64)


def _group(numbers: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Yield each number that occurs, ascending, and the positions [..] where it does."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-2))
    for start, stop in pairwise([*starts, len(numbers)]):
        yield int(ordered[start]), order[start:stop]
