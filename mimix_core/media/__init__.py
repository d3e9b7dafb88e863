"""Video and audio I/O: PyAV in process, integer PTS, and BT.709 clips verified after writing.

Frames are ``av.VideoFrame`` objects while they only pass through, and uint8 arrays where their
pixels are processed. "As displayed" means after rotation and sample aspect ratio.
"""

from mimix_core.media.audio import (
    AudioSegment,
    LostAudio,
    extract_audio_segments,
    read_audio,
    read_recording,
)
from mimix_core.media.container import open_container
from mimix_core.media.crop_resize import (
    CropResize,
    FrameResizer,
    move_crop,
    plan_crop_resize,
    to_display_rgb,
)
from mimix_core.media.decode import VideoReader, open_video, read_rgb
from mimix_core.media.encode import (
    ClipWriter,
    EncodeFailed,
    VerificationFailed,
    find_ffmpeg,
    verify_clip,
)
from mimix_core.media.frame_clock import TimestampRepairs
from mimix_core.media.packet_decoder import DamagedFrames
from mimix_core.media.probe import (
    DamagedVideo,
    Geometry,
    NoVideoStream,
    Rect,
    TooLargeVideo,
    TruncatedVideo,
    UnreadableVideo,
    VideoInfo,
)
from mimix_core.media.scan_type import ScanType, detect_scan_type

__all__ = [
    "AudioSegment",
    "ClipWriter",
    "CropResize",
    "DamagedFrames",
    "DamagedVideo",
    "EncodeFailed",
    "FrameResizer",
    "Geometry",
    "LostAudio",
    "NoVideoStream",
    "Rect",
    "ScanType",
    "TimestampRepairs",
    "TooLargeVideo",
    "TruncatedVideo",
    "UnreadableVideo",
    "VerificationFailed",
    "VideoInfo",
    "VideoReader",
    "detect_scan_type",
    "extract_audio_segments",
    "find_ffmpeg",
    "move_crop",
    "open_container",
    "open_video",
    "plan_crop_resize",
    "read_audio",
    "read_recording",
    "read_rgb",
    "to_display_rgb",
    "verify_clip",
]
