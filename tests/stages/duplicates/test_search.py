"""The search for duplicates: exact within a block, and nearly so through the index."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimix_core.media import fingerprint
from mimix_core.settings import DuplicateSettings
from mimix_core.stages.duplicates import duplicate_search, vector_index
from mimix_core.stages.duplicates.duplicate_search import find_duplicates
from mimix_core.stages.duplicates.fingerprinted_clips import FingerprintedClips
from mimix_core.stages.duplicates.vector_index import VectorIndex


def shots(rng: np.random.Generator, count: int, thumbnails: int = 21) -> NDArray[np.uint8]:
    """Thumbnails of different shots: images that change slowly, with the means of a few sets."""
    sets = rng.integers(40, 200, (5, 96))[rng.integers(0, 5, count)]
    start = sets[:, None] + rng.integers(-40, 40, (count, 1, 96))
    steps = rng.integers(-9, 10, (count, thumbnails, 96))
    return (start + steps.cumsum(axis=1)).clip(0, 255).astype(np.uint8)


def copies(rng: np.random.Generator, thumbs: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The same shots brighter, with noise, some of them mirrored."""
    noisy = thumbs.astype(int) + 12 + rng.integers(-6, 7, thumbs.shape)
    result = noisy.clip(0, 255).astype(np.uint8)
    result[::3] = fingerprint.mirror_thumbnails(result[::3])
    return result


def as_clips(thumbs: NDArray[np.uint8], episode: NDArray[np.int64]) -> FingerprintedClips:
    count = len(thumbs)
    start = 10 * np.arange(count)
    return FingerprintedClips(
        [f"c{number:06d}" for number in range(count)],
        ["e"] * count,
        episode,
        np.stack([start, start + 9], axis=1),
        thumbs,
        np.arange(count),
        np.zeros(count, bool),
    )


def brute_force(clips: FingerprintedClips, limits: DuplicateSettings) -> dict[int, tuple[int, ...]]:
    """Compare each clip with all earlier ones that passed: its twin and the shift, if rejected."""
    vectors = fingerprint.build_search_vectors(clips.thumbs).astype(int)
    asked = fingerprint.query_positions(vectors.shape[1])
    rejected: dict[int, tuple[int, ...]] = {}
    for later in range(len(clips.ids)):
        best: tuple[float, int, int] = (0.0, 0, 0)
        for mirrored in (False, True):
            own = clips.thumbs[later : later + 1]
            own = fingerprint.mirror_thumbnails(own) if mirrored else own
            queries = fingerprint.build_search_vectors(own)[0, asked].astype(int)
            for earlier in range(later):
                if earlier in rejected or clips.episode[earlier] == clips.episode[later]:
                    continue
                product = (queries @ vectors[earlier].T).max()
                if product < fingerprint.MIN_SEARCH_PRODUCT * fingerprint.SEARCH_VECTOR_LENGTH**2:
                    continue
                found = fingerprint.compare_clips(
                    own,
                    clips.thumbs[earlier : earlier + 1],
                    overlap=8,
                    min_similarity=limits.min_frame_similarity,
                )
                motion = float(found.motion_correlation[0])
                if motion > best[0]:
                    best = (motion, earlier, int(found.shift[0]))
        if best[0] >= limits.min_motion_similarity:
            rejected[later] = best[1:]
    return rejected


def rejected_by_search(clips: FingerprintedClips) -> dict[int, tuple[int, ...]]:
    unique, matches = find_duplicates(clips, DuplicateSettings())
    return {
        int(number): (matches[number].index, matches[number].shift)
        for number in np.flatnonzero(~unique)
    }


