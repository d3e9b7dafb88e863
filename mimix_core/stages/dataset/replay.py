"""Choose the samples that are trained on again while a character is added to an adapter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction
from heapq import heapify, heappop, heapreplace

from mimix_core.domain.splits import hash_uniform

Stratum = tuple[str, tuple[str, ...]]
"""A show and the characters of a sample."""

Rarity = tuple[float, float, str]


@dataclass(frozen=True)
class ReplaySample:
    """A sample of the training split; ``composite``: whether a character was pasted into it."""

    sample_id: str
    show: str
    characters: tuple[str, ...]
    composite: bool


def select_replay(
    samples: Iterable[ReplaySample], new_characters: Collection[str], share: Fraction, seed: int
) -> frozenset[str]:
    """Select the ids of samples without a new character that are trained on again.

    ``samples``: of the training split. Of originals and of composites without a new character the
    number nearest to ``share`` is selected (the lower one of two), so their ratio stays.
    Stratified: the next sample is always of the show, then of the character, that has the fewest so
    far; between equals the seed decides. The selection of a smaller share is part of that of a
    larger one. Raises ValueError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of replayed samples must be in [0, 1], not {share}")
    old = [sample for sample in samples if not set(sample.characters) & set(new_characters)]
    selected: set[str] = set()
    for composite in (False, True):
        pool = [sample for sample in old if sample.composite is composite]
        # Of two numbers that are equally near the lower one, as for composites (domain.splits).
        count = math.ceil(len(pool) * share - Fraction(1, 2))
        selected.update(_select_stratified(pool, count, seed))
    return frozenset(selected)


def _select_stratified(samples: Iterable[ReplaySample], count: int, seed: int) -> list[str]:
    """Select samples so that any first ones are as equally distributed as possible; return ids."""
    strata: dict[Stratum, list[tuple[float, str]]] = {}
    for sample in samples:
        stratum = (sample.show, tuple(sorted(set(sample.characters))))
        # Rounded: comparing fractions of 256 bits would take most of the time.
        position = float(hash_uniform(seed, "replay", sample.sample_id))
        strata.setdefault(stratum, []).append((position, sample.sample_id))
    for members in strata.values():
        members.sort(reverse=True)
    shows: Counter[str] = Counter()
    characters: Counter[str] = Counter()

    def rarity(stratum: Stratum) -> Rarity:
        """Return a key that is lower the fewer samples a show's characters have; it only rises."""
        fewest = min((characters[name] for name in stratum[1]), default=math.inf)
        return (fewest, *strata[stratum][-1])

    heaps: dict[str, list[tuple[Rarity, Stratum]]] = {}
    for stratum in strata:
        heaps.setdefault(stratum[0], []).append((rarity(stratum), stratum))
    for heap in heaps.values():
        heapify(heap)

    def rarest_of(show: str) -> tuple[Rarity, Stratum]:
        """Return a show's rarest stratum, after updating keys that have risen since."""
        heap = heaps[show]
        while (current := rarity(heap[0][1])) != heap[0][0]:
            heapreplace(heap, (current, heap[0][1]))
        return heap[0]

    selected: list[str] = []
    while len(selected) < count:
        fewest = min(shows[show] for show in heaps)
        _, stratum = min(rarest_of(show) for show in heaps if shows[show] == fewest)
        show, names = stratum
        selected.append(strata[stratum].pop()[1])
        shows[show] += 1
        characters.update(names)
        if not strata[stratum]:
            heappop(heaps[show])
            if not heaps[show]:
                del heaps[show]
    return selected
