"""Proposed tracks in the studio: items that a person names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mimix_core.characters.proposals import FILE, ProposedTrack, load_proposals
from mimix_core.engine.artifacts import digest_file
from mimix_core.project.item_decisions import ItemDecision
from mimix_core.project.named_tracks import (
    PROPOSALS,
    characters_folder,
    name_decision,
    track_item,
)
from mimix_core.studio.studio_item import StudioItem
from mimix_core.tables import Status

CROP_ROLES = ("crop-0", "crop-1", "crop-2", "crop-3", "crop-4", "crop-5")
"""Roles of the pictures of a track; a proposed track has three."""


def proposals_folder(workspace: Path) -> Path:
    """Return the folder of proposed tracks and their pictures."""
    return characters_folder(workspace) / PROPOSALS


def read_proposals(workspace: Path) -> tuple[tuple[ProposedTrack, ...], str]:
    """Return the proposed tracks and the digest of their file; nothing if there are none.

    Raises BadInput for a damaged file.
    """
    folder = proposals_folder(workspace)
    if not (folder / FILE).exists():
        return (), ""
    return load_proposals(folder), digest_file(folder / FILE)


def track_to_item(track: ProposedTrack) -> StudioItem:
    """Describe a proposed track. Its guess is the character that it is filtered by."""
    crops = dict(zip(CROP_ROLES, track.crops, strict=False))
    return StudioItem(
        "track",
        track_item(track.show, track.track_id),
        track.show,
        status=Status.OK,
        characters=(track.guess,),
        numbers={"similarity": track.similarity},
        data={"group": track.group, "guess": track.guess, "problem": track.problem},
        files={"frame": track.picture, **crops},
    )


def naming_problems(meta: Mapping[str, Any], item: Mapping[str, Any], character: str) -> list[str]:
    """List why a track cannot be given a name; nothing if it shows none of the cast."""
    roster = meta["casts"].get(item["show"], {"roster": []})["roster"]
    if character and character not in roster:
        return [f"{item['show']} has no character {character!r}"]
    return []


def build_naming(
    workspace: Path,
    item: str,
    files: Mapping[str, Path | None],
    character: str,
    reviewer: str,
    batch: str,
) -> ItemDecision:
    """Build the decision whom a track shows. ``files``: of the item by role."""
    crops = [path for role in CROP_ROLES if (path := files.get(role)) is not None]
    return name_decision(workspace, item, crops, character, reviewer, batch)
