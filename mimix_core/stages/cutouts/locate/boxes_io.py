"""The boxes themselves, one row a frame: a file of the cutouts stage beside the masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core.errors import BadInput
from mimix_core.stages.cutouts.locate.box_track import Located
from mimix_core.tables import Row

LOCATIONS = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("character", pa.string(), nullable=False),
        # Pixels of the clip; the right and bottom sides do not belong to the box.
        pa.field("x0", pa.float64(), nullable=False),
        pa.field("y0", pa.float64(), nullable=False),
        pa.field("x1", pa.float64(), nullable=False),
        pa.field("y1", pa.float64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)
"""Only frames in which somebody was located, sorted by clip, character and frame."""

LOCATIONS_FILE = "locations.parquet"


def location_rows(clip: Row, found: Mapping[str, Located]) -> list[dict[str, Any]]:
    """A row for every box found in a clip."""
    return [
        {
            "clip_id": clip["clip_id"],
            "frame": frame,
            "character": character,
            **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
            "score": score,
        }
        for character, located in found.items()
        for frame, (box, score) in enumerate(zip(located.boxes, located.scores, strict=True))
        if box is not None
    ]


def write_locations(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows of LOCATIONS, sorted: same rows, same bytes."""
    ordered = sorted(rows, key=lambda row: (row["clip_id"], row["character"], row["frame"]))
    table = pa.Table.from_pylist([dict(row) for row in ordered], schema=LOCATIONS)
    pq.write_table(table, path, compression="zstd")


def read_locations(path: Path) -> list[Row]:
    """The rows of such a file. Raises BadInput when it is none."""
    try:
        rows: list[Row] = pq.read_table(path, schema=LOCATIONS).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"not readable as locations ({error})", where=path.name) from error
    return rows
