"""The tables between stages: their Arrow schemas, and how they are written and read.

Every table is Parquet (zstd), sorted by id, with the schema version and the stage key in its
metadata, and byte-identical for identical rows. Every row has ``status``, ``reason`` and
``detail``: what was rejected or failed stays as a row.
"""

from mimix_core.tables.augmentation_tables import COMPOSITES, CUTOUTS, DATASET, MASKS
from mimix_core.tables.benchmark_tables import REPORT, SAMPLES, SCORES
from mimix_core.tables.columns import Reason, Row, Status, Table, failed, ok, rejected
from mimix_core.tables.curation_tables import (
    CAPTIONS,
    CLIPS,
    DUPLICATES,
    FRAMES,
    OVERLAYS,
    SCENES,
    TRANSCRIPTS,
)
from mimix_core.tables.judge_tables import DUELS, JUDGEMENTS
from mimix_core.tables.parquet_io import read, usable, validate, write
from mimix_core.tables.training_tables import BACKBONE, EMBEDDINGS, LATENTS, LORA

__all__ = [
    "BACKBONE",
    "CAPTIONS",
    "CLIPS",
    "COMPOSITES",
    "CUTOUTS",
    "DATASET",
    "DUELS",
    "DUPLICATES",
    "EMBEDDINGS",
    "FRAMES",
    "JUDGEMENTS",
    "LATENTS",
    "LORA",
    "MASKS",
    "OVERLAYS",
    "REPORT",
    "SAMPLES",
    "SCENES",
    "SCORES",
    "TRANSCRIPTS",
    "Reason",
    "Row",
    "Status",
    "Table",
    "failed",
    "ok",
    "read",
    "rejected",
    "usable",
    "validate",
    "write",
]
