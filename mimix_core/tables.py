"""The tables between stages: their Arrow schemas, and how they are written and read.

Every table is Parquet (zstd), sorted by id, with the schema version and the stage key in its
metadata, and byte-identical for identical rows. Every row has ``status``, ``reason`` and
``detail``: what was rejected or failed stays as a row.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from mimix_core.errors import BadInput

Row = dict[str, Any]


class Status(StrEnum):
    """What became of a row."""

    OK = "ok"
    REJECTED = "rejected"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a row was rejected (it does not qualify) or failed (something broke)."""

    UNREADABLE_VIDEO = "unreadable_video"
    NO_VIDEO_STREAM = "no_video_stream"
    EPISODE_UNUSABLE = "episode_unusable"
    SCENE_TOO_SHORT = "scene_too_short"
    SCENE_BLACK = "scene_black"
    SCENE_FROZEN = "scene_frozen"
    SCENE_CREDITS = "scene_credits"
    CROP_TOO_DEEP = "crop_too_deep"
    DETECTOR_FAILED = "detector_failed"
    ENCODE_FAILED = "encode_failed"
    PROOF_FAILED = "proof_failed"
    NO_ACTION_IN_SCRIPT = "no_action_in_script"
    CAPTION_CHECK_FAILED = "caption_check_failed"
    NOT_LOCATED = "not_located"
    MASK_ABSENT = "mask_absent"
    MASK_AREA = "mask_area"
    MASK_UNSTABLE = "mask_unstable"
    MASK_AT_BORDER = "mask_at_border"
    MASK_LEAVES_BOX = "mask_leaves_box"
    SEGMENT_FAILED = "segment_failed"
    RENDER_FAILED = "render_failed"
    NOT_NEEDED_FOR_RATIO = "not_needed_for_ratio"
    HELD_OUT = "held_out"
    NO_BACKGROUND = "no_background"
    NO_CAPTION = "no_caption"
    NO_LATENT = "no_latent"
    GENERATION_FAILED = "generation_failed"
    METRIC_FAILED = "metric_failed"
    UPSTREAM_FAILED = "upstream_failed"


def _schema(*fields: tuple[str, pa.DataType]) -> pa.Schema:
    nullable = {"reason", "detail"}
    common = [("status", pa.string()), ("reason", pa.string()), ("detail", pa.string())]
    return pa.schema(
        [pa.field(name, kind, nullable=name in nullable) for name, kind in [*fields, *common]]
    )


@dataclass(frozen=True)
class Table:
    """Schema of one stage's table. ``id`` is its sorted unique column.

    ``parent`` names the column that holds the id of the row upstream that a row came from.
    """

    name: str
    version: int
    schema: pa.Schema
    id: str
    parent: str | None = None


_TEXT, _INT, _FLOAT, _BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()

SCENES = Table(
    "scenes",
    1,
    _schema(
        ("scene_id", _TEXT),
        ("episode_id", _TEXT),
        ("show", _TEXT),
        ("style", _TEXT),
        # PTS of the episode's first frame; the origin of all script and subtitle times.
        ("origin_pts", _INT),
        ("start_pts", _INT),
        ("end_pts", _INT),
        ("time_base_num", _INT),
        ("time_base_den", _INT),
        ("frames", _INT),
        # Size as shown: after rotation and sample aspect ratio.
        ("width", _INT),
        ("height", _INT),
        ("motion", _FLOAT),
        ("sharpness", _FLOAT),
        ("black_share", _FLOAT),
        ("frozen_share", _FLOAT),
    ),
    id="scene_id",
    parent="episode_id",
)

OVERLAYS = Table(
    "overlays",
    1,
    _schema(
        ("episode_id", _TEXT),
        ("backend", _TEXT),
        ("width", _INT),
        ("height", _INT),
        ("sampled_pts", pa.list_(_INT)),
        # Text boxes taken for overlays: [x0, y0, x1, y1] pixels as shown, with the frame's PTS.
        ("boxes", pa.list_(pa.struct([("pts", _INT), ("box", pa.list_(_INT))]))),
        # The rectangle that is kept, pixels as shown.
        ("crop_x", _INT),
        ("crop_y", _INT),
        ("crop_width", _INT),
        ("crop_height", _INT),
        # A sampled frame for the report, relative to the table.
        ("frame_file", _TEXT),
    ),
    id="episode_id",
    parent="episode_id",
)

