"""Read and write the file of located boxes, one row per box, next to the masks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from typing_extensions import TypedDict

from mimix_core.errors import BadInput
from mimix_core.stages.cutouts.locate.box_track import BoxTrack
from mimix_core.tables import ClipRow

LOCATIONS_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("character", pa.string(), nullable=False),
        # Pixels of the clip; x1 and y1 are exclusive.
        pa.field("x0", pa.float64(), nullable=False),
        pa.field("y0", pa.float64(), nullable=False),
        pa.field("x1", pa.float64(), nullable=False),
        pa.field("y1", pa.float64(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),
    ]
)
"""Only frames in which the character was located, sorted by clip, character and frame."""

LOCATIONS_FILE = "locations.parquet"


class LocationRow(TypedDict):
    """One located box, see LOCATIONS_SCHEMA."""

    clip_id: str
    frame: int
    character: str
    x0: float
    y0: float
    x1: float
    y1: float
    score: float


def build_location_rows(clip: ClipRow, tracks: Mapping[str, BoxTrack]) -> list[LocationRow]:
    """Build a row for every box located in a clip; ``tracks`` by character."""
    return [
        LocationRow(
            clip_id=clip["clip_id"],
            frame=frame,
            character=character,
            x0=box[0],
            y0=box[1],
            x1=box[2],
            y1=box[3],
            score=score,
        )
        for character, track in tracks.items()
        for frame, (box, score) in enumerate(zip(track.boxes, track.scores, strict=True))
        if box is not None
    ]


def write_locations(path: Path, rows: Iterable[LocationRow]) -> None:
    """Write located boxes, sorted: same rows, same bytes."""
    ordered = sorted(rows, key=lambda row: (row["clip_id"], row["character"], row["frame"]))
    table = pa.Table.from_pylist([dict(row) for row in ordered], schema=LOCATIONS_SCHEMA)
    pq.write_table(table, path, compression="zstd")


def load_locations(path: Path) -> list[LocationRow]:
    """Load a locations file. Raises BadInput if it is not one."""
    try:
        rows: list[LocationRow] = pq.read_table(path, schema=LOCATIONS_SCHEMA).to_pylist()
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(f"not readable as a locations file ({error})", where=path.name) from error
    return rows
