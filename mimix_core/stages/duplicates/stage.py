"""Stage ``duplicates``: reject clips with footage of an earlier episode (openings, recaps, reuse).

The fingerprints of all episodes' clips are searched for common footage at any shift in time, as
each episode is cut on a different grid. A clip that shows another image within its own (in a frame,
picture-in-picture) is searched for both. The first clip in the order of the library, then of time,
passes; later ones with the same footage are rejected.

In addition to its table the stage writes each episode's clips table again, with the verdicts, for
the later stages: see ``deduplicated_clip_tables``. Such a table depends on the verdicts on one
episode only: an episode added at the end of the library changes none of the others; one added
before them may take over the footage that they have in common.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.engine import progress
from mimix_core.engine.artifacts import Counts, FrozenModel, TableRef, digest_file
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.media import fingerprint
from mimix_core.settings import DuplicateSettings, exact_seconds
from mimix_core.tables import ClipRow, Reason, Row, Status

EPISODES_FOLDER = "episodes"

_LATER_BLOCK, _EARLIER_BLOCK = 256, 1024
"""Clips in a block of the search: 71 MB of products at a time."""

_PAIR_BLOCK = 1024
"""Pairs compared at a time."""


class DuplicateInputs(FrozenModel):
    """The clips of all episodes, in the order of the library.

    ``wanted``: clips that people want although they are duplicates.
    """

    unit: Annotated[str, ExcludeFromKey()]
    clips: tuple[TableRef, ...]
    wanted: Annotated[tuple[str, ...], OmitDefault()] = ()


@dataclass(frozen=True)
class FingerprintedClips:
    """All N usable clips, in order, and V views of them: whole frames, and insets where found.

    ``episode``: index of the clip's table [N]. ``span``: first and last source PTS [N, 2].
    ``thumbs``: thumbnails of the views, uint8 [V, thumbnails, values]. ``clip``: index of each
    view's clip [V], ascending. ``inset``: whether it is an image within the clip's [V].
    """

    ids: Sequence[str]
    episode_ids: Sequence[str]
    episode: NDArray[np.int64]
    span: NDArray[np.int64]
    thumbs: NDArray[np.uint8]
    clip: NDArray[np.int64]
    inset: NDArray[np.bool_]


@dataclass(frozen=True)
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


def run(inputs: DuplicateInputs, settings: DuplicateSettings, out: Path) -> StageReport:
    """Return one row per usable clip; write a clips table per episode to ``EPISODES_FOLDER``.

    Raises BadInput when a clip has no comparable fingerprint.
    """
    clips = _read_clips(inputs.clips, with_insets=settings.framed)
    unique, matches = find_duplicates(clips, settings, frozenset(inputs.wanted))
    verdicts: dict[str, Row] = {}
    for index, name in enumerate(clips.ids):
        match = matches.get(index)
        values = {"clip_id": name, "episode_id": clips.episode_ids[index]}
        similarity = round(max(0.0, match.motion), 6) if match is not None else 0.0
        if match is None or unique[index]:
            verdicts[name] = tables.ok(**values, twin_clip_id="", similarity=similarity)
            continue
        original = clips.ids[match.index]
        seconds = float(match.shift * fingerprint.THUMBNAIL_INTERVAL)
        how = ", mirrored" * match.mirrored + ", in a frame" * match.framed
        detail = (
            f"the footage of {original}{how}, {seconds:+.2f} s; "
            f"{match.motion:.2f} of the motion common"
        )
        verdicts[name] = tables.rejected(
            Reason.NEAR_DUPLICATE, detail, **values, twin_clip_id=original, similarity=similarity
        )
    (out / EPISODES_FOLDER).mkdir()
    for ref in inputs.clips:
        path = out / EPISODES_FOLDER / _file_name(ref)
        rows = [
            _with_verdict(row, verdicts, ref, path) for row in tables.read(ref.path, tables.CLIPS)
        ]
        tables.write(path, tables.CLIPS, rows, stage_key=ref.key)
    return StageReport(list(verdicts.values()), rows_in=len(clips.ids))


STAGE = Stage(
    name="duplicates",
    title="Duplicates",
    description="Reject openings, recaps and other footage that an earlier clip already contains.",
    row_noun="clips",
    phase=Phase.CURATION,
    upstream=("clips",),
    version=4,
    inputs=DuplicateInputs,
    settings=DuplicateSettings,
    table=tables.DUPLICATES,
    run=run,
)


def deduplicated_clip_tables(ref: TableRef, clips: Sequence[TableRef]) -> list[TableRef]:
    """Return the clips tables with duplicates rejected, in the order of the input ``clips``."""
    return [_episode_table(ref.folder / EPISODES_FOLDER / _file_name(t), t) for t in clips]


def _episode_table(path: Path, clips: TableRef) -> TableRef:
    columns = pq.read_table(path, columns=["clip_id", "status", "reason", "detail"])
    statuses = columns["status"].to_pylist()
    counts = Counts(
        rows_in=len(statuses),
        ok=statuses.count(Status.OK.value),
        rejected=statuses.count(Status.REJECTED.value),
        failed=statuses.count(Status.FAILED.value),
    )
    # The rows' file paths name the stage key of the clips: the content is that of the clips' table
    # and of the verdicts.
    content = ""
    if clips.content:
        verdicts = json.dumps([clips.content, columns.to_pylist()])
        content = hashlib.sha256(verdicts.encode()).hexdigest()
    return clips.model_copy(
        update={
            "sha256": digest_file(path),
            "content": content,
            "path": path,
            "counts": counts,
        }
    )


def _file_name(clips: TableRef) -> str:
    # A table without rows has no episode id; its stage key identifies it in any case.
    return f"{clips.key}.parquet"


def _with_verdict(row: ClipRow, verdicts: Mapping[str, Row], ref: TableRef, path: Path) -> Row:
    """Return a clip's row with its verdict and with file paths relative to the table at ``path``.

    A staging folder is at the same depth in the store as the folder it is committed to.
    """
    result: Row = {**row}
    for name in ("file", "audio_file"):
        if result[name]:
            relative = os.path.relpath(ref.folder / result[name], path.parent)
            result[name] = Path(relative).as_posix()
    verdict = verdicts.get(row["clip_id"])
    if verdict is not None:
        result |= {name: verdict[name] for name in ("status", "reason", "detail")}
    return result


def _read_clips(refs: Sequence[TableRef], *, with_insets: bool) -> FingerprintedClips:
    ids: list[str] = []
    episode_ids: list[str] = []
    episode: list[int] = []
    span: list[tuple[int, int]] = []
    thumbs = [np.zeros((0, 2, fingerprint.THUMBNAIL_VALUES), np.uint8)]
    clip: list[int] = []
    inset: list[bool] = []
    for number, ref in enumerate(refs):
        rows = list(tables.usable(tables.read(ref.path, tables.CLIPS)))
        rows.sort(key=lambda row: row["source_pts"][0])
        views: list[bytes] = []
        for index, row in enumerate(rows, len(ids)):
            own = [row["fingerprint"]]
            if with_insets and row["inset_fingerprint"]:
                own.append(row["inset_fingerprint"])
            views += own
            clip += [index] * len(own)
            inset += [False, True][: len(own)]
        if views:
            parsed = _parse_fingerprints(views, ref)
            if len(thumbs) > 1 and parsed.shape[1] != thumbs[-1].shape[1]:
                raise BadInput(
                    "clips of different lengths cannot be compared",
                    where=str(ref.path),
                    fix="Cut all clips with the same clips.frames.",
                )
            thumbs.append(parsed)
        ids += [row["clip_id"] for row in rows]
        episode_ids += [row["episode_id"] for row in rows]
        episode += [number] * len(rows)
        span += [(row["source_pts"][0], row["source_pts"][-1]) for row in rows]
        progress.report_progress(number + 1, len(refs), "episodes read")
    return FingerprintedClips(
        ids,
        episode_ids,
        np.array(episode, np.int64),
        np.array(span, np.int64).reshape(-1, 2),
        np.concatenate(thumbs[1:] or thumbs),
        np.array(clip, np.int64),
        np.array(inset, bool),
    )


def _parse_fingerprints(views: Sequence[bytes], ref: TableRef) -> NDArray[np.uint8]:
    try:
        return fingerprint.parse_fingerprints(views)
    except ValueError as error:
        raise BadInput(
            f"clips cannot be compared ({error})",
            where=str(ref.path),
            fix="Cut the clips again with this version of MiMix.",
        ) from error


def find_duplicates(
    clips: FingerprintedClips, settings: DuplicateSettings, wanted: Collection[str] = ()
) -> tuple[NDArray[np.bool_], dict[int, DuplicateMatch]]:
    """Return which clips pass [N], and by clip index the most similar earlier clip that passed.

    ``wanted``: ids of clips that pass in any case.
    """
    total = len(clips.ids)
    unique = np.ones(total, bool)
    matches: dict[int, DuplicateMatch] = {}
    vectors = fingerprint.build_search_vectors(clips.thumbs)
    orientations = (False, True) if settings.mirrored else (False,)
    for start in range(0, total, _LATER_BLOCK):
        stop = min(start + _LATER_BLOCK, total)
        later = np.arange(*np.searchsorted(clips.clip, (start, stop)))
        candidates: dict[int, list[DuplicateMatch]] = {}
        for mirrored in orientations:
            thumbs = clips.thumbs[later]
            if mirrored:
                thumbs = fingerprint.mirror_thumbnails(thumbs)
            queries = fingerprint.build_search_vectors(thumbs)
            for pairs in _search_pairs(vectors, queries, later, unique, clips, settings):
                for index, match in _compare_pairs(clips, pairs, settings, mirrored):
                    candidates.setdefault(index, []).append(match)
        # In order: a clip that is rejected here no longer matches any later one.
        for index in sorted(candidates):
            remaining = [match for match in candidates[index] if unique[match.index]]
            if remaining:
                best = max(remaining, key=lambda match: (match.motion, -match.index))
                matches[index] = best
                is_duplicate = best.motion >= settings.min_motion_similarity
                unique[index] = not is_duplicate or clips.ids[index] in wanted
        progress.report_progress(stop, total, "clips compared")
    return unique, matches


def _search_pairs(
    vectors: NDArray[np.int8],
    queries: NDArray[np.int8],
    later: NDArray[np.int64],
    unique: NDArray[np.bool_],
    clips: FingerprintedClips,
    settings: DuplicateSettings,
) -> Iterator[NDArray[np.int64]]:
    """Yield pairs of views (later, earlier) [pairs, 2] that the search does not rule out."""
    min_product = fingerprint.MIN_SEARCH_PRODUCT * fingerprint.SEARCH_VECTOR_LENGTH**2
    positions, width = vectors.shape[1:]
    query_positions = fingerprint.query_positions(positions)
    query_rows = queries[:, query_positions].reshape(-1, width).astype(np.float32)
    searchable = np.flatnonzero(unique[clips.clip[: later[-1] + 1]])
    for start in range(0, len(searchable), _EARLIER_BLOCK):
        earlier = searchable[start : start + _EARLIER_BLOCK]
        searched = vectors[earlier].reshape(-1, width).astype(np.float32)
        hits = np.flatnonzero(query_rows @ searched.T >= min_product)
        rows, columns = np.divmod(hits, len(searched))
        codes = np.unique((rows // len(query_positions)) * len(earlier) + columns // positions)
        pairs = np.stack([later[codes // len(earlier)], earlier[codes % len(earlier)]], axis=1)
        yield pairs[_comparable(clips, pairs, settings)]
        progress.report_progress(int(clips.clip[later[0]]), len(clips.ids), "clips compared")


def _comparable(
    clips: FingerprintedClips, pairs: NDArray[np.int64], settings: DuplicateSettings
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
    clips: FingerprintedClips,
    pairs: NDArray[np.int64],
    settings: DuplicateSettings,
    mirrored: bool,
) -> Iterator[tuple[int, DuplicateMatch]]:
    """Yield each later clip of which a view has motion in common with one of an earlier clip.

    ``pairs``: of views; those of the later clips are mirrored first if ``mirrored``.
    """
    overlap = fingerprint.min_overlap_thumbnails(
        exact_seconds(settings.min_overlap_seconds), clips.thumbs.shape[1]
    )
    for start in range(0, len(pairs), _PAIR_BLOCK):
        later, earlier = pairs[start : start + _PAIR_BLOCK].T
        first = clips.thumbs[later]
        comparison = fingerprint.compare_clips(
            fingerprint.mirror_thumbnails(first) if mirrored else first,
            clips.thumbs[earlier],
            overlap=overlap,
            min_similarity=settings.min_frame_similarity,
        )
        motion, shift = comparison.motion_correlation, comparison.shift
        for index in np.flatnonzero(motion > 0):
            match = DuplicateMatch(
                int(clips.clip[earlier[index]]),
                float(motion[index]),
                int(shift[index]),
                mirrored,
                bool(clips.inset[later[index]] or clips.inset[earlier[index]]),
            )
            yield int(clips.clip[later[index]]), match
        progress.report_progress(start, len(pairs), "candidate pairs compared")
