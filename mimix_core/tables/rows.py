"""Define rows, their status and reason, and tables as typed rows with an Arrow schema."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from types import UnionType
from typing import (
    Any,
    Generic,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import pyarrow as pa
from typing_extensions import TypedDict, get_original_bases, is_typeddict

Row = dict[str, Any]
"""A row under construction; ``write`` validates it against the table's schema."""


class Status(StrEnum):
    """Outcome of a row."""

    OK = "ok"
    REJECTED = "rejected"
    FAILED = "failed"


class Reason(StrEnum):
    """Why a row was rejected (it does not qualify) or failed (an error occurred)."""

    UNREADABLE_VIDEO = "unreadable_video"
    NO_VIDEO_STREAM = "no_video_stream"
    VIDEO_TRUNCATED = "video_truncated"
    VIDEO_DAMAGED = "video_damaged"
    VIDEO_TOO_LARGE = "video_too_large"
    DECODER_CRASHED = "decoder_crashed"
    DECODER_HUNG = "decoder_hung"
    UNFORESEEN_ERROR = "unforeseen_error"
    EPISODE_UNUSABLE = "episode_unusable"
    SCENE_TRANSITION = "scene_transition"
    SCENE_CLOCK_BREAK = "scene_clock_break"
    SCENE_DAMAGED = "scene_damaged"
    SCENE_TOO_SHORT = "scene_too_short"
    SCENE_BLACK = "scene_black"
    SCENE_FROZEN = "scene_frozen"
    SCENE_CREDITS = "scene_credits"
    CROP_TOO_DEEP = "crop_too_deep"
    TEXT_REMAINS = "text_remains"
    SOURCE_TOO_SMALL = "source_too_small"
    DETECTOR_FAILED = "detector_failed"
    CLIP_BLACK = "clip_black"
    CLIP_FROZEN = "clip_frozen"
    CLIP_BLURRED = "clip_blurred"
    CLIP_WITHOUT_MOTION = "clip_without_motion"
    NEAR_DUPLICATE = "near_duplicate"
    ENCODE_FAILED = "encode_failed"
    PROOF_FAILED = "proof_failed"
    SUBTITLES_UNREADABLE = "subtitles_unreadable"
    NO_VOICE = "no_voice"
    NO_ACTION_IN_SCRIPT = "no_action_in_script"
    NO_CHARACTER = "no_character"
    LEFT_OUT_BY_HAND = "left_out_by_hand"
    CAPTION_CHECK_FAILED = "caption_check_failed"
    CAPTION_REFUSED = "caption_refused"
    CAPTION_TRUNCATED = "caption_truncated"
    CAPTION_INVALID = "caption_invalid"
    CAPTION_REJECTED = "caption_rejected"
    CAPTION_UNAVAILABLE = "caption_unavailable"
    NOT_LOCATED = "not_located"
    LOCATE_FAILED = "locate_failed"
    MASK_ABSENT = "mask_absent"
    MASK_AREA = "mask_area"
    MASK_UNSTABLE = "mask_unstable"
    MASK_JUMPS = "mask_jumps"
    MASK_FLICKERS = "mask_flickers"
    MASK_FRAGMENTED = "mask_fragmented"
    MASK_HOLES = "mask_holes"
    MASK_AT_BORDER = "mask_at_border"
    MASK_LEAVES_BOX = "mask_leaves_box"
    MASK_MISSES_BOX = "mask_misses_box"
    MASK_UNSURE = "mask_unsure"
    SEGMENT_FAILED = "segment_failed"
    ACTS_WITH_OTHERS = "acts_with_others"
    ACTS_WITH_THINGS = "acts_with_things"
    NO_PLACE = "no_place"
    NO_GROUND = "no_ground"
    RENDER_FAILED = "render_failed"
    NOT_NEEDED_FOR_RATIO = "not_needed_for_ratio"
    HELD_OUT = "held_out"
    EXCLUDED_CHARACTER = "excluded_character"
    NOT_REPLAYED = "not_replayed"
    NO_BACKGROUND = "no_background"
    NO_CAPTION = "no_caption"
    NO_LATENT = "no_latent"
    NO_MASK = "no_mask"
    SIZE_DOES_NOT_FIT = "size_does_not_fit"
    GENERATION_FAILED = "generation_failed"
    METRIC_FAILED = "metric_failed"
    NO_VIDEO = "no_video"
    ANSWER_REFUSED = "answer_refused"
    ANSWER_TRUNCATED = "answer_truncated"
    ANSWER_INVALID = "answer_invalid"
    ANSWER_REJECTED = "answer_rejected"
    ANSWER_UNAVAILABLE = "answer_unavailable"
    UPSTREAM_FAILED = "upstream_failed"


