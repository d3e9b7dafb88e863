"""Name the tracks that were proposed: decisions of kind ``track``, and the pictures they keep.

The pictures of a named track (crops of its box in several frames) are exemplars of the character:
they are compared with windows like reference images. A decision costs no request to a model, and
changes only the cutouts of episodes that name the character.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import fsync_path, make_folder
from mimix_core.engine.jsonl_log import MalformedLog, read_records
from mimix_core.errors import BadInput
from mimix_core.project.dataset_review import current_user
from mimix_core.project.item_decisions import (
    DecisionAction,
    DecisionLedger,
    ItemDecision,
    ItemKind,
    read_item_decisions,
)

FOLDER = "characters"
PROPOSALS = "proposals"
EXEMPLARS = "exemplars"

OLD_TABLE = "named-tracks.jsonl"
"""The table of names before they were decisions, see ``convert_old_names``."""


def characters_folder(workspace: Path) -> Path:
    """Return the folder of proposals and exemplars."""
    return workspace / FOLDER


def track_item(show: str, track_id: str) -> str:
    """Return the id under which a track is decided on."""
    return f"{show}/{track_id}"


def name_decision(
    workspace: Path,
    item: str,
    crops: Sequence[Path],
    character: str,
    reviewer: str = "",
    batch: str = "",
) -> ItemDecision:
    """Build the decision that a track shows ``character``, and keep its crops as exemplars.

    ``character``: empty if it shows none of the cast, which also withdraws an earlier name.
    """
    folder = characters_folder(workspace) / EXEMPLARS
    make_folder(folder)
    return ItemDecision(
        reviewer=reviewer or current_user(),
        kind=ItemKind.TRACK,
        item=item,
        action=DecisionAction.NAME,
        character=character,
        exemplars=tuple(_keep(folder, path) for path in crops) if character else (),
        batch=batch,
    )


def decided_tracks(decisions: Path, workspace: Path) -> frozenset[str]:
    """Return the tracks on which somebody has decided, as items. Raises BadInput."""
    return frozenset(_names(decisions, workspace))


def named_exemplars(decisions: Path, workspace: Path, show: str) -> dict[str, tuple[Path, ...]]:
    """Return the exemplar files of each character of a show, by the decisions that count.

    ``decisions``: the file of decisions. Raises BadInput for a damaged one, for names of before
    that it does not have, or for a missing exemplar.
    """
    folder = characters_folder(workspace) / EXEMPLARS
    files: dict[str, list[Path]] = {}
    for item, decision in sorted(_names(decisions, workspace).items()):
        if not item.startswith(f"{show}/"):
            continue
        for name in decision.exemplars:
            if not (folder / name).is_file():
                raise BadInput(
                    f"the exemplar {name} of {decision.character} is missing",
                    where=str(folder),
                    fix="Restore it from a backup, or name the track "
                    f"{item.partition('/')[2]} again (mimix characters name).",
                )
            files.setdefault(decision.character, []).append(folder / name)
    return {name: tuple(dict.fromkeys(paths)) for name, paths in files.items()}


def _names(decisions: Path, workspace: Path) -> Mapping[str, ItemDecision]:
    ledger = read_item_decisions(decisions)
    _require_old_names(ledger, workspace)
    return ledger.named_tracks()


class _OldName(FrozenModel):
    """A line of the table of before."""

    show: str
    track_id: str
    character: str
    exemplars: tuple[str, ...] = ()
    reviewer: str
    decided_at: datetime


_OLD_NAMES = TypeAdapter(list[_OldName])


def is_old_table(text: str) -> bool:
    """Return whether a text is a table of names of before they were decisions."""
    first = text.lstrip().partition("\n")[0]
    return '"track_id"' in first and '"decision_id"' not in first


def convert_old_names(path: Path) -> list[ItemDecision]:
    """Convert the table of before to decisions: the same ones each time. Raises BadInput."""
    try:
        old = _OLD_NAMES.validate_python(read_records(path))
        return [_convert(one) for one in old]
    except (MalformedLog, ValidationError) as error:
        raise BadInput(
            f"is not a table of named tracks ({str(error).splitlines()[0]})",
            where=str(path),
            fix="Restore it from a backup, or move it away and name the tracks again.",
        ) from error


def _convert(old: _OldName) -> ItemDecision:
    content = json.dumps(old.model_dump(mode="json"), sort_keys=True)
    return ItemDecision(
        decision_id=uuid.uuid5(uuid.NAMESPACE_OID, content).hex,
        decided_at=old.decided_at,
        reviewer=old.reviewer,
        kind=ItemKind.TRACK,
        item=track_item(old.show, old.track_id),
        action=DecisionAction.NAME,
        character=old.character,
        exemplars=old.exemplars,
    )


def _require_old_names(ledger: DecisionLedger, workspace: Path) -> None:
    """Raise BadInput if there is a table of before with names that are no decisions yet."""
    path = characters_folder(workspace) / OLD_TABLE
    if not path.exists():
        return
    missing = [one for one in convert_old_names(path) if one.decision_id not in ledger.by_id]
    if missing:
        raise BadInput(
            f"{len(missing)} names of tracks are in the table of an earlier version",
            where=str(path),
            fix=f"Run `mimix decisions import SETTINGS {path}` once; the file may stay or go.",
        )


def _keep(folder: Path, crop: Path) -> str:
    """Copy a crop to the exemplars under the digest of its content, and return the file name."""
    name = f"{sha256(crop.read_bytes()).hexdigest()[:20]}{crop.suffix}"
    target = folder / name
    if not target.exists():
        unfinished = target.with_suffix(".part")
        shutil.copyfile(crop, unfinished)
        fsync_path(unfinished)
        unfinished.replace(target)
        fsync_path(folder)
    return name
