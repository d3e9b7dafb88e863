"""Decide from the figures of a video which asked-for characters are there, and as whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np


class Identity(StrEnum):
    """Who the figure is that an asked-for character got.

    ``right``: the character. ``swapped``: clearly another one of the library. ``mixed``: a figure
    that is neither clearly this one nor another. ``absent``: no figure is left for it.
    """

    RIGHT = "right"
    SWAPPED = "swapped"
    MIXED = "mixed"
    ABSENT = "absent"


@dataclass(frozen=True)
class FigureLook:
    """How far a figure is from each character's exemplars, and the limits it is held against.

    ``limits``: the largest distance at which a figure is the character. ``margins``: by how much
    any other character must be farther away.
    """

    distances: Mapping[str, float]
    limits: Mapping[str, float]
    margins: Mapping[str, float]

    @property
    def nearest(self) -> str:
        """The character that it looks most like."""
        return min(self.distances, key=lambda name: (self.distances[name], name))

    def nearest_but(self, name: str) -> str:
        """Return the character that it looks most like apart from one; empty without others."""
        others = [(value, other) for other, value in self.distances.items() if other != name]
        return min(others)[1] if others else ""

    @property
    def name(self) -> str:
        """The character that it clearly is; empty if there is none."""
        nearest = self.nearest
        if self.distances[nearest] > self.limits[nearest]:
            return ""
        rival = self.nearest_but(nearest)
        lead = self.distances[rival] - self.distances[nearest] if rival else np.inf
        return nearest if lead >= self.margins[nearest] else ""


@dataclass(frozen=True)
class CharacterVerdict:
    """What became of one asked-for character.

    ``figure``: number of its figure; None if absent. ``looks_like``: the other
    character whose looks it has, for swapped and mixed. ``count``: figures that clearly are it.
    """

    identity: Identity
    figure: int | None
    looks_like: str
    count: int


def judge_characters(
    asked: Sequence[str], figures: Sequence[FigureLook]
) -> dict[str, CharacterVerdict]:
    """Give each asked-for character its figure: first those that clearly are it.

    The characters that are left get the figures that are left, so that the sum of their
    distances is smallest.
    """
    names = [figure.name for figure in figures]
    verdicts: dict[str, CharacterVerdict] = {}
    left = set(range(len(figures)))
    for name in asked:
        own = [number for number, found in enumerate(names) if found == name]
        if own:
            best = min(own, key=lambda number: (figures[number].distances[name], number))
            left.discard(best)
            verdicts[name] = CharacterVerdict(Identity.RIGHT, best, "", len(own))
    missing = [name for name in asked if name not in verdicts]
    for name, number in _pair_up(missing, figures, sorted(left)).items():
        figure = figures[number]
        swapped = names[number] not in ("", name)
        verdicts[name] = CharacterVerdict(
            Identity.SWAPPED if swapped else Identity.MIXED,
            number,
            names[number] if swapped else figure.nearest_but(name),
            0,
        )
    absent = CharacterVerdict(Identity.ABSENT, None, "", 0)
    return {name: verdicts.get(name, absent) for name in asked}


def _pair_up(
    names: Sequence[str], figures: Sequence[FigureLook], left: Sequence[int]
) -> dict[str, int]:
    """Pair characters with figures by the smallest sum of distances."""
    if not names or not left:
        return {}
    from scipy.optimize import linear_sum_assignment

    costs = np.array([[figures[number].distances[name] for number in left] for name in names])
    rows, columns = linear_sum_assignment(costs)
    return {names[row]: left[column] for row, column in zip(rows, columns, strict=True)}
