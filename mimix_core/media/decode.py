"""Reading videos with PyAV: local files only, frames in order of their integer PTS."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.probe import NoVideoStream, UnreadableVideo, VideoInfo, describe
from mimix_core.media.shape import shown_rgb

# No network protocol, and no playlist format that could name other files.
OPEN_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,flv,asf,ogg,mxf",
}


@dataclass(frozen=True)
class Video:
    """An open video. ``first`` is its first frame (``av.VideoFrame``), ``rest`` what follows it."""

    container: Any
    stream: Any
    info: VideoInfo
    first: Any
    rest: Iterator[Any]

    def frames(self) -> Iterator[Any]:
        """All frames from the first on, with strictly rising PTS. To be called once.

        Raises UnreadableVideo where the stream breaks or its timestamps do not rise.
        """
        return _rising(chain([self.first], self.rest))

    def frames_from(self, pts: int) -> Iterator[Any]:
        """Frames from the last keyframe at or before ``pts`` on."""
        try:
            self.container.seek(pts, stream=self.stream, backward=True)
        except av.FFmpegError as error:
            raise UnreadableVideo(f"cannot seek ({_words(error)})") from error
        return _rising(_decode(self.container, self.stream))


@contextmanager
def open_video(path: Path, *, threads: int = 0) -> Iterator[Video]:
    """Open a local video file; ``threads`` decode it (0: one a core).

    Raises UnreadableVideo, or NoVideoStream when there is media but no moving pictures.
    """
    with open_container(path) as container:
        stream = _moving_pictures(container, path)
        stream.thread_count = threads
        stream.thread_type = "AUTO"
        decoded = _decode(container, stream)
        first = next(decoded, None)
        if first is None:
            raise UnreadableVideo("not one frame can be decoded", where=path.name)
        yield Video(container, stream, describe(stream, first), first, decoded)


@contextmanager
def open_container(path: Path) -> Iterator[Any]:
    """Open a local media file as ``av`` container. Raises UnreadableVideo."""
    try:
        container = av.open(f"file:{path.resolve()}", options=OPEN_OPTIONS)
    except (av.FFmpegError, OSError) as error:
        raise UnreadableVideo(
            f"not readable as a video file ({_words(error)})", where=path.name
        ) from error
    with container:
        yield container


def sample_evenly(path: Path, count: int, *, threads: int = 0) -> Iterator[tuple[VideoInfo, Any]]:
    """About ``count`` frames in the middle of as many equal parts of a video's time, in order.

    Frames that no other frame refers to are not decoded, and stretches without a wanted frame are
    jumped over: what comes is the first reference frame at or after each middle. Raises
    UnreadableVideo.
    """
    times, keyframes = _packet_times(path)
    if not times:
        raise UnreadableVideo("no packet of the video has a timestamp", where=path.name)
    first, length = times[0], times[-1] - times[0]
    targets = [first + length * (2 * part + 1) // (2 * count) for part in range(count)]
    with open_video(path, threads=threads) as video:
        video.stream.codec_context.skip_frame = "NONREF"
        frames = video.frames()
        frame = next(frames, None)
        for target in targets:
            if frame is None:
                return
            key = keyframes[bisect_right(keyframes, target) - 1] if keyframes else first
            if frame.pts < key:
                frames = video.frames_from(key)
                frame = next(frames, None)
            while frame is not None and frame.pts < target:
                frame = next(frames, None)
            if frame is not None:
                yield video.info, frame
                frame = next(frames, None)


def read_rgb(path: Path, *, threads: int = 2) -> NDArray[np.uint8]:
    """All frames of a (short) video as shown: uint8 RGB, shape [frames, height, width, 3]."""
    with open_video(path, threads=threads) as video:
        return np.stack([shown_rgb(frame, video.info) for frame in video.frames()])


def read_audio(path: Path, *, rate: int, start: Fraction) -> NDArray[np.float32] | None:
    """The first audio stream, mono, ``rate`` samples a second, float32 [samples] in -1..1.

    Sample 0 sounds at ``start`` seconds of the container's clock: what comes earlier is cut, and
    silence fills what is missing. None when the file has no audio. Raises UnreadableVideo.
    """
    with open_container(path) as container:
        if not container.streams.audio:
            return None
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=rate)
        parts: list[NDArray[np.float32]] = []
        offset: int | None = None
        try:
            for frame in container.decode(stream):
                if offset is None:
                    begin = Fraction(frame.pts or 0) * Fraction(frame.time_base)
                    offset = round((begin - start) * rate)
                parts += [part.to_ndarray()[0] for part in resampler.resample(frame)]
            parts += [part.to_ndarray()[0] for part in resampler.resample(None)]
        except av.FFmpegError as error:
            raise UnreadableVideo(
                f"the audio breaks off ({_words(error)})", where=path.name
            ) from error
    if offset is None:
        return None
    samples = np.concatenate(parts).astype(np.float32)
    if offset < 0:
        return samples[-offset:]
    return np.concatenate([np.zeros(offset, np.float32), samples])


def _packet_times(path: Path) -> tuple[list[int], list[int]]:
    """PTS of all packets of the video stream and of its keyframes, both sorted; decodes nothing."""
    seen: list[tuple[int, bool]] = []
    with open_container(path) as container:
        try:
            for packet in container.demux(_moving_pictures(container, path)):
                if packet.pts is not None:
                    seen.append((packet.pts, packet.is_keyframe))
        except av.FFmpegError as error:
            raise UnreadableVideo(f"breaks off ({_words(error)})", where=path.name) from error
    return sorted(pts for pts, _ in seen), sorted(pts for pts, key in seen if key)


def _moving_pictures(container: Any, path: Path) -> Any:
    """The video stream players choose, cover pictures left aside."""
    streams = [s for s in container.streams.video if not _is_cover(s)]
    if not streams:
        raise NoVideoStream("the file has no video stream", where=path.name)
    best = container.streams.best("video")
    stream = best if best in streams else streams[0]
    if stream.codec_context is None:
        raise UnreadableVideo("no decoder for this video codec", where=path.name)
    return stream


def _decode(container: Any, stream: Any) -> Iterator[Any]:
    try:
        yield from container.decode(stream)
    except av.FFmpegError as error:
        raise UnreadableVideo(f"the video cannot be decoded ({_words(error)})") from error


def _rising(frames: Iterator[Any]) -> Iterator[Any]:
    last: int | None = None
    for number, frame in enumerate(frames):
        if frame.pts is None:
            raise UnreadableVideo(f"frame {number} has no timestamp")
        if last is not None and frame.pts <= last:
            raise UnreadableVideo(f"the timestamp of frame {number} does not rise ({frame.pts})")
        last = frame.pts
        yield frame


def _is_cover(stream: Any) -> bool:
    return bool(int(stream.disposition) & int(av.stream.Disposition.attached_pic))


def _words(error: Exception) -> str:
    """The reason an error gives, without the path FFmpeg appends."""
    return str(getattr(error, "strerror", None) or type(error).__name__)
