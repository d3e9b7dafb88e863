"""Which cutout goes onto which background: seeded, balanced, no pair twice."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from mimix_core.domain.library import Style
from mimix_core.domain.splits import hash_uniform

# A cutout that found no place in so many scenes, and in none so far, is not tried again.
MOST_REFUSALS = 6


@dataclass(frozen=True)
class Candidate:
    """A cutout that may be pasted."""

    cutout_id: str
    clip_id: str
    character: str
    style: Style


@dataclass(frozen=True)
class Background:
    """A clip that may be pasted onto. ``names``: who is in it already."""

    clip_id: str
    style: Style
    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Pair:
    """One planned composite."""

    cutout_id: str
    background_id: str


class _Least:
    """Names by how often they were used: the least used first, ties in a fixed order.

    A heap whose outdated entries are thrown away when they come up, so that a change costs
    O(log n).
    """

    def __init__(self, order: Mapping[str, object]) -> None:
        self._order = order
        self.used = dict.fromkeys(order, 0)
        self._heap: list[tuple[int, object, str]] = [(0, order[name], name) for name in order]
        heapq.heapify(self._heap)

    def __bool__(self) -> bool:
        return bool(self.used)

    def first(self) -> str:
        """The name used least. Raises IndexError when there is none."""
        while self.used.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][2]

    def count(self, name: str, by: int) -> None:
        """Count uses of a name, or take them back; one that was dropped stays so."""
        if name in self.used:
            self.used[name] += by
            heapq.heappush(self._heap, (self.used[name], self._order[name], name))

    def drop(self, name: str) -> None:
        self.used.pop(name, None)


@dataclass
class _Turns:
    """Backgrounds of one style in a seeded order; each has its turn."""

    names: Sequence[str]
    next: int = 0

    def take(self, free: Callable[[str], bool]) -> str | None:
        """The next one that is ``free``; None when none is."""
        for step in range(len(self.names)):
            name = self.names[(self.next + step) % len(self.names)]
            if free(name):
                self.next += step + 1
                return name
        return None


@dataclass
class _Direction:
    """Cutouts of one style and the scenes that they go into."""

    characters: _Least
    cutouts: dict[str, _Least]
    scenes: _Turns
    taken: dict[str, set[str]] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)


class Plan:
    """The one order of pairs that ``seed`` gives.

    Each step takes the direction (realistic into cartoon, or the reverse) used least so far, in it
    the character used least, of that one the cutout used least, and the next background in a
    seeded order. No pair comes twice, and no character into a scene that has it already.

    ``same``: cutouts go into scenes of their own style instead of the opposite one.
    """

    def __init__(
        self,
        candidates: Iterable[Candidate],
        backgrounds: Iterable[Background],
        *,
        seed: int,
        same: bool = False,
    ) -> None:
        self._candidates = {c.cutout_id: c for c in candidates}
        self._backgrounds = {b.clip_id: b for b in backgrounds}
        self._directions = {style: self._direction(style, seed, same) for style in Style}
        self._turn = _Least(
            {style.value: style.value for style in Style if self._directions[style].characters}
        )

    def _direction(self, style: Style, seed: int, same: bool) -> _Direction:
        there = style if same else style.opposite
        scenes = [b.clip_id for b in self._backgrounds.values() if b.style is there]
        mine = [c for c in self._candidates.values() if c.style is style and scenes]
        # Ties go by a seeded order, so that a name's place in the alphabet decides nothing.
        by_character: dict[str, dict[str, object]] = {}
        for one in mine:
            orders = by_character.setdefault(one.character, {})
            orders[one.cutout_id] = hash_uniform(seed, "cutout", one.cutout_id)
        return _Direction(
            _Least({name: hash_uniform(seed, "character", name) for name in by_character}),
            {name: _Least(orders) for name, orders in by_character.items()},
            _Turns(sorted(scenes, key=lambda name: (hash_uniform(seed, "background", name), name))),
        )

    def take(self, count: int) -> list[Pair]:
        """The next ``count`` pairs; fewer when no more are left."""
        pairs: list[Pair] = []
        while len(pairs) < count and self._turn:
            pair = self._next()
            if pair is not None:
                pairs.append(pair)
        return pairs

    def _next(self) -> Pair | None:
        """The next pair; None when the cutout whose turn it is has no scene left."""
        style = Style(self._turn.first())
        direction = self._directions[style]
        cutout = direction.cutouts[direction.characters.first()].first()
        candidate = self._candidates[cutout]
        taken = direction.taken.setdefault(cutout, set())
        background = direction.scenes.take(
            lambda name: (
                name not in taken
                and name != candidate.clip_id
                and candidate.character not in self._backgrounds[name].names
            )
        )
        if background is None:
            self._drop(candidate)
            return None
        taken.add(background)
        self._count(candidate, 1)
        return Pair(cutout, background)

    def refuse(self, pair: Pair) -> None:
        """Say that a pair could not be placed: it does not count as a use of anything."""
        candidate = self._candidates[pair.cutout_id]
        direction = self._directions[candidate.style]
        self._count(candidate, -1)
        refused = direction.refused.get(pair.cutout_id, 0) + 1
        direction.refused[pair.cutout_id] = refused
        if refused >= MOST_REFUSALS and refused == len(direction.taken[pair.cutout_id]):
            self._drop(candidate)

    def _count(self, candidate: Candidate, by: int) -> None:
        direction = self._directions[candidate.style]
        direction.cutouts[candidate.character].count(candidate.cutout_id, by)
        direction.characters.count(candidate.character, by)
        self._turn.count(candidate.style.value, by)

    def _drop(self, candidate: Candidate) -> None:
        direction = self._directions[candidate.style]
        direction.cutouts[candidate.character].drop(candidate.cutout_id)
        if not direction.cutouts[candidate.character]:
            direction.characters.drop(candidate.character)
        if not direction.characters:
            self._turn.drop(candidate.style.value)


def placebos(count: int, share: Fraction) -> int:
    """How many of the first ``count`` composites are of one style with their scene."""
    return int(count * share)


def is_placebo(rank: int, share: Fraction) -> bool:
    """Whether the composite at ``rank`` is: spread evenly, exact for any first ``n`` of them."""
    return placebos(rank + 1, share) > placebos(rank, share)
