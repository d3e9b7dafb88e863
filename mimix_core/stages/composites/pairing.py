"""Sample pairs of cutouts and background clips: seeded, balanced, without repetition."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from mimix_core.domain.library import Style
from mimix_core.domain.splits import hash_order

# A cutout rejected in so many backgrounds, and placed in none so far, is dropped.
MAX_REJECTIONS = 6


@dataclass(frozen=True, slots=True)
class CutoutCandidate:
    """A cutout that can be pasted."""

    cutout_id: str
    clip_id: str
    character: str
    style: Style


@dataclass(frozen=True, slots=True)
class BackgroundClip:
    """A clip that can be pasted onto. ``characters``: those its caption names."""

    clip_id: str
    style: Style
    characters: frozenset[str] = frozenset()


@dataclass(frozen=True)
class CompositePair:
    """A cutout and the background clip to paste it onto."""

    cutout_id: str
    background_id: str


class _LeastUsedQueue:
    """Names ordered by their number of uses, ties in a fixed order.

    A heap with lazy deletion of outdated entries, so a change costs O(log n).
    """

    def __init__(self, order: Mapping[str, object]) -> None:
        self._order = order
        self.uses = dict.fromkeys(order, 0)
        self._parked: dict[str, int] = {}
        self._heap: list[tuple[int, object, str]] = [(0, order[name], name) for name in order]
        heapq.heapify(self._heap)

    def __bool__(self) -> bool:
        return bool(self.uses)

    def least_used(self) -> str:
        """Return the least used name. Raises IndexError when the queue is empty."""
        while self.uses.get(self._heap[0][2]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][2]

    def add_uses(self, name: str, change: int) -> None:
        """Change the number of uses of a name; does nothing for a removed one."""
        if name in self.uses:
            self.uses[name] += change
            self._push(name)
        elif name in self._parked:
            self._parked[name] += change

    def park(self, name: str) -> None:
        """Take a name out until ``restore``; its number of uses stays."""
        self._parked[name] = self.uses.pop(name)

    def restore(self, name: str) -> None:
        """Take a parked name back; does nothing for any other."""
        if name in self._parked:
            self.uses[name] = self._parked.pop(name)
            self._push(name)

    @property
    def parked(self) -> tuple[str, ...]:
        return tuple(self._parked)

    def remove(self, name: str) -> None:
        self.uses.pop(name, None)
        self._parked.pop(name, None)

    def _push(self, name: str) -> None:
        heapq.heappush(self._heap, (self.uses[name], self._order[name], name))


@dataclass
class _RoundRobin:
    """Background clips of one style in a seeded order, used in turn."""

    names: Sequence[str]
    position: int = 0

    def next_allowed(self, is_allowed: Callable[[str], bool]) -> str | None:
        """Return the next name for which ``is_allowed``; None when there is none."""
        for step in range(len(self.names)):
            name = self.names[(self.position + step) % len(self.names)]
            if is_allowed(name):
                self.position += step + 1
                return name
        return None


@dataclass
class _Direction:
    """Cutouts of one style and the background clips they go into.

    ``used_backgrounds`` and ``rejections``: by cutout.
    """

    characters: _LeastUsedQueue
    cutouts: dict[str, _LeastUsedQueue]
    backgrounds: _RoundRobin
    used_backgrounds: dict[str, set[str]] = field(default_factory=dict)
    rejections: dict[str, int] = field(default_factory=dict)


class PairSampler:
    """Sample pairs in an order that depends only on the inputs and ``seed``.

    Each step selects the least used direction (realistic into cartoon, or the reverse), its least
    used character, that character's least used cutout, and the next background in a seeded order,
    among the cutouts that were used less often than others. So all are used once before any is used
    twice, and pairs for fewer composites are the beginning of those for more. No pair is repeated,
    and no character goes into a background whose caption names it.

    ``same_style``: cutouts go into backgrounds of their own style instead of the opposite one.
    ``held_out_pairs``: pairs of characters that never get into one scene.
    ``max_uses``: of each cutout, at most; None: any number.
    """

    def __init__(
        self,
        candidates: Iterable[CutoutCandidate],
        backgrounds: Iterable[BackgroundClip],
        *,
        seed: int,
        same_style: bool = False,
        held_out_pairs: Iterable[tuple[str, str]] = (),
        max_uses: int | None = None,
    ) -> None:
        self._held_out = {frozenset(pair) for pair in held_out_pairs}
        self._level, self._max_uses = 1, max_uses
        self._candidates = {c.cutout_id: c for c in candidates}
        self._backgrounds = {b.clip_id: b for b in backgrounds}
        self._directions = {style: self._direction(style, seed, same_style) for style in Style}
        self._styles = _LeastUsedQueue(
            {style.value: style.value for style in Style if self._directions[style].characters}
        )

    def _direction(self, style: Style, seed: int, same_style: bool) -> _Direction:
        target_style = style if same_style else style.opposite
        backgrounds = [b.clip_id for b in self._backgrounds.values() if b.style is target_style]
        candidates = [c for c in self._candidates.values() if c.style is style and backgrounds]
        # Ties are broken by a seeded order, so alphabetical order has no influence.
        by_character: dict[str, dict[str, object]] = {}
        for candidate in candidates:
            orders = by_character.setdefault(candidate.character, {})
            orders[candidate.cutout_id] = hash_order(seed, "cutout", candidate.cutout_id)

        def background_order(name: str) -> tuple[bytes, str]:
            return hash_order(seed, "background", name), name

        return _Direction(
            _LeastUsedQueue({name: hash_order(seed, "character", name) for name in by_character}),
            {name: _LeastUsedQueue(orders) for name, orders in by_character.items()},
            _RoundRobin(sorted(backgrounds, key=background_order)),
        )

    def next_pairs(self, count: int) -> list[CompositePair]:
        """Return the next pairs: at most ``count``, and none only when no more are left.

        There are fewer when each cutout was used equally often: pairs that are rejected are
        replaced before any cutout is used once more.
        """
        pairs: list[CompositePair] = []
        while not pairs and count and (self._styles or self._start_next_level()):
            while len(pairs) < count and self._styles:
                pair = self._next_pair()
                if pair is not None:
                    pairs.append(pair)
        return pairs

    def _start_next_level(self) -> bool:
        """Allow each cutout one more use; return False when no more are allowed or possible."""
        if self._level == self._max_uses or not self._styles.parked:
            return False
        self._level += 1
        for style in self._styles.parked:
            direction = self._directions[Style(style)]
            for character in direction.characters.parked:
                for cutout in direction.cutouts[character].parked:
                    direction.cutouts[character].restore(cutout)
                direction.characters.restore(character)
            self._styles.restore(style)
        return True

    def _next_pair(self) -> CompositePair | None:
        """Return the next pair; None when the least used cutout has no background left."""
        style = Style(self._styles.least_used())
        direction = self._directions[style]
        cutout = direction.cutouts[direction.characters.least_used()].least_used()
        candidate = self._candidates[cutout]
        used = direction.used_backgrounds.setdefault(cutout, set())
        background = direction.backgrounds.next_allowed(
            lambda name: (
                name not in used
                and name != candidate.clip_id
                and self._may_meet(candidate.character, self._backgrounds[name].characters)
            )
        )
        if background is None:
            self._remove(candidate)
            return None
        used.add(background)
        self._add_uses(candidate, 1)
        self._park_used(candidate)
        return CompositePair(cutout, background)

    def _may_meet(self, character: str, others: frozenset[str]) -> bool:
        return character not in others and not any(
            frozenset((character, other)) in self._held_out for other in others
        )

    def reject_pair(self, pair: CompositePair) -> None:
        """Report that a pair could not be placed: it does not count as a use of anything."""
        candidate = self._candidates[pair.cutout_id]
        direction = self._directions[candidate.style]
        self._add_uses(candidate, -1)
        direction.cutouts[candidate.character].restore(candidate.cutout_id)
        direction.characters.restore(candidate.character)
        self._styles.restore(candidate.style.value)
        rejections = direction.rejections.get(pair.cutout_id, 0) + 1
        direction.rejections[pair.cutout_id] = rejections
        tried = len(direction.used_backgrounds[pair.cutout_id])
        if rejections >= MAX_REJECTIONS and rejections == tried:
            self._remove(candidate)

    def _add_uses(self, candidate: CutoutCandidate, change: int) -> None:
        direction = self._directions[candidate.style]
        direction.cutouts[candidate.character].add_uses(candidate.cutout_id, change)
        direction.characters.add_uses(candidate.character, change)
        self._styles.add_uses(candidate.style.value, change)

    def _remove(self, candidate: CutoutCandidate) -> None:
        direction = self._directions[candidate.style]
        direction.cutouts[candidate.character].remove(candidate.cutout_id)
        self._take_out_empty(candidate)

    def _park_used(self, candidate: CutoutCandidate) -> None:
        """Take a cutout out of this level when it has its uses."""
        cutouts = self._directions[candidate.style].cutouts[candidate.character]
        if cutouts.uses[candidate.cutout_id] >= self._level:
            cutouts.park(candidate.cutout_id)
            self._take_out_empty(candidate)

    def _take_out_empty(self, candidate: CutoutCandidate) -> None:
        """Take out a character without cutouts and a direction without characters.

        They are parked as long as any of theirs is, so that the next level takes them back.
        """
        direction = self._directions[candidate.style]
        for queue, inner, name in (
            (direction.characters, direction.cutouts[candidate.character], candidate.character),
            (self._styles, direction.characters, candidate.style.value),
        ):
            if inner:
                continue
            if not inner.parked:
                queue.remove(name)
            elif name in queue.uses:
                queue.park(name)


def same_style_count(count: int, share: Fraction) -> int:
    """Compute how many of the first ``count`` composites have their background's style."""
    return int(count * share)


def is_same_style_rank(rank: int, share: Fraction) -> bool:
    """Return whether the composite at ``rank`` has its background's style.

    Evenly spread, and exact for the first ``n`` ranks of any ``n``.
    """
    return same_style_count(rank + 1, share) > same_style_count(rank, share)
