"""Which episode is trained on, and how many composites make an exact share.

Splits are decided by episode and before composites are made, since both sources of a composite
must be trained on: whoever needs a split computes it here, from the same episodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from fractions import Fraction

from mimix_core.settings import DatasetSettings
from mimix_core.tables import Row


class Split(StrEnum):
    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def draw(seed: int, *names: str) -> Fraction:
    """A number in [0, 1) that depends on seed and names alone: the same on every machine."""
    text = "\0".join([str(seed), *names])
    return Fraction(int(hashlib.sha256(text.encode()).hexdigest(), 16), 2**256)


def episodes_of(clips: Iterable[Row], captioned: Collection[str]) -> dict[str, set[str]]:
    """Show -> ids of its episodes that have at least one usable clip whose id is ``captioned``."""
    episodes: dict[str, set[str]] = {}
    for clip in clips:
        if clip["clip_id"] in captioned:
            episodes.setdefault(clip["show"], set()).add(clip["episode_id"])
    return episodes


def assign_splits(
    episodes: Mapping[str, Collection[str]], settings: DatasetSettings
) -> dict[str, Split]:
    """Episode id -> split, for the episodes of each show.

    Each episode draws its split by itself, so a new episode does not reshuffle the others. Two
    guarantees come on top, and may move one episode each: a show with two episodes or more has
    one in train, and one in val when ``val_share`` is positive. A single episode is in train.
    """
    splits: dict[str, Split] = {}
    for show, ids in episodes.items():
        draws = sorted((draw(settings.seed, "split", show, episode), episode) for episode in ids)
        own = {episode: _drawn(number, settings) for number, episode in draws}
        order = [episode for _, episode in draws]
        if Split.TRAIN not in own.values():
            own[order[-1]] = Split.TRAIN
        if settings.val_share > 0 and len(order) > 1 and Split.VAL not in own.values():
            trained = [episode for episode in order if own[episode] is Split.TRAIN]
            spare = trained if len(trained) > 1 else [e for e in order if e not in trained]
            own[spare[0]] = Split.VAL
        splits.update(own)
    return splits


def _drawn(number: Fraction, settings: DatasetSettings) -> Split:
    if number < settings.test_share:
        return Split.TEST
    if number < Fraction(settings.test_share) + Fraction(settings.val_share):
        return Split.VAL
    return Split.TRAIN


def composites_for(originals: int, ratio: Fraction) -> int:
    """How many composites beside ``originals`` come nearest to ``ratio`` of the whole.

    ``ratio``: composites / (originals + composites), at least 0 and below 1. Of two that are
    equally near, the lower; one more or one less is never nearer.
    """
    if not 0 <= ratio < 1:
        raise ValueError(f"the share of composites must be in [0, 1), not {ratio}")
    if originals == 0:
        return 0
    low = int(originals * ratio / (1 - ratio))

    def error(count: int) -> Fraction:
        return abs(Fraction(count, originals + count) - ratio)

    return min((low, low + 1), key=error)
