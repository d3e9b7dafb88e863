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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow.parquet as pq

from mimix_core import tables
from mimix_core.engine.artifacts import Counts, FrozenModel, TableRef, digest_file
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.media import fingerprint
from mimix_core.settings import DuplicateSettings
from mimix_core.stages.duplicates.duplicate_search import DuplicateMatch, find_duplicates
from mimix_core.stages.duplicates.fingerprinted_clips import FingerprintedClips, read_clips
from mimix_core.tables import ClipRow, Reason, Row, SortedRows, Status

EPISODES_FOLDER = "episodes"


class DuplicateInputs(FrozenModel):
    """The clips of all episodes, in the order of the library.

    ``wanted``: clips that people want although they are duplicates.
    """

    unit: Annotated[str, ExcludeFromKey()]
    clips: tuple[TableRef, ...]
    wanted: Annotated[tuple[str, ...], OmitDefault()] = ()


def run(inputs: DuplicateInputs, settings: DuplicateSettings, out: Path) -> StageReport:
    """Return one row per usable clip; write a clips table per episode to ``EPISODES_FOLDER``.

    Raises BadInput when a clip has no comparable fingerprint.
    """
    clips = read_clips(inputs.clips, out, with_insets=settings.framed)
    unique, matches = find_duplicates(clips, settings, frozenset(inputs.wanted))
    rows = SortedRows(tables.DUPLICATES, out)
    (out / EPISODES_FOLDER).mkdir()
    ends = np.searchsorted(clips.episode, np.arange(len(inputs.clips)), side="right").tolist()
    for ref, start, stop in zip(inputs.clips, [0, *ends], ends, strict=False):
        verdicts = {
            clips.ids[index]: _build_verdict(clips, index, bool(unique[index]), matches.get(index))
            for index in range(start, stop)
        }
        rows.extend(verdicts.values())
        path = out / EPISODES_FOLDER / _file_name(ref)
        judged = (
            _with_verdict(row, verdicts, ref, path)
            for row in tables.iterate(ref.path, tables.CLIPS)
        )
        tables.write(path, tables.CLIPS, judged, stage_key=ref.key)
    return StageReport(rows, rows_in=len(clips.ids))


def _build_verdict(
    clips: FingerprintedClips, index: int, unique: bool, match: DuplicateMatch | None
) -> Row:
    values = {"clip_id": clips.ids[index], "episode_id": clips.episode_ids[index]}
    similarity = round(max(0.0, match.motion), 6) if match is not None else 0.0
    if match is None or unique:
        return tables.ok(**values, twin_clip_id="", similarity=similarity)
    original = clips.ids[match.index]
    seconds = float(match.shift * fingerprint.THUMBNAIL_INTERVAL)
    how = ", mirrored" * match.mirrored + ", in a frame" * match.framed
    detail = (
        f"the footage of {original}{how}, {seconds:+.2f} s; {match.motion:.2f} of the motion common"
    )
    return tables.rejected(
        Reason.NEAR_DUPLICATE, detail, **values, twin_clip_id=original, similarity=similarity
    )


STAGE = Stage(
    name="duplicates",
    title="Duplicates",
    description="Reject openings, recaps and other footage that an earlier clip already contains.",
    row_noun="clips",
    phase=Phase.CURATION,
    upstream=("clips",),
    version=5,
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