CLIPS = Table(
    "clips",
    1,
    _schema(
        ("clip_id", _TEXT),
        ("scene_id", _TEXT),
        ("episode_id", _TEXT),
        ("show", _TEXT),
        ("style", _TEXT),
        ("origin_pts", _INT),
        ("time_base_num", _INT),
        ("time_base_den", _INT),
        # PTS of the source frame behind each of the 81 frames.
        ("source_pts", pa.list_(_INT)),
        ("source_width", _INT),  # of the source as shown
        ("source_height", _INT),
        # x, y, width, height, pixels of the source as shown: what fills the clip's frame (with
        # fit=crop after the cut to the bucket's aspect ratio).
        ("crop", pa.list_(_INT)),
        ("width", _INT),
        ("height", _INT),
        ("frames", _INT),
        ("rate_num", _INT),
        ("rate_den", _INT),
        ("file", _TEXT),
        ("sha256", _TEXT),
    ),
    id="clip_id",
    parent="scene_id",
)

TRANSCRIPTS = Table(
    "transcripts",
    1,
    _schema(
        ("clip_id", _TEXT),
        ("backend", _TEXT),
        ("text", _TEXT),
        # Milliseconds of clip play; only read by people and prompts, never decided on.
        ("lines", pa.list_(pa.struct([("start_ms", _INT), ("end_ms", _INT), ("text", _TEXT)]))),
    ),
    id="clip_id",
    parent="clip_id",
)

_ACTIONS = pa.list_(pa.struct([("name", _TEXT), ("action", _TEXT)]))

CAPTIONS = Table(
    "captions",
    1,
    _schema(
        ("clip_id", _TEXT),
        ("backend", _TEXT),
        ("caption", _TEXT),
        ("actions", _ACTIONS),
        ("context", _TEXT),
        ("style", _TEXT),
    ),
    id="clip_id",
    parent="clip_id",
)

