"""Duplicates: clips whose footage an earlier episode already gave (openings, recaps, reused shots).

The clips of all episodes are searched for each other's footage by their fingerprints, at any shift
in time, since the clips of two episodes are cut on grids of their own. The first clip in the order
of the library, then of time, is kept; later ones of the same footage are rejected.

Beside its own table the stage leaves each episode's clips once more, with the verdicts in them,
for the stages that follow: see ``episode_tables``. Such a table depends on the verdicts on its own
episode only, so an episode that is added at the end of the library changes none of the others; one
that is added before them may take over the footage that they have in common.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.engine import progress
from mimix_core.engine.artifacts import Counts, FrozenModel, TableRef, digest_file
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.media import fingerprint
from mimix_core.settings import DuplicateSettings, exact
from mimix_core.tables import Reason, Row, Status

EPISODES = "episodes"

_QUERIES = (2, 6, 10, 14)
"""Of a later clip's search vectors these are looked for among all of an earlier clip's: one of
them lies in any overlap of two seconds."""

_LATER, _EARLIER = 256, 1024
"""Clips in a block of the search: 71 MB of products at a time."""

_COMPARED = 1024
"""Pairs compared at a time."""


class DuplicateInputs(FrozenModel):
    """The clips of all episodes, in the order of the library."""

    unit: Annotated[str, ExcludeFromKey()]
    clips: tuple[TableRef, ...]


@dataclass(frozen=True)
class Clips:
    """All usable clips, in order. ``episode``: number of its table. ``span``: first, last PTS."""

    ids: Sequence[str]
    episode_ids: Sequence[str]
    episode: NDArray[np.int64]
    span: NDArray[np.int64]
    thumbs: NDArray[np.uint8]


@dataclass(frozen=True)
class Twin:
    """The kept clip that a clip is most like. ``shift``: thumbnails by which it begins later."""

    number: int
    motion: float
    shift: int


def run(inputs: DuplicateInputs, settings: DuplicateSettings, out: Path) -> StageReport:
    """One row per usable clip, and a clips table per episode in ``out / EPISODES``.

    Raises BadInput when a clip has no fingerprint that can be compared.
    """
    clips = _read(inputs.clips)
    kept, twins = find(clips, settings)
    verdicts: dict[str, Row] = {}
    for number, name in enumerate(clips.ids):
        twin = twins.get(number)
        values = {"clip_id": name, "episode_id": clips.episode_ids[number]}
        similarity = round(max(0.0, twin.motion), 6) if twin is not None else 0.0
        if twin is None or kept[number]:
            verdicts[name] = tables.ok(**values, twin_clip_id="", similarity=similarity)
            continue
        other = clips.ids[twin.number]
        seconds = float(twin.shift * fingerprint.SPACING)
        detail = f"the footage of {other}, {seconds:+.2f} s; {twin.motion:.2f} of the motion common"
        verdicts[name] = tables.rejected(
            Reason.NEAR_DUPLICATE, detail, **values, twin_clip_id=other, similarity=similarity
        )
    (out / EPISODES).mkdir()
    for ref in inputs.clips:
        path = out / EPISODES / _file_name(ref)
        rows = [_judged(row, verdicts, ref, path) for row in tables.read(ref.path, tables.CLIPS)]
        tables.write(path, tables.CLIPS, rows, stage_key=ref.key)
    return StageReport(list(verdicts.values()), rows_in=len(clips.ids))


STAGE = Stage(
    name="duplicates",
    title="Duplicates",
    description="Reject openings, recaps and other footage that an earlier clip already contains.",
    row_noun="clips",
    phase=Phase.CURATION,
    upstream=("clips",),
    version=1,
    inputs=DuplicateInputs,
    settings=DuplicateSettings,
    table=tables.DUPLICATES,
    run=run,
)


def episode_tables(ref: TableRef, clips: Sequence[TableRef]) -> list[TableRef]:
    """The clips tables without duplicates, in the order of the ``clips`` that they came from."""
    return [_episode_table(ref.folder / EPISODES / _file_name(one), one) for one in clips]


def _episode_table(path: Path, clips: TableRef) -> TableRef:
    statuses = pq.read_table(path, columns=["status"])["status"].to_pylist()
    counts = Counts(
        rows_in=len(statuses),
        ok=statuses.count(Status.OK.value),
        rejected=statuses.count(Status.REJECTED.value),
        failed=statuses.count(Status.FAILED.value),
    )
    return clips.model_copy(update={"sha256": digest_file(path), "path": path, "counts": counts})


def _file_name(clips: TableRef) -> str:
    # A table without rows names no episode; its key is of its content too.
    return f"{clips.key}.parquet"


def _judged(row: Row, verdicts: dict[str, Row], ref: TableRef, path: Path) -> Row:
    """A clip's row with its verdict, its files named from the table at ``path``.

    A staging folder lies as deep in the store as the place it is committed to.
    """
    files = {
        name: Path(os.path.relpath(ref.folder / row[name], path.parent)).as_posix()
        for name in ("file", "audio_file")
        if row[name]
    }
    verdict = verdicts.get(row["clip_id"])
    if verdict is None:
        return row | files
    return row | files | {name: verdict[name] for name in ("status", "reason", "detail")}


def _read(refs: Sequence[TableRef]) -> Clips:
    ids: list[str] = []
    episode_ids: list[str] = []
    episode: list[int] = []
    span: list[tuple[int, int]] = []
    thumbs = [np.zeros((0, fingerprint.THUMBS, fingerprint.CELLS), np.uint8)]
    for number, ref in enumerate(refs):
        rows = list(tables.usable(tables.read(ref.path, tables.CLIPS)))
        rows.sort(key=lambda row: int(row["source_pts"][0]))
        ids += [row["clip_id"] for row in rows]
        episode_ids += [row["episode_id"] for row in rows]
        episode += [number] * len(rows)
        span += [(row["source_pts"][0], row["source_pts"][-1]) for row in rows]
        try:
            thumbs.append(fingerprint.read([row["fingerprint"] for row in rows]))
        except ValueError as error:
            raise BadInput(
                f"clips cannot be compared ({error})",
                where=str(ref.path),
                fix="Make the clips again with this version of MiMix.",
            ) from error
        progress.advance(number + 1, len(refs), "episodes read")
    return Clips(
        ids,
        episode_ids,
        np.array(episode, np.int64),
        np.array(span, np.int64).reshape(-1, 2),
        np.concatenate(thumbs),
    )


def find(clips: Clips, settings: DuplicateSettings) -> tuple[NDArray[np.bool_], dict[int, Twin]]:
    """Which clips are kept, and of clips that are like a kept one before them, that one."""
    total = len(clips.ids)
    kept = np.ones(total, bool)
    twins: dict[int, Twin] = {}
    vectors = fingerprint.search_vectors(clips.thumbs)
    for start in range(0, total, _LATER):
        later = np.arange(start, min(start + _LATER, total))
        likest: dict[int, list[Twin]] = {}
        for pairs in _candidates(vectors, later, kept, clips, settings):
            for number, twin in _alike(clips, pairs, settings):
                likest.setdefault(number, []).append(twin)
        # In order: who is rejected here is nobody's twin any more.
        for number in sorted(likest):
            standing = [twin for twin in likest[number] if kept[twin.number]]
            if standing:
                best = max(standing, key=lambda twin: (twin.motion, -twin.number))
                twins[number] = best
                kept[number] = best.motion < settings.min_motion
        progress.advance(int(later[-1]) + 1, total, "clips compared")
    return kept, twins


def _candidates(
    vectors: NDArray[np.int8],
    later: NDArray[np.int64],
    kept: NDArray[np.bool_],
    clips: Clips,
    settings: DuplicateSettings,
) -> Iterator[NDArray[np.int64]]:
    """Pairs (later, earlier) [pairs, 2] that the search does not rule out."""
    least = fingerprint.SEARCH_LEAST * fingerprint.SEARCH_SCALE**2
    width = vectors.shape[-1]
    queries = vectors[later][:, _QUERIES].reshape(-1, width).astype(np.float32)
    standing = np.flatnonzero(kept[: later[-1] + 1])
    for start in range(0, len(standing), _EARLIER):
        earlier = standing[start : start + _EARLIER]
        searched = vectors[earlier].reshape(-1, width).astype(np.float32)
        hits = np.flatnonzero(queries @ searched.T >= least)
        rows, columns = np.divmod(hits, len(searched))
        codes = np.unique((rows // len(_QUERIES)) * len(earlier) + columns // fingerprint.SEARCHED)
        pairs = np.stack([later[codes // len(earlier)], earlier[codes % len(earlier)]], axis=1)
        yield pairs[_may_be_compared(clips, pairs, settings)]
        progress.advance(int(later[0]), len(vectors), "clips compared")


def _may_be_compared(
    clips: Clips, pairs: NDArray[np.int64], settings: DuplicateSettings
) -> NDArray[np.bool_]:
    later, earlier = pairs[:, 0], pairs[:, 1]
    same = clips.episode[later] == clips.episode[earlier]
    allowed: NDArray[np.bool_] = ~same
    if settings.within_episode:
        apart = clips.span[later, 0] > clips.span[earlier, 1]
        allowed |= apart
    return allowed & (earlier < later)


def _alike(
    clips: Clips, pairs: NDArray[np.int64], settings: DuplicateSettings
) -> Iterator[tuple[int, Twin]]:
    overlap = fingerprint.least_overlap(exact(settings.min_overlap))
    for start in range(0, len(pairs), _COMPARED):
        later, earlier = pairs[start : start + _COMPARED].T
        found = fingerprint.compare(
            clips.thumbs[later],
            clips.thumbs[earlier],
            overlap=overlap,
            likeness=settings.min_likeness,
        )
        for index in np.flatnonzero(found.motion > 0):
            twin = Twin(int(earlier[index]), float(found.motion[index]), int(found.shift[index]))
            yield int(later[index]), twin
        progress.advance(start, len(pairs), "likely pairs compared")
