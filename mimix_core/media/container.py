"""Opening local media files and choosing the stream of moving pictures."""

from __future__ import annotations

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
MAX_SIDE = 16384

_TRIED_PACKETS = 3
_REFUSED_SIZE = re.compile(r"[Pp]icture size (\d+)x(\d+)")

# No network protocol, and no playlist format that could name other files. Media inside an MP4 that
# stands in other files is not followed (mov demuxer's default). Decoders refuse larger pictures.
OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,mxf",
    "max_pixels": str(MAX_PIXELS),
}


@contextmanager
def open_container(path: Path) -> Iterator[Any]:
    """Open a local media file as ``av`` container. Raises UnreadableVideo."""
    try:
        container = av.open(f"file:{path.resolve()}", options=OPEN_OPTIONS)
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(
            f"not readable as a video file ({words(error)})", where=path.name
        ) from error
    with container:
        yield container


def moving_pictures(container: Any, path: Path) -> Any:
    """The video stream players choose, cover pictures left aside.

    Raises NoVideoStream, UnreadableVideo without a decoder, and TooLargeVideo before any picture
    is decoded.
    """
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        raise NoVideoStream("the file has no video stream", where=path.name)
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    context = stream.codec_context
    if context is None:
        raise UnreadableVideo("no decoder for this video codec", where=path.name)
    if _too_large(context.width, context.height):
        raise TooLargeVideo(f"pictures of {context.width}x{context.height} pixels", where=path.name)
    context.options = {"max_pixels": str(MAX_PIXELS)}
    return stream


def packets(container: Any, stream: Any) -> Iterator[Any]:
    """A stream's packets to the end of the file, the empty one that ends decoding last.

    Raises what PyAV raises when reading breaks off.
    """
    try:
        yield from container.demux(stream)
    except IndexError:
        # PyAV, once all is read, when further streams turned up in the file on the way.
        return


def nothing_decoded(path: Path) -> UnreadableVideo:
    """Why a file with moving pictures gives none: TooLargeVideo, or what is left to say.

    Decoders tell only FFmpeg's log that they refuse a picture's size. The log is read for a moment
    and in this thread alone.
    """
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture() as log:
            _try_to_decode(path)
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skips)
    for _, _, message in log:
        size = _REFUSED_SIZE.search(message)
        if size and _too_large(int(size[1]), int(size[2])):
            return TooLargeVideo(f"pictures of {size[1]}x{size[2]} pixels", where=path.name)
    return UnreadableVideo("not one frame can be decoded", where=path.name)


def _try_to_decode(path: Path) -> None:
    try:
        with open_container(path) as container:
            stream = moving_pictures(container, path)
            stream.thread_count = 1
            for packet in islice(packets(container, stream), _TRIED_PACKETS):
                packet.decode()
    except (av.FFmpegError, UnreadableVideo):
        # What went wrong stands in the log that the caller reads.
        return


def _too_large(width: int, height: int) -> bool:
    return width * height > MAX_PIXELS or max(width, height) > MAX_SIDE


def words(error: Exception) -> str:
    """The reason an error gives, without the path FFmpeg appends."""
    return str(getattr(error, "strerror", None) or type(error).__name__)


def _is_cover(stream: Any) -> bool:
    return bool(int(stream.disposition) & int(av.stream.Disposition.attached_pic))
