"""Tables of cut-outs, composites and the dataset."""

from __future__ import annotations

import pyarrow as pa

from mimix_core.tables.columns import FLOAT, INT, TEXT, Table, columns

CUTOUTS = Table(
    "cutouts",
    2,
    columns(
        ("cutout_id", TEXT),
        ("clip_id", TEXT),
        ("show", TEXT),
        ("style", TEXT),
        ("character", TEXT),
        ("locator", TEXT),
        ("backend", TEXT),
        ("area", pa.list_(FLOAT)),  # share of the frame, one a frame
        ("boxes", pa.list_(pa.list_(INT))),  # x0, y0, x1, y1 of the mask, one a frame
        ("score", pa.list_(FLOAT)),  # the backend's own confidence in 0..1, one a frame
        ("presence", FLOAT),
        ("border", pa.list_(TEXT)),  # sides of the frame the character is cut off at
        ("file", TEXT),  # Parquet of the masks, see MASKS
    ),
    id="cutout_id",
    parent="clip_id",
)

MASKS = pa.schema(
    [
        pa.field("frame", pa.int32(), nullable=False),
        pa.field("alpha_png", pa.binary(), nullable=False),  # 8 bit grey, clip size
    ]
)

COMPOSITES = Table(
    "composites",
    2,
    columns(
        ("composite_id", TEXT),
        ("cutout_id", TEXT),
        ("source_clip_id", TEXT),
        ("background_clip_id", TEXT),
        ("source_episode_id", TEXT),
        ("background_episode_id", TEXT),
        ("show", TEXT),  # of the background
        ("style", TEXT),  # of the background
        ("character", TEXT),
        ("character_style", TEXT),
        ("rank", INT),  # place in the plan: the first n of a plan are the plan for n; -1: in none
        # The source's first frame is scaled, and its corner put at x, y of the background's.
        ("scale", FLOAT),
        ("x", FLOAT),
        ("y", FLOAT),
        ("path", pa.list_(pa.list_(FLOAT))),  # scale, x, y of each frame; empty: all as the first
        ("source_camera", TEXT),  # static | moving
        ("background_camera", TEXT),
        ("covered", FLOAT),  # of the scene's own character hidden most, by the boxes
        ("width", INT),
        ("height", INT),
        ("frames", INT),
        ("file", TEXT),
        ("sheet_file", TEXT),  # source, mask, background, result
        ("sha256", TEXT),
    ),
    id="composite_id",
    parent="cutout_id",
)

DATASET = Table(
    "dataset",
    2,
    columns(
        ("sample_id", TEXT),  # clip_id or composite_id
        ("kind", TEXT),  # original | composite
        ("split", TEXT),  # train | val | test
        ("show", TEXT),
        ("style", TEXT),
        ("characters", pa.list_(TEXT)),
        ("caption", TEXT),
        ("caption_backend", TEXT),
        ("video", TEXT),  # relative to the store
        ("sha256", TEXT),
        ("frames", INT),
        ("rate_num", INT),
        ("rate_den", INT),
        ("width", INT),
        ("height", INT),
        ("episode_id", TEXT),  # of a composite: its background's
        # Of a composite; else empty, and -1.
        ("source_episode_id", TEXT),
        ("pasted", TEXT),
        ("pasted_style", TEXT),
        ("rank", INT),
    ),
    id="sample_id",
    parent="sample_id",
)
