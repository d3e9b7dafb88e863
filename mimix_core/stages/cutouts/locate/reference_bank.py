"""Measure how well reference images tell the characters apart, and propose thresholds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

WANTED_REFERENCES = 3
"""Number of reference images per character that are advised: one view is not a character."""


@dataclass(frozen=True)
class ReferenceDistances:
    """Distances (or similarities) between reference images of one and of different characters.

    ``counts``: number of references by character. ``within``: between two references of the same
    character. ``between``: of two different ones.
    """

    counts: Mapping[str, int]
    within: Sequence[float]
    between: Sequence[float]
    is_similarity: bool = False

    def too_few(self) -> list[str]:
        """Return the characters with fewer references than advised."""
        return [name for name, count in self.counts.items() if count < WANTED_REFERENCES]

    def proposed_threshold(self) -> float | None:
        """Return the middle between the worst pair of one character and the closest of two.

        None if one of the two is unknown, or if they overlap: no threshold separates them.
        """
        if not self.within or not self.between:
            return None
        if self.is_similarity:
            own, other = min(self.within), max(self.between)
            return round((own + other) / 2, 2) if own > other else None
        own, other = max(self.within), min(self.between)
        return round((own + other) / 2, 2) if own < other else None

    def describe(self) -> str:
        """Describe the distances in one sentence."""
        parts = []
        for values, what in ((self.within, "one character"), (self.between, "different ones")):
            if values:
                parts.append(f"{min(values):.2f} to {max(values):.2f} between images of {what}")
        kind = "similarity" if self.is_similarity else "distance"
        return f"{kind} {', '.join(parts)}" if parts else f"no two images to compare the {kind} of"


def measure_references(
    references: Mapping[str, Any],
    compare: Callable[[Any, Any], float],
    *,
    similarity: bool = False,
) -> ReferenceDistances:
    """Compare all pairs; ``references``: the descriptors of each character's images."""
    within = [
        compare(one, two)
        for descriptors in references.values()
        for one, two in combinations(descriptors, 2)
    ]
    between = [
        compare(one, two)
        for first, second in combinations(references, 2)
        for one in references[first]
        for two in references[second]
    ]
    counts = {name: len(descriptors) for name, descriptors in references.items()}
    return ReferenceDistances(counts, within, between, similarity)
