"""Define the tables of cutouts, composites and the dataset."""

from __future__ import annotations

import pyarrow as pa

from mimix_core.tables.rows import BaseRow, table


class CutoutRow(BaseRow):
    """One row of the table ``cutouts``."""

    cutout_id: str
    clip_id: str
    show: str
    style: str
    character: str
    locator: str
    backend: str
    area: list[float]  # share of the frame, one value per frame
    boxes: list[list[int]]  # x0, y0, x1, y1 of the mask, one box per frame
    score: list[float]  # the backend's confidence in 0..1, one value per frame
    presence: float
    border: list[str]  # sides of the frame at which the character is cut off
    file: str  # Parquet of the masks, see MASKS


CUTOUTS = table("cutouts", 2, CutoutRow, id="cutout_id", parent="clip_id")

MASKS = pa.schema(
    [
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("alpha_png", pa.binary(), nullable=False),  # 8 bit grey, clip size
    ]
)


class CompositeRow(BaseRow):
    """One row of the table ``composites``."""

    composite_id: str
    cutout_id: str
    source_clip_id: str
    background_clip_id: str
    source_episode_id: str
    background_episode_id: str
    show: str  # of the background
    style: str  # of the background
    character: str
    character_style: str
    rank: int  # position in the plan; the first n are the plan for n composites; -1: not planned
    # The source's first frame is scaled and its corner placed at x, y of the background's.
    scale: float
    x: float
    y: float
    path: list[list[float]]  # scale, x, y of each frame; empty: constant over the clip
    source_camera: str  # static | moving
    background_camera: str
    covered: float  # largest share of a background character's mask that is hidden
    ground: float | None  # share under the feet that looks like the scene's ground; None: no feet
    width: int
    height: int
    frames: int
    file: str
    sheet_file: str  # source, mask, background, result
    sha256: str


COMPOSITES = table("composites", 3, CompositeRow, id="composite_id", parent="cutout_id")


class DatasetRow(BaseRow):
    """One row of the table ``dataset``."""

    sample_id: str  # clip_id or composite_id
    kind: str  # original | composite
    split: str  # train | val | test
    show: str
    style: str
    characters: list[str]
    caption: str
    caption_backend: str
    video: str  # relative to the store
    sha256: str
    frames: int
    rate_num: int
    rate_den: int
    width: int
    height: int
    episode_id: str  # for a composite: the background's episode
    # Only for composites; empty and -1 otherwise.
    source_episode_id: str
    pasted: str
    pasted_style: str
    rank: int


DATASET = table("dataset", 2, DatasetRow, id="sample_id", parent="sample_id", locations=("video",))
