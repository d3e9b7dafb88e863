"""Build rows of the composites table, and planning inputs from rows of clips and cutouts."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mimix_core import tables
from mimix_core.domain.ids import composite_id
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import digest_file
from mimix_core.stages.composites.pairing import CutoutCandidate
from mimix_core.stages.composites.placement_search import (
    ClipGeometry,
    CutoutBoxes,
    LocatedCharacter,
    PlacedPair,
)
from mimix_core.stages.composites.scale_translate import FrameSize, boxes_array, non_empty_mask
from mimix_core.stages.composites.stored_rows import StoredClip, StoredCutout
from mimix_core.tables import Row


def build_candidate(cutout: StoredCutout) -> CutoutCandidate:
    """Build the pairing candidate of a cutout."""
    return CutoutCandidate(cutout.cutout_id, cutout.clip_id, cutout.character, Style(cutout.style))


def build_cutout_boxes(cutout: StoredCutout) -> CutoutBoxes:
    """Build the placement input of a cutout."""
    row = cutout.row
    return CutoutBoxes(
        row["clip_id"], boxes_array(row["boxes"]), frozenset(row["border"]), cutout.path
    )


def build_clip_geometry(clip: StoredClip, cutouts: Iterable[StoredCutout]) -> ClipGeometry:
    """Build the placement input of a clip with all segmented characters.

    ``cutouts``: of the clip's characters, rejected ones included; the usable ones have masks.
    """
    characters = []
    for cutout in cutouts:
        boxes_N4 = boxes_array(cutout.row["boxes"])
        if non_empty_mask(boxes_N4).any():
            characters.append(LocatedCharacter(boxes_N4, cutout.path if cutout.usable else None))
    row = clip.row
    return ClipGeometry(clip.path, FrameSize(row["width"], row["height"]), tuple(characters))


def base_columns(
    cutout: StoredCutout, source: StoredClip, background: StoredClip | None
) -> dict[str, Any]:
    """Build the columns of a pair before rendering; without a background, of an unused cutout."""
    values: dict[str, Any] = {
        "composite_id": f"{cutout.cutout_id}-unused",
        "cutout_id": cutout.cutout_id,
        "source_clip_id": cutout.clip_id,
        "background_clip_id": "",
        "source_episode_id": source.episode_id,
        "background_episode_id": "",
        "show": "",
        "style": "",
        "character": cutout.character,
        "character_style": cutout.style,
        "rank": -1,
        "scale": 0.0,
        "x": 0.0,
        "y": 0.0,
        "path": [],
        "source_camera": "",
        "background_camera": "",
        "covered": 0.0,
        "ground": None,
        "width": 0,
        "height": 0,
        "frames": 0,
        "file": "",
        "sheet_file": "",
        "sha256": "",
    }
    if background is None:
        return values
    row = background.row
    return values | {
        "composite_id": composite_id(cutout.cutout_id, row["clip_id"]),
        "background_clip_id": row["clip_id"],
        "background_episode_id": row["episode_id"],
        "show": row["show"],
        "style": row["style"],
        "width": row["width"],
        "height": row["height"],
        "frames": row["frames"],
    }


def build_composite_row(values: Row, placed: PlacedPair, out: Path, video: str, sheet: str) -> Row:
    """Build the row of a rendered composite; its rank is assigned later."""
    path = placed.placement.path
    first = path[0]
    constant = all(transform == first for transform in path)
    return tables.ok(
        **values
        | {
            "scale": first.scale,
            "x": first.x,
            "y": first.y,
            "path": []
            if constant
            else [[transform.scale, transform.x, transform.y] for transform in path],
            "source_camera": "moving" if placed.source_camera_moves else "static",
            "background_camera": "moving" if placed.background_camera_moves else "static",
            "covered": placed.placement.covered,
            "ground": placed.placement.ground,
            "file": video,
            "sheet_file": sheet,
            "sha256": digest_file(out / video),
        }
    )
