"""Define the tables from episodes to captioned clips."""

from __future__ import annotations

import pyarrow as pa
from typing_extensions import TypedDict

from mimix_core.tables.rows import BaseRow, table


class TextBox(TypedDict):
    """A line of text detected in one frame: x0, y0, x1, y1 in display pixels."""

    pts: int
    box: list[int]


class TimedText(TypedDict):
    """Spoken text with start and end in milliseconds from the start of the clip."""

    start_ms: int
    end_ms: int
    text: str


class CharacterActionValue(TypedDict):
    """One action of one character, as stored in a caption row."""

    name: str
    action: str


class SceneRow(BaseRow):
    """One row of the table ``scenes``."""

    # The rows of an episode cover it without gaps from its first frame to its end: a transition
    # between scenes (a dissolve, a fade) is a separate, rejected row.
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
    # Display size: after rotation and sample aspect ratio.
    width: int
    height: int
    # How the source's fields become frames: progressive | interlaced-tff | interlaced-bff |
    # telecine. All PTS are those of the resulting frames.
    fields: str
    # False where PTS were repaired, which depends on all earlier frames: read such an episode from
    # its start.
    seekable: bool
    motion: float
    sharpness: float
    black_share: float
    frozen_share: float
    repeat_share: float  # share of frames identical to the previous frame
    # FRAMES of the complete episode, relative to the table; empty if none could be read.
    frames_file: str


SCENES = table("scenes", 3, SceneRow, id="scene_id", parent="episode_id")

FRAMES = pa.schema(
    [
        # One row per frame, after deinterlacing. ``difference``: to the previous frame, 0..1.
        pa.field("pts", pa.int64(), nullable=False),
        pa.field("keyframe", pa.bool_(), nullable=False),
        pa.field("difference", pa.float32(), nullable=False),
        pa.field("sharpness", pa.float32(), nullable=False),
        pa.field("black", pa.bool_(), nullable=False),
        pa.field("still", pa.bool_(), nullable=False),  # part of a segment without motion
        pa.field("repeat", pa.bool_(), nullable=False),  # identical to the previous frame
        pa.field("damaged", pa.bool_(), nullable=False),  # the decoder had to conceal errors in it
    ]
)


class OverlayRow(BaseRow):
    """One row of the table ``overlays``."""

    # One row per usable scene of an episode.
    scene_id: str
    episode_id: str
    backend: str
    width: int
    height: int
    # PTS of the sampled frames of this scene.
    sampled_pts: list[int]
    # Text boxes classified as overlays: [x0, y0, x1, y1] display pixels, with the frame's PTS.
    boxes: list[TextBox]
    # The crop rectangle in display pixels: of the episode, or of this scene only.
    crop_x: int
    crop_y: int
    crop_width: int
    crop_height: int
    # Text that the crop leaves in the image, in the same form, and in words: where, how much of the
    # image it covers, and in how many sampled frames. Empty: none was found.
    remaining_boxes: list[TextBox]
    text_remains: str
    # A sampled frame of the scene for the report, relative to the table; empty for most scenes.
    frame_file: str


OVERLAYS = table("overlays", 3, OverlayRow, id="scene_id", parent="scene_id")


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
    # PTS of the source frame of each of the frames.
    source_pts: list[int]
    source_width: int  # display size of the source
    source_height: int
    # x, y, width, height of the source area that fills the clip's frame, in display pixels (with
    # fit=crop: after cropping to the bucket's aspect ratio).
    crop: list[int]
    width: int
    height: int
    frames: int
    rate_num: int
    rate_den: int
    # Measured over the clip's source frames; as in SCENES.
    motion: float
    sharpness: float
    black_share: float
    frozen_share: float
    repeat_share: float
    # Text that remains in the image: that of the scene, see OVERLAYS.
    text_remains: str
    file: str
    sha256: str
    # The audio of exactly g_0 .. g_0 + frames/16 s; empty if the source has none.
    audio_file: str
    audio_sha256: str
    # Milliseconds of the audio file that are silence because the source cannot be decoded there.
    lost_audio_ms: int
    # Perceptual fingerprint of the frames: see ``mimix_core.stages.duplicates``.
    fingerprint: bytes
    # The same of an image within the image (in a decorative frame, picture-in-picture); empty if
    # none was found.
    inset_fingerprint: bytes


CLIPS = table("clips", 5, ClipRow, id="clip_id", parent="scene_id")


class DuplicateRow(BaseRow):
    """One row of the table ``duplicates``."""

    clip_id: str
    episode_id: str
    # The earlier clip that this one duplicates; empty if it is not a duplicate.
    twin_clip_id: str
    similarity: float  # with the most similar clip of another episode, 0..1


DUPLICATES = table("duplicates", 1, DuplicateRow, id="clip_id", parent="clip_id")


class TranscriptRow(BaseRow):
    """One row of the table ``transcripts``."""

    clip_id: str
    # subtitles/sidecar | subtitles/embedded | faster-whisper | none
    backend: str
    language: str  # declared or detected; empty: unknown
    text: str
    # Milliseconds of the clip; shown to people and models, never used in decisions.
    lines: list[TimedText]
    # Only if the backend provides them (speech recognition).
    words: list[TimedText]


TRANSCRIPTS = table("transcripts", 2, TranscriptRow, id="clip_id", parent="clip_id")


class VoiceRow(BaseRow):
    """One row of the table ``voices``: one line of a clip's dialogue."""

    line_id: str
    clip_id: str
    # Milliseconds of the clip, as in TRANSCRIPTS.
    start_ms: int
    end_ms: int
    text: str
    backend: str  # spectral-statistics | wespeaker
    speech_ms: int  # of the line's time, without the pauses
    # Unit vector of the voice; empty without enough speech.
    vector: list[float]


VOICES = table("voices", 1, VoiceRow, id="line_id", parent="clip_id")


class SpeakerRow(BaseRow):
    """One row of the table ``speakers``: who speaks one line of a clip's dialogue."""

    line_id: str
    clip_id: str
    start_ms: int
    end_ms: int
    text: str
    speaker: str  # a character; empty: not known, or none of the cast
    # What it follows from: person (a decision) | text (the line names its speaker) | voice | none
    source: str
    # The character with the most similar voice, and the similarity from which it counts as theirs;
    # empty and null if no voice was compared.
    nearest: str
    similarity: float | None
    limit: float | None


SPEAKERS = table("speakers", 1, SpeakerRow, id="line_id", parent="line_id")


class CaptionRow(BaseRow):
    """One row of the table ``captions``."""

    clip_id: str
    # script | script-composed | vlm/<its backend> | hand | imported
    backend: str
    model: str  # the provider's name of it; empty if no model was used
    caption: str
    actions: list[CharacterActionValue]
    context: str
    style: str
    # All responses paid for this row, including those that failed validation.
    attempts: int
    input_tokens: int
    cached_tokens: int  # part of the input, at the provider's lower price
    output_tokens: int
    cost_usd: float | None  # null: the model's price is unknown


CAPTIONS = table("captions", 2, CaptionRow, id="clip_id", parent="clip_id")
