"""Tables from episodes to captioned clips."""

from __future__ import annotations

import pyarrow as pa
from typing_extensions import TypedDict

from mimix_core.tables.rows import BaseRow, table


class TextBox(TypedDict):
    """A line of text found in one frame: x0, y0, x1, y1 in pixels as shown."""

    pts: int
    box: list[int]


class TimedText(TypedDict):
    """Words and when they are heard, in milliseconds from the start of the clip."""

    start_ms: int
    end_ms: int
    text: str


class CharacterActionValue(TypedDict):
    """One character doing one thing, as a caption's row stores it."""

    name: str
    action: str


class SceneRow(BaseRow):
    """One row of the table ``scenes``."""

    # The rows of an episode follow one another without a gap from its first frame to its end: what
    # belongs to no scene (a dissolve, a fade) is a rejected row of its own.
    scene_id: str
    episode_id: str
    show: str
    style: str
    # PTS of the episode's first frame; the origin of all script and subtitle times.
    origin_pts: int
    start_pts: int
    end_pts: int
    time_base_num: int
    time_base_den: int
    frames: int
    # Size as shown: after rotation and sample aspect ratio.
    width: int
    height: int
    # How the source's fields become frames: progressive | interlaced-tff | interlaced-bff |
    # telecine. All PTS are those of the frames that come out.
    fields: str
    motion: float
    sharpness: float
    black_share: float
    frozen_share: float
    repeat_share: float  # of frames that show the same picture as the one before
    # FRAMES of the whole episode, relative to the table; empty where none could be read.
    frames_file: str


SCENES = table("scenes", 2, SceneRow, id="scene_id", parent="episode_id")

FRAMES = pa.schema(
    [
        # One row a frame, in order, after deinterlacing. ``difference``: to the frame before, 0..1.
        pa.field("pts", pa.int64(), nullable=False),
        pa.field("keyframe", pa.bool_(), nullable=False),
        pa.field("difference", pa.float32(), nullable=False),
        pa.field("sharpness", pa.float32(), nullable=False),
        pa.field("black", pa.bool_(), nullable=False),
        pa.field("still", pa.bool_(), nullable=False),  # of a stretch in which nothing moves
        pa.field("repeat", pa.bool_(), nullable=False),  # the same picture as the frame before
        pa.field("damaged", pa.bool_(), nullable=False),  # the decoder had to make parts of it up
    ]
)


class OverlayRow(BaseRow):
    """One row of the table ``overlays``."""

    # One row for each usable scene of an episode.
    scene_id: str
    episode_id: str
    backend: str
    width: int
    height: int
    # Of the frames of this scene that were looked at.
    sampled_pts: list[int]
    # Text boxes taken for overlays: [x0, y0, x1, y1] pixels as shown, with the frame's PTS.
    boxes: list[TextBox]
    # The rectangle that is kept, pixels as shown: the episode's, or the scene's own.
    crop_x: int
    crop_y: int
    crop_width: int
    crop_height: int
    # A sampled frame of the scene for the report, relative to the table; empty for most.
    frame_file: str


OVERLAYS = table("overlays", 2, OverlayRow, id="scene_id", parent="scene_id")


class ClipRow(BaseRow):
    """One row of the table ``clips``."""

    clip_id: str
    scene_id: str
    episode_id: str
    show: str
    style: str
    origin_pts: int
    time_base_num: int
    time_base_den: int
    # g_0, the clip's first grid point, in seconds of the stream's clock, as a fraction.
    start_num: int
    start_den: int
    # PTS of the source frame behind each of the 81 frames.
    source_pts: list[int]
    source_width: int  # of the source as shown
    source_height: int
    # x, y, width, height, pixels of the source as shown: what fills the clip's frame (with
    # fit=crop after the cut to the bucket's aspect ratio).
    crop: list[int]
    width: int
    height: int
    frames: int
    rate_num: int
    rate_den: int
    # Over the clip's own source frames; as in SCENES.
    motion: float
    sharpness: float
    black_share: float
    frozen_share: float
    repeat_share: float
    file: str
    sha256: str
    # The sound of exactly g_0 .. g_0 + 81/16 s; empty when the source has none.
    audio_file: str
    audio_sha256: str
    # What the clip looks like, for finding it again: see ``mimix_core.stages.duplicates``.
    fingerprint: bytes


CLIPS = table("clips", 2, ClipRow, id="clip_id", parent="scene_id")


class DuplicateRow(BaseRow):
    """One row of the table ``duplicates``."""

    clip_id: str
    episode_id: str
    # The clip kept in its stead; empty for one that is kept itself.
    twin_clip_id: str
    similarity: float  # with the most similar clip of another episode, 0..1


DUPLICATES = table("duplicates", 1, DuplicateRow, id="clip_id", parent="clip_id")


class TranscriptRow(BaseRow):
    """One row of the table ``transcripts``."""

    clip_id: str
    # subtitles/sidecar | subtitles/embedded | faster-whisper | none
    backend: str
    language: str  # as stated or heard; empty: not known
    text: str
    # Milliseconds of clip play; only read by people and prompts, never decided on.
    lines: list[TimedText]
    # Where the backend knows them: speech recognition only.
    words: list[TimedText]


TRANSCRIPTS = table("transcripts", 2, TranscriptRow, id="clip_id", parent="clip_id")


class CaptionRow(BaseRow):
    """One row of the table ``captions``."""

    clip_id: str
    # script | script-composed | vlm/<its backend> | hand
    backend: str
    model: str  # as its provider names it; empty where none was asked
    caption: str
    actions: list[CharacterActionValue]
    context: str
    style: str
    # All answers that were paid for the row, those included that failed a check.
    attempts: int
    input_tokens: int
    cached_tokens: int  # of the input, billed less by the provider
    output_tokens: int
    cost_usd: float | None  # null: no price of the model is known


CAPTIONS = table("captions", 2, CaptionRow, id="clip_id", parent="clip_id")
