"""Find clips with footage of an earlier clip, in time and memory that grow linearly with clips.

Clips are processed in blocks. A clip is compared with each earlier one of its block, and, through
an index, with those of earlier blocks that are most similar to it: in a library of up to
``EXACT_CLIPS`` clips nothing is missed. Rejected clips leave the search, so that an opening in each
episode is compared with one clip and not with all of its copies. The result for a clip depends on
the clips before it only.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimix_core.engine import progress
from mimix_core.media import fingerprint
from mimix_core.settings import DuplicateSettings, exact_seconds
from mimix_core.stages.duplicates.fingerprinted_clips import FingerprintedClips
from mimix_core.stages.duplicates.vector_index import IndexHits, VectorIndex

EXACT_CLIPS = 4096
"""Clips in a block, within which all pairs are searched."""

MAX_INDEXED_VIEWS = 128
"""Earlier views found through the index that a view is compared with: the most similar ones."""

_LATER_CLIPS, _EARLIER_VIEWS = 256, 1024
"""Clips and views whose products are in memory at a time: 71 MB."""

_PAIRS = 1024
"""Pairs compared at a time."""

_BUFFERED_HITS = 2**21
"""Hits of the index in memory before all but the best pairs are dropped."""

Pairs = NDArray[np.int64]
"""Pairs of views (later, earlier) [pairs, 2]."""


@dataclass(frozen=True, slots=True)
class DuplicateMatch:
    """The most similar earlier clip that passed. ``index``: its position in the clips.

    ``motion``: correlation of the common motion. ``shift``: thumbnails by which it starts later.
    ``mirrored``: whether it is the mirror image. ``framed``: whether it is, or has, a smaller image
    within its frame.
    """

    index: int
    motion: float
    shift: int
    mirrored: bool
    framed: bool


@dataclass(frozen=True)
class _Queries:
    """Search vectors of the views of one block, int8 [views, queries, values], from view ``first``.

    ``indexed``: pairs with views of earlier blocks, sorted by the later view.
    """

    first: int
    vectors: NDArray[np.int8]
    mirrored: bool
    indexed: Pairs

    def of_views(self, views: range) -> NDArray[np.int8]:
        return self.vectors[views.start - self.first : views.stop - self.first]

    def indexed_of(self, views: range) -> Pairs:
        start, stop = np.searchsorted(self.indexed[:, 0], (views.start, views.stop))
        return self.indexed[start:stop]


def find_duplicates(
    clips: FingerprintedClips, settings: DuplicateSettings, wanted: Collection[str] = ()
) -> tuple[NDArray[np.bool_], dict[int, DuplicateMatch]]:
    """Return which clips pass [N], and by clip index the most similar earlier clip that passed.

    ``wanted``: ids of clips that pass in any case.
    """
    total = len(clips.ids)
    unique = np.ones(total, bool)
    matches: dict[int, DuplicateMatch] = {}
    index: VectorIndex | None = None
    for start in range(0, total, EXACT_CLIPS):
        block = range(start, min(start + EXACT_CLIPS, total))
        views = clips.views_of(block.start, block.stop)
        thumbs = clips.thumbs[views.start : views.stop]
        vectors = fingerprint.build_search_vectors(thumbs)
        if index is None:
            index = VectorIndex(vectors.shape[2])
        queries = _build_queries(clips, views, vectors, index, settings)
        for first in range(block.start, block.stop, _LATER_CLIPS):
            later = range(first, min(first + _LATER_CLIPS, block.stop))
            candidates = _find_candidates(clips, later, block, vectors, queries, unique, settings)
            # In order: a clip that is rejected here no longer matches any later one.
            for number in sorted(candidates):
                remaining = [match for match in candidates[number] if unique[match.index]]
                if remaining:
                    best = max(remaining, key=lambda match: (match.motion, -match.index))
                    matches[number] = best
                    is_duplicate = best.motion >= settings.min_motion_similarity
                    unique[number] = not is_duplicate or clips.ids[number] in wanted
            progress.report_progress(later.stop, total, "clips compared")
        if block.stop < total:
            passed = np.flatnonzero(unique[clips.clip[views.start : views.stop]])
            owners = np.repeat(passed + views.start, vectors.shape[1])
            index.add(owners, vectors[passed].reshape(-1, vectors.shape[2]))
        clips.release_memory()
    return unique, matches


def _min_product() -> float:
    return fingerprint.MIN_SEARCH_PRODUCT * fingerprint.SEARCH_VECTOR_LENGTH**2


def _build_queries(
    clips: FingerprintedClips,
    views: range,
    vectors: NDArray[np.int8],
    index: VectorIndex,
    settings: DuplicateSettings,
) -> list[_Queries]:
    """Build the queries of these views, mirrored as well if settings want it, and ask the index.

    ``vectors``: all search vectors of the views, int8 [views, positions, values].
    """
    positions = fingerprint.query_positions(vectors.shape[1])
    oriented = [vectors[:, positions]]
    if settings.mirrored:
        thumbs = fingerprint.mirror_thumbnails(clips.thumbs[views.start : views.stop])
        oriented.append(fingerprint.build_search_vectors(thumbs)[:, positions])
    stacked = np.concatenate(oriented)
    rows, earlier = _search_index(clips, views, stacked, index, settings)
    queries = []
    for number, some in enumerate(oriented):
        own = rows // len(views) == number
        pairs = np.stack([views.start + rows[own] % len(views), earlier[own]], axis=1)
        queries.append(_Queries(views.start, some, number == 1, pairs))
    return queries


def _search_index(
    clips: FingerprintedClips,
    views: range,
    queries: NDArray[np.int8],
    index: VectorIndex,
    settings: DuplicateSettings,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return rows of ``queries``, ascending, and the views of earlier blocks most similar to each.

    ``queries``: those of the ``views`` once or more times, int8 [rows, queries, values].
    """
    count, width = queries.shape[1:]
    best = IndexHits(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
    waiting: list[IndexHits] = []
    for hits in index.search(queries.reshape(-1, width), _min_product()):
        waiting.append(IndexHits(hits.queries // count, hits.owners, hits.products))
        if sum(len(some.owners) for some in waiting) >= _BUFFERED_HITS:
            best = _best_hits(clips, views, [best, *waiting], settings)
            waiting = []
    best = _best_hits(clips, views, [best, *waiting], settings)
    return best.queries, best.owners


def _best_hits(
    clips: FingerprintedClips, views: range, hits: Sequence[IndexHits], settings: DuplicateSettings
) -> IndexHits:
    """Keep of each row the comparable views with the highest products, sorted by row."""
    rows = np.concatenate([some.queries for some in hits])
    earlier = np.concatenate([some.owners for some in hits])
    products = np.concatenate([some.products for some in hits])
    pairs = np.stack([views.start + rows % len(views), earlier], axis=1)
    allowed = np.flatnonzero(_comparable(clips, pairs, settings))
    # Each pair once, with its highest product.
    order = allowed[np.lexsort((-products[allowed], earlier[allowed], rows[allowed]))]
    new = (np.diff(rows[order], prepend=-1) != 0) | (np.diff(earlier[order], prepend=-1) != 0)
    order = order[new]
    order = order[np.lexsort((earlier[order], -products[order], rows[order]))]
    rank = np.arange(len(order)) - np.searchsorted(rows[order], rows[order])
    order = order[rank < MAX_INDEXED_VIEWS]
    return IndexHits(rows[order], earlier[order], products[order])


def _find_candidates(
    clips: FingerprintedClips,
    later: range,
    block: range,
    vectors: NDArray[np.int8],
    queries: Collection[_Queries],
    unique: NDArray[np.bool_],
    settings: DuplicateSettings,
) -> dict[int, list[DuplicateMatch]]:
    """Return for each of the ``later`` clips the earlier ones with motion in common.

    ``vectors``: of the views of the block, int8 [views, positions, values].
    """
    found: dict[int, list[DuplicateMatch]] = {}
    views, earlier = (
        clips.views_of(later.start, later.stop),
        clips.views_of(block.start, later.stop),
    )
    searchable = earlier.start + np.flatnonzero(unique[clips.clip[earlier.start : earlier.stop]])
    for some in queries:
        pairs = [some.indexed_of(views)]
        for start in range(0, len(searchable), _EARLIER_VIEWS):
            others = searchable[start : start + _EARLIER_VIEWS]
            pair = _search_all(views, some.of_views(views), others, vectors[others - earlier.start])
            pairs.append(pair[_comparable(clips, pair, settings)])
        for number, match in _compare_pairs(clips, np.concatenate(pairs), settings, some.mirrored):
            found.setdefault(number, []).append(match)
    return found


def _search_all(
    views: range,
    queries: NDArray[np.int8],
    earlier: NDArray[np.int64],
    vectors: NDArray[np.int8],
) -> Pairs:
    """Return the pairs of views of which a query's and a vector's product is high enough."""
    (count, width), positions = queries.shape[1:], vectors.shape[1]
    searched = vectors.reshape(-1, width).astype(np.float32)
    products = queries.reshape(-1, width).astype(np.float32) @ searched.T
    rows, columns = np.divmod(np.flatnonzero(products >= _min_product()), len(searched))
    codes = np.unique((rows // count) * len(earlier) + columns // positions)
    return np.stack([views.start + codes // len(earlier), earlier[codes % len(earlier)]], axis=1)


def _comparable(
    clips: FingerprintedClips, pairs: Pairs, settings: DuplicateSettings
) -> NDArray[np.bool_]:
    """Return which pairs are of two episodes, or of one without overlap if settings allow it.

    Two insets are not compared: footage that two clips show in a frame is mostly a third one's, and
    drawn rectangles, which may be taken for insets, are alike.
    """
    later, earlier = clips.clip[pairs].T
    allowed: NDArray[np.bool_] = clips.episode[later] != clips.episode[earlier]
    if settings.within_episode:
        allowed |= clips.span[later, 0] > clips.span[earlier, 1]
    allowed &= earlier < later
    allowed &= ~(clips.inset[pairs[:, 0]] & clips.inset[pairs[:, 1]])
    return allowed


def _compare_pairs(
    clips: FingerprintedClips, pairs: Pairs, settings: DuplicateSettings, mirrored: bool
) -> Iterator[tuple[int, DuplicateMatch]]:
    """Yield each later clip of which a view has motion in common with one of an earlier clip.

    ``pairs``: of views; those of the later clips are mirrored first if ``mirrored``.
    """
    overlap = fingerprint.min_overlap_thumbnails(
        exact_seconds(settings.min_overlap_seconds), clips.thumbs.shape[1]
    )
    for start in range(0, len(pairs), _PAIRS):
        later, earlier = pairs[start : start + _PAIRS].T
        first = clips.thumbs[later]
        comparison = fingerprint.compare_clips(
            fingerprint.mirror_thumbnails(first) if mirrored else first,
            clips.thumbs[earlier],
            overlap=overlap,
            min_similarity=settings.min_frame_similarity,
        )
        motion, shift = comparison.motion_correlation, comparison.shift
        for found in np.flatnonzero(motion > 0):
            match = DuplicateMatch(
                int(clips.clip[earlier[found]]),
                float(motion[found]),
                int(shift[found]),
                mirrored,
                bool(clips.inset[later[found]] or clips.inset[earlier[found]]),
            )
            yield int(clips.clip[later[found]]), match
        progress.report_progress(start, len(pairs), "candidate pairs compared")
