"""Keep people's decisions on who a track shows: a table that is only ever appended to.

The last decision on a track counts. The pictures of a named track (crops of its box in several
frames) are exemplars of the character: they are compared with windows like reference images. A
decision costs no request to a model, and changes only the cutouts of episodes that name the
character.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from pydantic import Field, ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.jsonl_log import JsonlLog, MalformedLog, read_records
from mimix_core.engine.locks import exclusive_lock
from mimix_core.errors import BadInput
from mimix_core.project.dataset_review import current_user

FOLDER = "characters"
TABLE = "named-tracks.jsonl"
EXEMPLARS = "exemplars"
_LOCK_FILE = ".lock"


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


class NamedTrack(FrozenModel):
    """A decision on who a track shows.

    ``character``: empty if it shows none of the cast, which also withdraws an earlier name.
    ``exemplars``: file names below ``characters/exemplars``, which contain their digest.
    """

    show: str
    track_id: str
    character: str
    exemplars: tuple[str, ...] = ()
    reviewer: str = Field(default_factory=current_user)
    decided_at: datetime = Field(default_factory=_now)


def characters_folder(workspace: Path) -> Path:
    """Return the folder of proposals, exemplars and decisions."""
    return workspace / FOLDER


def name_tracks(
    workspace: Path, show: str, crops: Mapping[str, Sequence[Path]], character: str
) -> list[NamedTrack]:
    """Append the decision that these tracks show ``character``, and keep their crops.

    ``crops``: the pictures of each track, by its id. Raises BadInput for a damaged table.
    """
    folder = characters_folder(workspace)
    (folder / EXEMPLARS).mkdir(parents=True, exist_ok=True)
    decisions = [
        NamedTrack(
            show=show,
            track_id=track_id,
            character=character,
            exemplars=tuple(_keep(folder / EXEMPLARS, path) for path in paths) if character else (),
        )
        for track_id, paths in crops.items()
    ]
    with exclusive_lock(folder / _LOCK_FILE):
        load_decisions_on_tracks(workspace)  # refuses to append to a table that is damaged
        log = JsonlLog.resume(folder / TABLE)
        try:
            log.append(*(decision.model_dump(mode="json") for decision in decisions))
        finally:
            log.close()
    return decisions


def load_decisions_on_tracks(workspace: Path) -> list[NamedTrack]:
    """Load all decisions, the earliest first. Raises BadInput for a damaged table."""
    path = characters_folder(workspace) / TABLE
    try:
        return [NamedTrack.model_validate(record) for record in read_records(path)]
    except (MalformedLog, ValidationError) as error:
        raise BadInput(
            f"is not a table of named tracks ({str(error).splitlines()[0]})",
            where=str(path),
            fix="Restore it from a backup, or move it away and name the tracks again.",
        ) from error


def named_exemplars(workspace: Path, show: str) -> dict[str, tuple[Path, ...]]:
    """Return the exemplar files of each character of a show, by the decisions that count.

    Raises BadInput for a damaged table or a missing exemplar.
    """
    folder = characters_folder(workspace) / EXEMPLARS
    files: dict[str, list[Path]] = {}
    for decision in _last_of_each_track(load_decisions_on_tracks(workspace)):
        if decision.show != show or not decision.character:
            continue
        for name in decision.exemplars:
            if not (folder / name).is_file():
                raise BadInput(
                    f"the exemplar {name} of {decision.character} is missing",
                    where=str(folder),
                    fix="Restore it from a backup, or name the track "
                    f"{decision.track_id} again (mimix characters name).",
                )
            files.setdefault(decision.character, []).append(folder / name)
    return {name: tuple(dict.fromkeys(paths)) for name, paths in files.items()}


def _last_of_each_track(decisions: Iterable[NamedTrack]) -> list[NamedTrack]:
    """Return the decisions that count, sorted by track."""
    last = {(decision.show, decision.track_id): decision for decision in decisions}
    return [last[key] for key in sorted(last)]


def _keep(folder: Path, crop: Path) -> str:
    """Copy a crop to the exemplars under the digest of its content, and return the file name."""
    name = f"{sha256(crop.read_bytes()).hexdigest()[:20]}{crop.suffix}"
    target = folder / name
    if not target.exists():
        unfinished = target.with_suffix(".part")
        shutil.copyfile(crop, unfinished)
        unfinished.replace(target)
    return name
