"""Tables from episodes to captioned clips."""

from __future__ import annotations

import pyarrow as pa

from mimix_core.tables.columns import FLOAT, INT, TEXT, Table, columns

SCENES = Table(
    "scenes",
    2,
    # The rows of an episode follow one another without a gap from its first frame to its end: what
    # belongs to no scene (a dissolve, a fade) is a rejected row of its own.
    columns(
        ("scene_id", TEXT),
        ("episode_id", TEXT),
        ("show", TEXT),
        ("style", TEXT),
        # PTS of the episode's first frame; the origin of all script and subtitle times.
        ("origin_pts", INT),
        ("start_pts", INT),
        ("end_pts", INT),
        ("time_base_num", INT),
        ("time_base_den", INT),
        ("frames", INT),
        # Size as shown: after rotation and sample aspect ratio.
        ("width", INT),
        ("height", INT),
        # How the source's fields become frames: progressive | interlaced-tff | interlaced-bff |
        # telecine. All PTS are those of the frames that come out.
        ("fields", TEXT),
        ("motion", FLOAT),
        ("sharpness", FLOAT),
        ("black_share", FLOAT),
        ("frozen_share", FLOAT),
        ("repeat_share", FLOAT),  # of frames that show the same picture as the one before
        # FRAMES of the whole episode, relative to the table; empty where none could be read.
        ("frames_file", TEXT),
    ),
    id="scene_id",
    parent="episode_id",
)

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

OVERLAYS = Table(
    "overlays",
    2,
    # One row for each usable scene of an episode.
    columns(
        ("scene_id", TEXT),
        ("episode_id", TEXT),
        ("backend", TEXT),
        ("width", INT),
        ("height", INT),
        # Of the frames of this scene that were looked at.
        ("sampled_pts", pa.list_(INT)),
        # Text boxes taken for overlays: [x0, y0, x1, y1] pixels as shown, with the frame's PTS.
        ("boxes", pa.list_(pa.struct([("pts", INT), ("box", pa.list_(INT))]))),
        # The rectangle that is kept, pixels as shown: the episode's, or the scene's own.
        ("crop_x", INT),
        ("crop_y", INT),
        ("crop_width", INT),
        ("crop_height", INT),
        # A sampled frame of the scene for the report, relative to the table; empty for most.
        ("frame_file", TEXT),
    ),
    id="scene_id",
    parent="scene_id",
)

CLIPS = Table(
    "clips",
    2,
    columns(
        ("clip_id", TEXT),
        ("scene_id", TEXT),
        ("episode_id", TEXT),
        ("show", TEXT),
        ("style", TEXT),
        ("origin_pts", INT),
        ("time_base_num", INT),
        ("time_base_den", INT),
        # g_0, the clip's first grid point, in seconds of the stream's clock, as a fraction.
        ("start_num", INT),
        ("start_den", INT),
        # PTS of the source frame behind each of the 81 frames.
        ("source_pts", pa.list_(INT)),
        ("source_width", INT),  # of the source as shown
        ("source_height", INT),
        # x, y, width, height, pixels of the source as shown: what fills the clip's frame (with
        # fit=crop after the cut to the bucket's aspect ratio).
        ("crop", pa.list_(INT)),
        ("width", INT),
        ("height", INT),
        ("frames", INT),
        ("rate_num", INT),
        ("rate_den", INT),
        # Over the clip's own source frames; as in SCENES.
        ("motion", FLOAT),
        ("sharpness", FLOAT),
        ("black_share", FLOAT),
        ("frozen_share", FLOAT),
        ("repeat_share", FLOAT),
        ("file", TEXT),
        ("sha256", TEXT),
        # The sound of exactly g_0 .. g_0 + 81/16 s; empty when the source has none.
        ("audio_file", TEXT),
        ("audio_sha256", TEXT),
        # What the clip looks like, for finding it again: see ``mimix_core.stages.duplicates``.
        ("fingerprint", pa.binary()),
    ),
    id="clip_id",
    parent="scene_id",
)

DUPLICATES = Table(
    "duplicates",
    1,
    columns(
        ("clip_id", TEXT),
        ("episode_id", TEXT),
        # The clip kept in its stead; empty for one that is kept itself.
        ("twin_clip_id", TEXT),
        ("similarity", FLOAT),  # with the most similar clip of another episode, 0..1
    ),
    id="clip_id",
    parent="clip_id",
)

TRANSCRIPTS = Table(
    "transcripts",
    2,
    columns(
        ("clip_id", TEXT),
        # subtitles/sidecar | subtitles/embedded | faster-whisper | none
        ("backend", TEXT),
        ("language", TEXT),  # as stated or heard; empty: not known
        ("text", TEXT),
        # Milliseconds of clip play; only read by people and prompts, never decided on.
        ("lines", pa.list_(pa.struct([("start_ms", INT), ("end_ms", INT), ("text", TEXT)]))),
        # Where the backend knows them: speech recognition only.
        ("words", pa.list_(pa.struct([("start_ms", INT), ("end_ms", INT), ("text", TEXT)]))),
    ),
    id="clip_id",
    parent="clip_id",
)

_ACTIONS = pa.list_(pa.struct([("name", TEXT), ("action", TEXT)]))

CAPTIONS = Table(
    "captions",
    2,
    columns(
        ("clip_id", TEXT),
        # script | script-composed | vlm/<its backend> | hand
        ("backend", TEXT),
        ("model", TEXT),  # as its provider names it; empty where none was asked
        ("caption", TEXT),
        ("actions", _ACTIONS),
        ("context", TEXT),
        ("style", TEXT),
        # All answers that were paid for the row, those included that failed a check.
        ("attempts", INT),
        ("input_tokens", INT),
        ("cached_tokens", INT),  # of the input, billed less by the provider
        ("output_tokens", INT),
        ("cost_usd", FLOAT),  # null: no price of the model is known
    ),
    id="clip_id",
    parent="clip_id",
)
