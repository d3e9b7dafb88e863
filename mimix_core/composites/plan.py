"""Which cutout goes onto which background: seeded, balanced, opposite styles only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from mimix_core.library import Style
from mimix_core.splits import draw


@dataclass(frozen=True)
class Candidate:
    """A cutout that may be pasted."""

    cutout_id: str
    character: str
    style: Style


@dataclass(frozen=True)
class Background:
    """A clip that may be pasted onto."""

    clip_id: str
    style: Style


@dataclass(frozen=True)
class Pair:
    """One planned composite. ``rank``: its place in the plan."""

    cutout_id: str
    background_id: str
    rank: int


def plan(
    candidates: Sequence[Candidate], backgrounds: Sequence[Background], *, count: int, seed: int
) -> list[Pair]:
    """The first ``count`` pairs of the one plan that ``seed`` gives; fewer when none are left.

    No pair comes twice. Each step takes the direction (realistic into cartoon, or the reverse)
    used least so far, in it the character used least, of that one the cutout used least, and the
    next background in a seeded order. A plan for fewer is the beginning of a plan for more.
    """
    return [
        Pair(cutout, background, rank)
        for rank, (cutout, background) in enumerate(
            islice(_pairs(candidates, backgrounds, seed), count)
        )
    ]


def _pairs(
    candidates: Sequence[Candidate], backgrounds: Sequence[Background], seed: int
) -> Iterator[tuple[str, str]]:
    scenes = {
        style: sorted(
            (b.clip_id for b in backgrounds if b.style is style.opposite),
            key=lambda name: (draw(seed, "background", name), name),
        )
        for style in Style
    }
    # Ties go by a seeded order, so a name's place in the alphabet decides nothing.
    order = {c.cutout_id: (draw(seed, "cutout", c.cutout_id), c.cutout_id) for c in candidates}
    left = [c for c in candidates if scenes[c.style]]
    used: Counter[tuple[str, str]] = Counter()
    taken: dict[str, set[str]] = {c.cutout_id: set() for c in left}
    turn: Counter[Style] = Counter()
    while left:
        chosen = min(
            left,
            key=lambda c: (
                used["style", c.style],
                used["character", c.character],
                used["cutout", c.cutout_id],
                order[c.cutout_id],
            ),
        )
        mine, there = taken[chosen.cutout_id], scenes[chosen.style]
        while there[turn[chosen.style] % len(there)] in mine:
            turn[chosen.style] += 1
        background = there[turn[chosen.style] % len(there)]
        turn[chosen.style] += 1
        mine.add(background)
        used["style", chosen.style] += 1
        used["character", chosen.character] += 1
        used["cutout", chosen.cutout_id] += 1
        if len(mine) == len(there):
            left.remove(chosen)
        yield chosen.cutout_id, background
