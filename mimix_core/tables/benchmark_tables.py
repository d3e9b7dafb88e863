"""Tables of generated videos, their scores and the report."""

from __future__ import annotations

import pyarrow as pa

from mimix_core.tables.columns import FLOAT, INT, TEXT, Table, columns

SAMPLES = Table(
    "samples",
    1,
    columns(
        ("prompt_id", TEXT),
        ("category", TEXT),
        ("prompt", TEXT),
        ("characters", pa.list_(TEXT)),
        ("backbone", TEXT),
        ("seed", INT),
        ("file", TEXT),
        ("sha256", TEXT),
        ("frames", INT),
        ("width", INT),
        ("height", INT),
    ),
    id="prompt_id",
    parent="prompt_id",
)

SCORES = Table(
    "scores",
    1,
    columns(
        ("score_id", TEXT),  # video id + metric
        ("video_id", TEXT),
        ("kind", TEXT),  # sample | clip (real footage, for scale)
        ("metric", TEXT),  # dimension/backend, e.g. imaging_quality/brisque
        ("value", FLOAT),
    ),
    id="score_id",
    parent="video_id",
)

REPORT = Table(
    "report",
    1,
    columns(("page", TEXT), ("file", TEXT)),
    id="page",
)
