"""Choose the samples that are trained on again while a character is added to an adapter."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fractions import Fraction

from mimix_core.domain.splits import hash_uniform


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
        selected.update(_stratified_order(pool, seed)[:count])
    return frozenset(selected)


def _stratified_order(samples: Iterable[ReplaySample], seed: int) -> list[str]:
    """Order samples so that any first ones are as equally distributed as possible; return ids."""
    strata: dict[tuple[str, tuple[str, ...]], list[tuple[Fraction, str]]] = {}
    for sample in samples:
        stratum = (sample.show, tuple(sorted(set(sample.characters))))
        position = hash_uniform(seed, "replay", sample.sample_id)
        strata.setdefault(stratum, []).append((position, sample.sample_id))
    for members in strata.values():
        members.sort(reverse=True)
    shows: Counter[str] = Counter()
    characters: Counter[str] = Counter()

    def rarity(stratum: tuple[str, tuple[str, ...]]) -> tuple[int, float, Fraction, str]:
        """Return a key that is lower the fewer samples show and characters have."""
        show, names = stratum
        fewest = min((characters[name] for name in names), default=math.inf)
        return (shows[show], fewest, *strata[stratum][-1])

    order = []
    while strata:
        rarest = min(strata, key=rarity)
        order.append(strata[rarest].pop()[1])
        if not strata[rarest]:
            del strata[rarest]
        show, names = rarest
        shows[show] += 1
        characters.update(names)
    return order
