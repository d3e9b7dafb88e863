"""Episodes that could not be read: what is known about them, and how they get another try."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mimix_core import tables
from mimix_core.engine import registry
from mimix_core.engine.store import StageRecord, Store
from mimix_core.errors import BadInput
from mimix_core.project.workspace import SourceEpisode
from mimix_core.tables import Reason, Row, Status

QUARANTINE_REASONS = frozenset(
    {
        Reason.UNREADABLE_VIDEO,
        Reason.NO_VIDEO_STREAM,
        Reason.VIDEO_TRUNCATED,
        Reason.VIDEO_DAMAGED,
        Reason.VIDEO_TOO_LARGE,
        Reason.DECODER_CRASHED,
        Reason.DECODER_HUNG,
        Reason.UNFORESEEN_ERROR,
    }
)
"""Why a row failed, where the file is to blame, or was."""

STAGES = ("scenes", "overlays", "clips", "transcripts")
"""The stages that read episodes."""


@dataclass(frozen=True)
class QuarantinedUnit:
    """A unit whose newest result holds failed rows of ``REASONS``; ``rows`` counts them."""

    stage: str
    unit: str
    key: str
    file: Path
    rows: int
    reason: str
    detail: str


def quarantined_units(store: Store, episodes: Sequence[SourceEpisode]) -> list[QuarantinedUnit]:
    """The library's quarantined units, stage by stage, in the order of the episodes."""
    names = {episode.name: episode for episode in episodes}
    ids = {episode.id: episode for episode in episodes}
    found = []
    for record in _newest_records(store):
        if not QUARANTINE_REASONS.intersection(record.reasons):
            continue
        ref = store.lookup(record.stage, record.key)
        if ref is None:
            continue
        rows = [
            row
            for row in tables.read(ref.path, registry.get_stage(record.stage).table)
            if row["status"] == Status.FAILED and row["reason"] in QUARANTINE_REASONS
        ]
        episode = _find_episode(rows, ids) or names.get(record.unit)
        if rows and episode is not None:
            first = rows[0]
            found.append(
                QuarantinedUnit(
                    stage=record.stage,
                    unit=episode.name,
                    key=record.key,
                    file=episode.video.path,
                    rows=len(rows),
                    reason=first["reason"],
                    detail=first["detail"],
                )
            )
    order = {episode.name: index for index, episode in enumerate(episodes)}
    return sorted(found, key=lambda one: (STAGES.index(one.stage), order[one.unit]))


def release_units(
    store: Store, found: Iterable[QuarantinedUnit], units: Sequence[str]
) -> list[QuarantinedUnit]:
    """Drop the results of these units (none named: of all), so that the next run tries them again.

    ``units`` go by name or by file. Raises BadInput for one that is not quarantined.
    """
    found = list(found)
    known = {one.unit for one in found} | {str(one.file) for one in found}
    wrong = [unit for unit in units if unit not in known]
    if wrong:
        raise BadInput(
            f"not in quarantine: {', '.join(wrong)}",
            fix=f"There are: {', '.join(sorted({one.unit for one in found})) or 'none'}.",
        )
    chosen = [one for one in found if not units or {one.unit, str(one.file)} & set(units)]
    return [one for one in chosen if store.discard(one.stage, one.key)]


def _newest_records(store: Store) -> list[StageRecord]:
    """The newest result of each stage and unit, of the stages' versions of today."""
    newest: dict[tuple[str, str], tuple[int, StageRecord]] = {}
    for record in store.records():
        if record.stage not in STAGES or record.version != registry.get_stage(record.stage).version:
            continue
        written = (store.folder(record.stage, record.key) / store.RECORD).stat().st_mtime_ns
        place = (record.stage, record.unit)
        if place not in newest or newest[place][0] < written:
            newest[place] = (written, record)
    return [record for _, record in newest.values()]


def _find_episode(rows: Sequence[Row], ids: dict[str, SourceEpisode]) -> SourceEpisode | None:
    """The episode by the id in its rows: a file may have been renamed since they were made."""
    return next((ids[row["episode_id"]] for row in rows if row.get("episode_id") in ids), None)