class BaseRow(TypedDict):
    """The last columns of every table."""

    status: str
    reason: str | None
    detail: str | None


R = TypeVar("R", bound=BaseRow)


@dataclass(frozen=True)
class Table(Generic[R]):
    """A table of one stage: its row type, the Arrow schema derived from it, and its key columns.

    ``id`` is the sorted unique column. ``parent`` names the column with the id of the upstream row
    that a row was derived from. ``locations``: columns that say where a file of another table lies;
    its digest is another column, so they are not part of the rows' content.
    """

    name: str
    version: int
    row: type[R]
    schema: pa.Schema
    id: str
    parent: str | None = None
    locations: tuple[str, ...] = ()


def table(
    name: str,
    version: int,
    row: type[R],
    *,
    id: str,
    parent: str | None = None,
    locations: tuple[str, ...] = (),
) -> Table[R]:
    """Define a table by its row type. Raises TypeError for an unsupported column type."""
    return Table(name, version, row, row_schema(row), id, parent, locations)


def row_schema(row: type[Any]) -> pa.Schema:
    """Derive the Arrow schema of a row type: its own columns first, then the inherited ones.

    A column is nullable when its type allows None. Nested TypedDicts become structs.
    """
    hints = get_type_hints(row)
    fields = []
    for name in _column_order(row):
        kind, nullable = _without_none(hints[name])
        fields.append(pa.field(name, _arrow_type(kind), nullable=nullable))
    return pa.schema(fields)


_SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def _column_order(row: type[Any]) -> list[str]:
    bases = [base for base in get_original_bases(row) if is_typeddict(base)]
    inherited = [name for base in bases for name in _column_order(base)]
    return [name for name in row.__annotations__ if name not in inherited] + inherited


def _without_none(kind: Any) -> tuple[Any, bool]:
    if get_origin(kind) is UnionType:
        kinds = [member for member in get_args(kind) if member is not type(None)]
        if len(kinds) == 1:
            return kinds[0], True
    return kind, False


def _arrow_type(kind: Any) -> pa.DataType:
    if kind in _SCALARS:
        return _SCALARS[kind]
    if kind is bytes:
        return pa.binary()
    if get_origin(kind) is list:
        return pa.list_(_arrow_type(get_args(kind)[0]))
    if is_typeddict(kind):
        hints = get_type_hints(kind)
        return pa.struct([(name, _arrow_type(hints[name])) for name in _column_order(kind)])
    raise TypeError(f"unsupported column type {kind!r}")


def ok(**values: Any) -> Row:
    """Build a row that qualifies."""
    return {**values, "status": Status.OK.value, "reason": None, "detail": None}


def rejected(reason: Reason, detail: str, **values: Any) -> Row:
    """Build a row that does not qualify, without an error."""
    return {**values, "status": Status.REJECTED.value, "reason": reason.value, "detail": detail}


def failed(reason: Reason, detail: str, **values: Any) -> Row:
    """Build a row for which an error occurred."""
    return {**values, "status": Status.FAILED.value, "reason": reason.value, "detail": detail}
