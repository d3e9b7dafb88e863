"""Videos in and out: PyAV in this process, integer PTS, BT.709 clips that are proven after writing.

Pictures are ``av.VideoFrame`` where they only pass through, and uint8 arrays where they are looked
at. "As shown" means after rotation and sample aspect ratio.
"""

from mimix_core.media.decode import (
    Video,
    open_container,
    open_video,
    read_audio,
    read_rgb,
    sample_evenly,
)
from mimix_core.media.encode import (
    ClipWriter,
    EncodeFailed,
    ProofFailed,
    ffmpeg_exe,
    prove_clip,
)
from mimix_core.media.probe import Geometry, NoVideoStream, Rect, UnreadableVideo, VideoInfo
from mimix_core.media.shape import Shape, Shaper, fit, shown_rgb

__all__ = [
    "ClipWriter",
    "EncodeFailed",
    "Geometry",
    "NoVideoStream",
    "ProofFailed",
    "Rect",
    "Shape",
    "Shaper",
    "UnreadableVideo",
    "Video",
    "VideoInfo",
    "ffmpeg_exe",
    "fit",
    "open_container",
    "open_video",
    "prove_clip",
    "read_audio",
    "read_rgb",
    "sample_evenly",
    "shown_rgb",
]