@pytest.fixture
def small_blocks() -> Iterator[None]:
    """Few clips are searched as millions are."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicate_search, "EXACT_CLIPS", 16)
        patch.setattr(duplicate_search, "_LATER_CLIPS", 4)
        patch.setattr(duplicate_search, "_EARLIER_VIEWS", 8)
        patch.setattr(vector_index, "LIST_VECTORS", 32)
        patch.setattr(vector_index, "LISTS_VISITED", 8)
        yield


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1), st.integers(1, 30), st.integers(2, 9))
def test_a_block_has_the_pairs_of_a_brute_force_search(
    seed: int, count: int, per_episode: int
) -> None:
    rng = np.random.default_rng(seed)
    first = shots(rng, count)
    again = copies(rng, first[rng.integers(0, count, count)])
    again = np.roll(again, int(rng.integers(-9, 10)), axis=1)
    thumbs = np.concatenate([first, again])[rng.permutation(2 * count)]
    clips = as_clips(thumbs, np.arange(2 * count) // per_episode)
    assert rejected_by_search(clips) == brute_force(clips, DuplicateSettings())


@pytest.mark.usefixtures("small_blocks")
def test_through_the_index_copies_have_the_twins_of_a_brute_force_search() -> None:
    rng = np.random.default_rng(8)
    first = shots(rng, 160)
    clips = as_clips(np.concatenate([first, copies(rng, first)]), np.arange(320) // 20)
    expected = brute_force(clips, DuplicateSettings())
    assert rejected_by_search(clips) == expected
    assert len(expected) == 160


@pytest.mark.usefixtures("small_blocks")
def test_equal_clips_always_match_and_are_searched_once() -> None:
    """A title sequence in each episode: the index contains it once."""
    rng = np.random.default_rng(2)
    thumbs = shots(rng, 600)
    thumbs[::4] = thumbs[0]
    found = rejected_by_search(as_clips(thumbs, np.arange(600) // 4))
    assert found == dict.fromkeys(range(4, 600, 4), (0, 0))


@pytest.mark.usefixtures("small_blocks")
def test_clips_added_at_the_end_change_no_earlier_verdict() -> None:
    rng = np.random.default_rng(4)
    first = shots(rng, 90)
    thumbs = np.concatenate([first, copies(rng, first), shots(rng, 120)])
    episode = np.arange(len(thumbs)) // 10
    verdicts = rejected_by_search(as_clips(thumbs, episode))
    for count in (95, 120, 181):
        part = rejected_by_search(as_clips(thumbs[:count], episode[:count]))
        assert part == {number: twin for number, twin in verdicts.items() if number < count}


def search_all(index: VectorIndex, queries: NDArray[np.int8], limit: float) -> set[tuple[int, int]]:
    return {
        (int(query), int(owner))
        for hits in index.search(queries, limit)
        for query, owner in zip(hits.queries, hits.owners, strict=True)
    }


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 700), min_size=1, max_size=6))
@settings(max_examples=15)
def test_the_index_returns_true_hits_and_an_equal_vector_always(
    seed: int, sizes: list[int]
) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-30, 31, (sum(sizes), 8)).astype(np.int8)
    index = VectorIndex(8)
    start = 0
    for size in sizes:
        owners = np.arange(start, start + size)
        index.add(owners, vectors[start : start + size])
        start += size
    assert len(index) == len(vectors)
    queries = vectors[rng.integers(0, len(vectors), 20)]
    products = queries.astype(int) @ vectors.astype(int).T
    found = search_all(index, queries, 2000)
    true = {(int(q), int(v)) for q, v in zip(*np.nonzero(products >= 2000), strict=True)}
    assert found <= true
    own = {(q, v) for q, v in true if (queries[q] == vectors[v]).all()}
    assert own <= found
    if len(vectors) <= vector_index.LISTS_VISITED * vector_index.LIST_VECTORS // 2:
        assert len(found) >= 0.9 * len(true)


@pytest.mark.parametrize("columns", [20, 9000])
def test_the_highest_scores_are_those_of_a_stable_sort(columns: int) -> None:
    """With ties, and with columns enough for keys of 64 bits."""
    scores = np.random.default_rng(3).integers(-40, 41, (30, columns)).astype(np.float32)
    scores[0] *= 2**18 / 40
    for count in (1, 7, 20):
        expected = np.argsort(-scores, axis=1, kind="stable")[:, :count]
        found = vector_index._highest(scores, count)
        assert (np.sort(found, axis=1) == np.sort(expected, axis=1)).all()


def test_a_crowded_list_is_visited_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of equal vectors are in one list: the first ones stand for all."""
    monkeypatch.setattr(vector_index, "MAX_VISITED", 50)
    index = VectorIndex(4)
    same = np.full((3000, 4), 60, np.int8)
    index.add(np.arange(3000), same)
    index.add(np.arange(3000, 6000), same)
    assert search_all(index, same[:1], 1000) == {(0, owner) for owner in range(50)}
