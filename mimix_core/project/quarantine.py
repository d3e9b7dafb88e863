"""Find episodes that could not be read, and release them for another attempt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimix_core import tables
from mimix_core.engine import registry
from mimix_core.engine.stage import Stage
from mimix_core.engine.store import StageRecord, Store
from mimix_core.errors import BadInput
from mimix_core.project.workspace import SourceEpisode
from mimix_core.tables import Reason, Status

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
"""Reasons of failed rows for which the file is, or may be, to blame."""


@dataclass(frozen=True)
class QuarantinedUnit:
    """A unit whose newest result has failed rows with QUARANTINE_REASONS; ``rows`` counts them."""

    stage: str
    unit: str
    key: str
    file: Path
    rows: int
    reason: str
    detail: str


def find_quarantined_units(
    store: Store, episodes: Sequence[SourceEpisode]
) -> list[QuarantinedUnit]:
    """Find the library's quarantined units, ordered by stage and then by episode."""
    by_name = {episode.name: episode for episode in episodes}
    by_id = {episode.id: episode for episode in episodes}
    units = []
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
        episode = _find_episode(rows, by_id) or by_name.get(record.unit)
        if rows and episode is not None:
            first = rows[0]
            units.append(
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
    return sorted(
        units, key=lambda unit: (registry.upstream_depth(unit.stage), unit.stage, order[unit.unit])
    )


def release_units(
    store: Store, quarantined: Iterable[QuarantinedUnit], units: Sequence[str]
) -> list[QuarantinedUnit]:
    """Discard the results of these units, or of all if none is named; the next run retries them.

    ``units`` are names or files of episodes. Raises BadInput for one that is not quarantined.
    """
    quarantined = list(quarantined)
    names = {unit.unit for unit in quarantined} | {str(unit.file) for unit in quarantined}
    unknown = [name for name in units if name not in names]
    if unknown:
        raise BadInput(
            f"not in quarantine: {', '.join(unknown)}",
            fix="In quarantine: "
            f"{', '.join(sorted({unit.unit for unit in quarantined})) or 'no episodes'}.",
        )
    selected = [
        unit for unit in quarantined if not units or {unit.unit, str(unit.file)} & set(units)
    ]
    return [unit for unit in selected if store.discard(unit.stage, unit.key)]


def _newest_records(store: Store) -> list[StageRecord]:
    """Return the newest record of each stage and unit, at the stages' current versions.

    Only of stages that define ``failed_rows``, which are those that read episodes.
    """
    records = list(store.records())
    affected = {r.stage for r in records if QUARANTINE_REASONS.intersection(r.reasons)}
    versions = {
        name: stage.version
        for name, stage in zip(affected, map(_load_stage, affected), strict=True)
        if stage is not None and stage.failed_rows is not None
    }
    newest: dict[tuple[str, str], tuple[int, StageRecord]] = {}
    for record in records:
        if record.version != versions.get(record.stage):
            continue
        modified = (store.folder(record.stage, record.key) / store.RECORD).stat().st_mtime_ns
        unit = (record.stage, record.unit)
        if unit not in newest or newest[unit][0] < modified:
            newest[unit] = (modified, record)
    return [record for _, record in newest.values()]


def _load_stage(name: str) -> Stage[Any, Any] | None:
    """Load a stage; None if it came from outside MiMix and is not importable any more."""
    try:
        return registry.get_stage(name)
    except ModuleNotFoundError:
        return None


def _find_episode(
    rows: Sequence[Mapping[str, Any]], by_id: dict[str, SourceEpisode]
) -> SourceEpisode | None:
    """Find the episode by the id in its rows: the file may have been renamed since."""
    return next((by_id[row["episode_id"]] for row in rows if row.get("episode_id") in by_id), None)
