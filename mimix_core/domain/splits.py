"""Split episodes into train, val and test, and compute how many composites make a ratio.

Splits are decided by episode and before composites are made, because both sources of a composite
must be in the training split. Every stage that needs a split computes it here from the same
episodes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from fractions import Fraction


class Split(StrEnum):
    """The part of the dataset that an episode belongs to."""

    TRAIN = "train"
    VAL = "val"
    TEST = "test"


def hash_uniform(seed: int, *names: str) -> Fraction:
    """Hash a seed and names to a number in [0, 1), the same on every machine."""
    return Fraction(int.from_bytes(hash_order(seed, *names), "big"), 2**256)


def hash_order(seed: int, *names: str) -> bytes:
    """Hash a seed and names to a key that sorts as ``hash_uniform`` does, in less memory."""
    return hashlib.sha256("\0".join([str(seed), *names]).encode()).digest()


def captioned_episodes(
    clips: Iterable[tuple[str, str, str]], captioned_clip_ids: Collection[str]
) -> dict[str, set[str]]:
    """Map each show to the ids of its episodes that have at least one captioned clip.

    ``clips``: the ids of each clip, of its show and of its episode.
    """
    episodes: dict[str, set[str]] = {}
    for clip_id, show, episode_id in clips:
        if clip_id in captioned_clip_ids:
            episodes.setdefault(show, set()).add(episode_id)
    return episodes


def assign_splits(
    episodes: Mapping[str, Collection[str]],
    *,
    seed: int,
    val_share: float,
    test_share: float,
    groups: Mapping[str, str] | None = None,
) -> dict[str, Split]:
    """Assign a split to each episode id of ``episodes`` (show -> episode ids).

    Each episode is hashed independently, so a new episode does not reshuffle the others. Two
    guarantees come on top, and may move one episode each: a show with two episodes or more has
    one in train, and one in val when ``val_share`` is positive. A single episode is in train.
    ``groups``: the group of some episodes; a group is split like a single episode of its name.
    """
    groups = groups or {}
    splits: dict[str, Split] = {}
    for show, episode_ids in episodes.items():
        names = {groups.get(episode, episode) for episode in episode_ids}
        ranked = sorted((hash_uniform(seed, "split", show, name), name) for name in names)
        show_splits = {
            episode: _split_at(position, val_share, test_share) for position, episode in ranked
        }
        order = [episode for _, episode in ranked]
        if Split.TRAIN not in show_splits.values():
            show_splits[order[-1]] = Split.TRAIN
        if val_share > 0 and len(order) > 1 and Split.VAL not in show_splits.values():
            train = [episode for episode in order if show_splits[episode] is Split.TRAIN]
            movable = train if len(train) > 1 else [e for e in order if e not in train]
            show_splits[movable[0]] = Split.VAL
        splits |= {episode: show_splits[groups.get(episode, episode)] for episode in episode_ids}
    return splits


def _split_at(position: Fraction, val_share: float, test_share: float) -> Split:
    if position < test_share:
        return Split.TEST
    if position < Fraction(test_share) + Fraction(val_share):
        return Split.VAL
    return Split.TRAIN


def composite_count(originals: int, ratio: Fraction) -> int:
    """Compute how many composites added to ``originals`` come nearest to ``ratio``.

    ``ratio``: composites / (originals + composites), at least 0 and below 1. Of two counts that
    are equally near, the lower one; one more or one less is never nearer. Raises ValueError for a
    ratio outside [0, 1).
    """
    if not 0 <= ratio < 1:
        raise ValueError(f"the share of composites must be in [0, 1), not {ratio}")
    if originals == 0:
        return 0
    low = int(originals * ratio / (1 - ratio))

    def error(count: int) -> Fraction:
        return abs(Fraction(count, originals + count) - ratio)

    return min((low, low + 1), key=error)