CUTOUTS = Table(
    "cutouts",
    1,
    _schema(
        ("cutout_id", _TEXT),
        ("clip_id", _TEXT),
        ("show", _TEXT),
        ("style", _TEXT),
        ("character", _TEXT),
        ("locator", _TEXT),
        ("backend", _TEXT),
        ("area", pa.list_(_FLOAT)),  # share of the frame, one a frame
        ("boxes", pa.list_(pa.list_(_INT))),  # x0, y0, x1, y1 of the mask, one a frame
        ("presence", _FLOAT),
        ("border", pa.list_(_TEXT)),  # sides of the frame the character is cut off at
        ("file", _TEXT),  # Parquet of the masks, see MASKS
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
    1,
    _schema(
        ("composite_id", _TEXT),
        ("cutout_id", _TEXT),
        ("source_clip_id", _TEXT),
        ("background_clip_id", _TEXT),
        ("source_episode_id", _TEXT),
        ("background_episode_id", _TEXT),
        ("show", _TEXT),  # of the background
        ("style", _TEXT),  # of the background
        ("character", _TEXT),
        ("character_style", _TEXT),
        ("rank", _INT),  # place in the plan: the first n of a plan are the plan for n
        # The source's frame is scaled, and its corner put at x, y of the background's.
        ("scale", _FLOAT),
        ("x", _INT),
        ("y", _INT),
        ("width", _INT),
        ("height", _INT),
        ("frames", _INT),
        ("file", _TEXT),
        ("sheet_file", _TEXT),  # source, mask, background, result
        ("sha256", _TEXT),
    ),
    id="composite_id",
    parent="cutout_id",
)

DATASET = Table(
    "dataset",
    1,
    _schema(
        ("sample_id", _TEXT),  # clip_id or composite_id
        ("kind", _TEXT),  # original | composite
        ("split", _TEXT),  # train | val | test
        ("show", _TEXT),
        ("style", _TEXT),
        ("characters", pa.list_(_TEXT)),
        ("caption", _TEXT),
        ("video", _TEXT),  # relative to the store
        ("sha256", _TEXT),
        ("frames", _INT),
        ("width", _INT),
        ("height", _INT),
    ),
    id="sample_id",
    parent="sample_id",
)

BACKBONE = Table(
    "backbone",
    1,
    _schema(
        ("component", _TEXT),  # transformer | vae | text_encoder | tokenizer | scheduler
        ("backbone", _TEXT),  # its own name; a stand-in never carries the real one's
        ("folder", _TEXT),
        ("sha256", _TEXT),
        ("parameters", _INT),
    ),
    id="component",
)

LATENTS = Table(
    "latents",
    1,
    _schema(
        ("sample_id", _TEXT),
        ("backbone", _TEXT),
        ("file", _TEXT),  # safetensors with `latents_CTHW`, normalised VAE means
        ("shape", pa.list_(_INT)),
        ("sha256", _TEXT),
    ),
    id="sample_id",
    parent="sample_id",
)

EMBEDDINGS = Table(
    "embeddings",
    1,
    _schema(
        ("sample_id", _TEXT),
        ("backbone", _TEXT),
        ("caption", _TEXT),
        ("tokens", _INT),
        ("file", _TEXT),  # safetensors with `text_LD`, cut to its true length
        ("sha256", _TEXT),
    ),
    id="sample_id",
    parent="sample_id",
)

LORA = Table(
    "lora",
    1,
    _schema(
        ("sample_id", _TEXT),  # each dataset row: trained on, held out, or why neither
        ("split", _TEXT),
        ("seen", _INT),  # how often it was trained on
    ),
    id="sample_id",
    parent="sample_id",
)

SAMPLES = Table(
    "samples",
    1,
    _schema(
        ("prompt_id", _TEXT),
        ("category", _TEXT),
        ("prompt", _TEXT),
        ("characters", pa.list_(_TEXT)),
        ("backbone", _TEXT),
        ("seed", _INT),
        ("file", _TEXT),
        ("sha256", _TEXT),
        ("frames", _INT),
        ("width", _INT),
        ("height", _INT),
    ),
    id="prompt_id",
    parent="prompt_id",
)

SCORES = Table(
    "scores",
    1,
    _schema(
        ("score_id", _TEXT),  # video id + metric
        ("video_id", _TEXT),
        ("kind", _TEXT),  # sample | clip (real footage, for scale)
        ("metric", _TEXT),  # dimension/backend, e.g. imaging_quality/brisque
        ("value", _FLOAT),
    ),
    id="score_id",
    parent="video_id",
)

REPORT = Table(
    "report",
    1,
    _schema(("page", _TEXT), ("file", _TEXT)),
    id="page",
)


def ok(**values: Any) -> Row:
    """A row that qualifies."""
    return {**values, "status": Status.OK.value, "reason": None, "detail": None}


def rejected(reason: Reason, detail: str, **values: Any) -> Row:
    """A row that does not qualify; nothing broke."""
    return {**values, "status": Status.REJECTED.value, "reason": reason.value, "detail": detail}


def failed(reason: Reason, detail: str, **values: Any) -> Row:
    """A row for which something broke."""
    return {**values, "status": Status.FAILED.value, "reason": reason.value, "detail": detail}


def validate(table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError naming the first row that the table's contract does not allow."""
    names = set(table.schema.names)
    reasons = {reason.value for reason in Reason}
    seen: set[str] = set()
    for row in rows:
        label = f"{table.name} row {row.get(table.id)!r}"
        if set(row) != names:
            missing, extra = sorted(names - set(row)), sorted(set(row) - names)
            raise ValueError(f"{label}: missing columns {missing}, unknown columns {extra}")
        if row[table.id] in seen:
            raise ValueError(f"{label}: the id stands twice")
        seen.add(row[table.id])
        status = Status(row["status"])
        if (status is Status.OK) != (row["reason"] is None):
            raise ValueError(f"{label}: status {status} with reason {row['reason']!r}")
        if row["reason"] is not None and row["reason"] not in reasons:
            raise ValueError(f"{label}: unknown reason {row['reason']!r}")


def write(path: Path, table: Table, rows: Iterable[Mapping[str, Any]], *, stage_key: str) -> None:
    """Write ``rows``, sorted by id, as one Parquet file: same rows and key, same bytes."""
    ordered = sorted(rows, key=lambda row: str(row[table.id]))
    validate(table, ordered)
    metadata = {
        "mimix.table": table.name,
        "mimix.schema_version": str(table.version),
        "mimix.stage_key": stage_key,
    }
    arrow = pa.Table.from_pylist(
        [dict(row) for row in ordered], schema=table.schema.with_metadata(metadata)
    )
    pq.write_table(arrow, path, compression="zstd", row_group_size=65536)


def read(path: Path, table: Table) -> list[Row]:
    """All rows of a table. Raises BadInput when the file is not this table at this version."""
    try:
        arrow = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise BadInput(
            f"not a readable {table.name} table ({error})",
            where=os.fspath(path),
            fix="Run the stage that makes it again.",
        ) from error
    metadata = arrow.schema.metadata or {}
    found = metadata.get(b"mimix.table", b"").decode()
    version = metadata.get(b"mimix.schema_version", b"").decode()
    if found != table.name or version != str(table.version):
        raise BadInput(
            f"holds table {found or 'unknown'} version {version or 'unknown'}, "
            f"wanted {table.name} version {table.version}",
            where=os.fspath(path),
            fix="Run the stage that makes it again with this version of MiMix.",
        )
    rows: list[Row] = arrow.to_pylist()
    return rows


def usable(rows: Iterable[Row]) -> Iterator[Row]:
    """The rows whose status is ok."""
    return (row for row in rows if row["status"] == Status.OK)
