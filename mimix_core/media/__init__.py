"""Videos in and out: PyAV in this process, integer PTS, BT.709 clips that are proven after writing.

Pictures are ``av.VideoFrame`` where they only pass through, and uint8 arrays where they are looked
at. "As shown" means after rotation and sample aspect ratio.
"""

from mimix_core.media.audio import SoundCut, read_audio, sound_cuts
from mimix_core.media.container import open_container
from mimix_core.media.crop_resize import Shape, Shaper, fit, shown_rgb
from mimix_core.media.decode import Video, open_video, read_rgb
from mimix_core.media.encode import ClipWriter, EncodeFailed, ProofFailed, ffmpeg_exe, prove_clip
from mimix_core.media.packet_decoder import Damage
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
from mimix_core.media.scan_type import Fields, find_fields

__all__ = [
    "ClipWriter",
    "Damage",
    "DamagedVideo",
    "EncodeFailed",
    "Fields",
    "Geometry",
    "NoVideoStream",
    "ProofFailed",
    "Rect",
    "Shape",
    "Shaper",
    "SoundCut",
    "TooLargeVideo",
    "TruncatedVideo",
    "UnreadableVideo",
    "Video",
    "VideoInfo",
    "ffmpeg_exe",
    "find_fields",
    "fit",
    "open_container",
    "open_video",
    "prove_clip",
    "read_audio",
    "read_rgb",
    "shown_rgb",
    "sound_cuts",
]
