"""The fingerprints of all clips, read from their tables and stored on disk."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.engine import progress
from mimix_core.engine.artifacts import TableRef
from mimix_core.errors import BadInput
from mimix_core.media import fingerprint

_COLUMNS = (
    "clip_id",
    "episode_id",
    "source_pts",
    "fingerprint",
    "inset_fingerprint",
    "status",
)


@dataclass(frozen=True)
class FingerprintedClips:
    """All N usable clips, in order, and V views of them: whole frames, and insets where found.

    ``episode``: index of the clip's table [N], ascending. ``span``: first and last source PTS
    [N, 2]. ``thumbs``: thumbnails of the views, uint8 [V, thumbnails, values]. ``clip``: index of
    each view's clip [V], ascending. ``inset``: whether it is an image within the clip's [V].
    ``mapping``: the file behind ``thumbs``, if there is one.
    """

    ids: Sequence[str]
    episode_ids: Sequence[str]
    episode: NDArray[np.int64]
    span: NDArray[np.int64]
    thumbs: NDArray[np.uint8]
    clip: NDArray[np.int64]
    inset: NDArray[np.bool_]
    mapping: mmap.mmap | None = None

    def views_of(self, start: int, stop: int) -> range:
        """Return the views of the clips from ``start`` to before ``stop``."""
        return range(*(int(view) for view in np.searchsorted(self.clip, (start, stop))))

    def release_memory(self) -> None:
        """Give back the memory of thumbnails that were read from disk; they are read again."""
        if self.mapping is not None:
            self.mapping.madvise(mmap.MADV_DONTNEED)


def read_clips(refs: Sequence[TableRef], folder: Path, *, with_insets: bool) -> FingerprintedClips:
    """Read the usable clips; their thumbnails go to an unnamed file in ``folder``.

    Raises BadInput when a clip has no comparable fingerprint.
    """
    ids: list[str] = []
    episode_ids: list[str] = []
    episode = [np.zeros(0, np.int64)]
    span = [np.zeros((0, 2), np.int64)]
    clip = [np.zeros(0, np.int64)]
    inset = [np.zeros(0, bool)]
    thumbnails = 0
    with tempfile.TemporaryFile(dir=folder) as file:
        for number, ref in enumerate(refs):
            rows = list(tables.usable(tables.iterate(ref.path, tables.CLIPS, _COLUMNS)))
            rows.sort(key=lambda row: row["source_pts"][0])
            views: list[tuple[int, bool, bytes]] = []
            for index, row in enumerate(rows, len(ids)):
                views.append((index, False, row["fingerprint"]))
                if with_insets and row["inset_fingerprint"]:
                    views.append((index, True, row["inset_fingerprint"]))
            if views:
                parsed = _parse_fingerprints([view for _, _, view in views], ref)
                if thumbnails and parsed.shape[1] != thumbnails:
                    raise BadInput(
                        "clips of different lengths cannot be compared",
                        where=str(ref.path),
                        fix="Cut all clips with the same clips.frames.",
                    )
                thumbnails = parsed.shape[1]
                file.write(parsed.tobytes())
            clip.append(np.array([index for index, _, _ in views], np.int64))
            inset.append(np.array([is_inset for _, is_inset, _ in views], bool))
            ids += [row["clip_id"] for row in rows]
            episode_ids += [row["episode_id"] for row in rows]
            episode.append(np.full(len(rows), number))
            ends = [(row["source_pts"][0], row["source_pts"][-1]) for row in rows]
            span.append(np.array(ends, np.int64).reshape(-1, 2))
            progress.report_progress(number + 1, len(refs), "episodes read")
        thumbs, mapping = _map_thumbnails(file, thumbnails)
    return FingerprintedClips(
        ids,
        episode_ids,
        np.concatenate(episode),
        np.concatenate(span),
        thumbs,
        np.concatenate(clip),
        np.concatenate(inset),
        mapping,
    )


def _map_thumbnails(file: BinaryIO, thumbnails: int) -> tuple[NDArray[np.uint8], mmap.mmap | None]:
    """Return what was written to ``file`` as an array, which outlives the open file."""
    file.flush()
    if not thumbnails:
        return np.zeros((0, 2, fingerprint.THUMBNAIL_VALUES), np.uint8), None
    mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    values = np.frombuffer(mapping, np.uint8)
    return values.reshape(-1, thumbnails, fingerprint.THUMBNAIL_VALUES), mapping


def _parse_fingerprints(views: Sequence[bytes], ref: TableRef) -> NDArray[np.uint8]:
    try:
        return fingerprint.parse_fingerprints(views)
    except ValueError as error:
        raise BadInput(
            f"clips cannot be compared ({error})",
            where=str(ref.path),
            fix="Cut the clips again with this version of MiMix.",
        ) from error
