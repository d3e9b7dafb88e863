"""Rows of the table of composites, and what is read from those of clips and cutouts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import digest_file
from mimix_core.stages.composites.pairing import Candidate
from mimix_core.stages.composites.placement_search import Chosen, Figure, Footage
from mimix_core.stages.composites.scale_translate import Size, as_boxes, present
from mimix_core.tables import Row


@dataclass(frozen=True)
class Stored:
    """A row, and where its file lies."""

    row: Row
    path: Path


def candidate(cutout: Row) -> Candidate:
    return Candidate(
        cutout["cutout_id"], cutout["clip_id"], cutout["character"], Style(cutout["style"])
    )


def figure(cutout: Row) -> Figure:
    return Figure(cutout["clip_id"], as_boxes(cutout["boxes"]), frozenset(cutout["border"]))


def footage(clip: Stored, judged: Iterable[Row]) -> Footage:
    """A clip and its characters: all that were segmented, fit to be pasted or not."""
    boxes = [as_boxes(row["boxes"]) for row in judged if row["boxes"]]
    return Footage(
        clip.path,
        Size(clip.row["width"], clip.row["height"]),
        tuple(one for one in boxes if present(one).any()),
    )


def unmade_row(cutout: Stored, source: Stored, scene: Stored | None) -> dict[str, Any]:
    """The columns of a cutout that is not (yet) in a composite; without a scene, in no pair."""
    own = cutout.row
    values: dict[str, Any] = {
        "composite_id": f"{own['cutout_id']}-unused",
        "cutout_id": own["cutout_id"],
        "source_clip_id": own["clip_id"],
        "background_clip_id": "",
        "source_episode_id": source.row["episode_id"],
        "background_episode_id": "",
        "show": "",
        "style": "",
        "character": own["character"],
        "character_style": own["style"],
        "rank": -1,
        "scale": 0.0,
        "x": 0.0,
        "y": 0.0,
        "path": [],
        "source_camera": "",
        "background_camera": "",
        "covered": 0.0,
        "width": 0,
        "height": 0,
        "frames": 0,
        "file": "",
        "sheet_file": "",
        "sha256": "",
    }
    if scene is None:
        return values
    row = scene.row
    return values | {
        "composite_id": f"{own['cutout_id']}-on-{row['clip_id']}",
        "background_clip_id": row["clip_id"],
        "background_episode_id": row["episode_id"],
        "show": row["show"],
        "style": row["style"],
        "width": row["width"],
        "height": row["height"],
        "frames": row["frames"],
    }


def made_row(values: Row, chosen: Chosen, out: Path, video: str, sheet: str) -> Row:
    """The row of a composite that was made; it gets its rank later."""
    path = chosen.placed.path
    first = path[0]
    steady = all(move == first for move in path)
    return tables.ok(
        **values
        | {
            "scale": first.scale,
            "x": first.x,
            "y": first.y,
            "path": [] if steady else [[move.scale, move.x, move.y] for move in path],
            "source_camera": "moving" if chosen.source_moves else "static",
            "background_camera": "moving" if chosen.scene_moves else "static",
            "covered": chosen.placed.covered,
            "file": video,
            "sheet_file": sheet,
            "sha256": digest_file(out / video),
        }
    )
