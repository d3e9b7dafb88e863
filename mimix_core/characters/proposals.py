"""Tracks that a bank is not sure of: saved for a person to name, those that look alike together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter, ValidationError

from mimix_core.characters.bank import Floats
from mimix_core.engine.artifacts import FrozenModel
from mimix_core.engine.atomic_io import atomic_write_bytes
from mimix_core.errors import BadInput

FILE = "proposals.json"

SAME_LOOK = 0.6
"""Mean similarity from which two groups of tracks count as one look."""


class ProposedTrack(FrozenModel):
    """A track that may show a character.

    ``group``: tracks of one number look alike. ``guess``: the character it is nearest to, with
    the ``similarity`` and what it lacks (``problem``). ``crops`` and ``picture``: files beside
    ``proposals.json``; the picture has the box drawn in the frame.
    """

    show: str
    track_id: str
    group: int
    guess: str
    similarity: float
    problem: str
    crops: tuple[str, ...]
    picture: str


_TRACKS = TypeAdapter(tuple[ProposedTrack, ...])


def group_by_look(vectors_TD: Floats, same_look: float = SAME_LOOK) -> list[int]:
    """Number the groups of T unit vectors that look alike, by average linkage, largest first."""
    if len(vectors_TD) < 2:
        return [1] * len(vectors_TD)
    from scipy.cluster.hierarchy import fcluster, linkage

    merged = linkage(vectors_TD.astype(np.float64), method="average", metric="cosine")
    labels = fcluster(merged, 1 - same_look, criterion="distance")
    groups = [np.flatnonzero(labels == label).tolist() for label in sorted(set(labels))]
    groups.sort(key=lambda group: (-len(group), group[0]))
    numbers = [0] * len(vectors_TD)
    for number, group in enumerate(groups, start=1):
        for index in group:
            numbers[index] = number
    return numbers


def save_proposals(folder: Path, tracks: Sequence[ProposedTrack]) -> None:
    """Write the proposed tracks next to their pictures, in place of earlier ones."""
    records = [track.model_dump(mode="json") for track in tracks]
    atomic_write_bytes(folder / FILE, (json.dumps(records, indent=1) + "\n").encode())


def load_proposals(folder: Path) -> tuple[ProposedTrack, ...]:
    """Load the proposed tracks. Raises BadInput if there are none, or for a damaged file."""
    path = folder / FILE
    if not path.exists():
        raise BadInput(
            "no tracks were proposed yet", where=str(folder), fix="Run mimix characters propose."
        )
    try:
        return _TRACKS.validate_json(path.read_bytes())
    except ValidationError as error:
        raise BadInput(
            "is not a file of proposed tracks", where=str(path), fix="Propose them again."
        ) from error


def select_tracks(tracks: Sequence[ProposedTrack], wanted: Sequence[str]) -> list[ProposedTrack]:
    """Select tracks by id, or by group as ``SHOW/NUMBER``. Raises BadInput for an unknown one."""
    selected: dict[str, ProposedTrack] = {}
    for name in wanted:
        found = [t for t in tracks if name in (t.track_id, f"{t.show}/{t.group}")]
        if not found:
            groups = sorted({f"{track.show}/{track.group}" for track in tracks})
            raise BadInput(
                f"no proposed track or group {name}", fix=f"Groups: {', '.join(groups)}."
            )
        selected |= {track.track_id: track for track in found}
    return list(selected.values())
