"""Opening local media files and selecting their video stream."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import av
import av.logging

from mimix_core.media.probe import NoVideoStream, TooLargeVideo, UnreadableVideo

MAX_PIXELS = 8192 * 8192
MAX_DIMENSION = 16384

_PROBE_PACKETS = 3
_REJECTED_SIZE = re.compile(r"[Pp]icture size (\d+)x(\d+)")

# No network protocol, and no playlist format that could refer to other files. MP4 references to
# media in other files are not followed (the mov demuxer's default). Decoders reject larger frames.
OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,mxf",
    "max_pixels": str(MAX_PIXELS),
}


@contextmanager
def open_container(path: Path) -> Iterator[Any]:
    """Open a local media file as an ``av`` container. Raises UnreadableVideo."""
    try:
        container = _open(path, OPEN_OPTIONS)
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(_why_unreadable(path, error), where=path.name) from error
    with container:
        yield container


_RECORDING_OPTIONS = {
    **OPEN_OPTIONS,
    "format_whitelist": f"{OPEN_OPTIONS['format_whitelist']},wav,w64,aiff,flac,mp3,aac",
}


@contextmanager
def open_recording(path: Path) -> Iterator[Any]:
    """Open a local file of audio, or of video with audio. Raises UnreadableVideo."""
    try:
        container = _open(path, _RECORDING_OPTIONS)
    except (av.FFmpegError, OSError) as error:
        what = f"not readable as a file of audio or video ({error_text(error)})"
        raise UnreadableVideo(what, where=path.name) from error
    with container:
        yield container


def _open(path: Path, options: dict[str, str]) -> Any:
    # Titles and the like are in any encoding, and not used.
    return av.open(f"file:{path.resolve()}", options=options, metadata_errors="replace")


_OTHER_FORMATS = {
    b".RMF": "RealMedia",
    b".ra\xfd": "RealAudio",
    b"DKIF": "IVF",
    b"YUV4MPEG2": "Y4M",
    b"nut/multimedia container": "NUT",
    b"\xb7\xd8\x00\x20\x37\x49\xda\x11": "Windows TV (WTV)",
    b"\x00\x00\x00\x01": "a video stream without a container",
    b"GIF8": "GIF",
}
"""First bytes of video formats that FFmpeg knows and MiMix does not open."""


def _why_unreadable(path: Path, error: Exception) -> str:
    """Say why a file cannot be opened, and for a format that is not supported, what to do."""
    text = error_text(error)
    if getattr(error, "errno", None) != errno.EINVAL:
        return f"not readable as a video file ({text})"
    with path.open("rb") as file:
        start = file.read(32)
    names = (name for magic, name in _OTHER_FORMATS.items() if start.startswith(magic))
    return (
        f"{next(names, 'the format of this file')} is not supported: convert the file to MKV "
        "first, for example by ffmpeg -i FILE -c:v libx264 -crf 16 -c:a flac NEW.mkv"
    )


def select_video_stream(container: Any, path: Path) -> Any:
    """Select the video stream that players would choose, ignoring cover art.

    Raises NoVideoStream, UnreadableVideo when the codec has no decoder, and TooLargeVideo before
    any frame is decoded.
    """
    streams = [s for s in container.streams.video if not _is_cover_art(s)]
    if not streams:
        raise NoVideoStream("the file has no video stream", where=path.name)
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    context = stream.codec_context
    if context is None:
        raise UnreadableVideo("no decoder for this video codec", where=path.name)
    if _too_large(context.width, context.height):
        raise TooLargeVideo(f"frames of {context.width}x{context.height} pixels", where=path.name)
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def demux_packets(container: Any, stream: Any) -> Iterator[Any]:
    """Yield a stream's packets up to the end of the file, ending with the empty flush packet.

    PyAV's read errors are passed on.
    """
    try:
        yield from container.demux(stream)
    except IndexError:
        # PyAV raises this at the end of a file in which further streams appeared midway.
        return


def no_frames_error(path: Path) -> UnreadableVideo:
    """Build the error for a stream without a decodable frame: TooLargeVideo, or a generic one.

    Decoders report a rejected frame size only in FFmpeg's log. The log is captured briefly, and in
    this thread only.
    """
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as log:
            _probe_decode(path)
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)
    for _, _, message in log:
        size = _REJECTED_SIZE.search(message)
        if size and _too_large(int(size[1]), int(size[2])):
            return TooLargeVideo(f"frames of {size[1]}x{size[2]} pixels", where=path.name)
    return UnreadableVideo("no frame can be decoded", where=path.name)


def _probe_decode(path: Path) -> None:
    try:
        with open_container(path) as container:
            stream = select_video_stream(container, path)
            stream.thread_count = 1
            for packet in islice(demux_packets(container, stream), _PROBE_PACKETS):
                packet.decode()
    except (av.FFmpegError, UnreadableVideo):
        # The cause is in the log that the caller reads.
        return


def _too_large(width: int, height: int) -> bool:
    return width * height > MAX_PIXELS or max(width, height) > MAX_DIMENSION


def error_text(error: Exception) -> str:
    """Return an error's message without the path that FFmpeg appends."""
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _is_cover_art(stream: Any) -> bool:
    return bool(int(stream.disposition) & int(av.stream.Disposition.attached_pic))
