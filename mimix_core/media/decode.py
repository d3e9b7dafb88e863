"""Video reading with PyAV: local files only, frames in order of their integer PTS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.container import (
    error_text,
    no_frames_error,
    open_container,
    select_video_stream,
)
from mimix_core.media.crop_resize import to_display_rgb
from mimix_core.media.deinterlace import deinterlace_frames
from mimix_core.media.frame_clock import TimestampRepairs
from mimix_core.media.packet_decoder import DamagedFrames, decode_frames
from mimix_core.media.probe import DamagedVideo, UnreadableVideo, VideoInfo, read_video_info
from mimix_core.media.scan_type import ScanType

_INITIAL_SEEK_BACK = Fraction(1, 2)
"""Seconds; multiplied by four with each attempt to find an earlier keyframe."""


@dataclass(frozen=True)
class VideoReader:
    """An open video file.

    ``first_frame`` is its first ``av.VideoFrame``, and ``remaining_frames`` iterates over the
    others. ``scan_type``: how frames are made from the source's fields. ``damage`` and ``repairs``
    are filled while frames are decoded. ``seekable``: False where a decode from the start repaired
    timestamps, which depends on all earlier frames.
    """

    container: Any
    stream: Any
    info: VideoInfo
    first_frame: Any
    remaining_frames: Iterator[Any]
    scan_type: ScanType = ScanType.PROGRESSIVE
    damage: DamagedFrames = field(default_factory=DamagedFrames)
    repairs: TimestampRepairs = field(default_factory=TimestampRepairs)
    seekable: bool = True

    def frames(self) -> Iterator[Any]:
        """Iterate over all frames, with strictly increasing PTS. Call it once only.

        Raises, after the last decodable frame: TruncatedVideo when the file ends well before its
        stated end, DamagedVideo when decoding fails or time goes backwards, UnreadableVideo when
        the frame size changes.
        """
        return chain([self.first_frame], self.remaining_frames)

    def frames_from(self, pts: int) -> Iterator[Any]:
        """Iterate from a frame at or before ``pts``, with the same PTS and pixels as ``frames``.

        Starts at the last suitable keyframe. Telecined film starts from the beginning, because
        which frames are dropped depends on all earlier ones, and so does a video that is not
        ``seekable``. Raises the errors of ``frames``.
        """
        if self.scan_type == ScanType.TELECINE or not self.seekable:
            return self._frames_from_start()
        target, step = pts, _INITIAL_SEEK_BACK / self.info.time_base
        while target > self.first_frame.pts:
            frames = self._frames_after_seek(target)
            try:
                found = list(islice(frames, 2))
            except UnreadableVideo:
                # In MPEG program streams the first frame after a seek may carry the timestamp of
                # the next one. Any other damage is reported again when decoding from further back.
                found = []
            if found and found[0].pts <= pts:
                return chain(found, frames)
            target -= round(step)
            step *= 4
        return self._frames_from_start()

    def _frames_after_seek(self, target: int) -> Iterator[Any]:
        """Iterate over frames from a keyframe near ``target``; empty when the seek finds none."""
        try:
            self.container.seek(target, stream=self.stream, backward=True)
        except av.FFmpegError:
            # Not every format can seek: the caller tries further back, down to the beginning.
            return iter(())
        frames = decode_frames(self.container, self.stream, DamagedFrames())
        # Frames displayed before the keyframe may refer to frames that were not decoded.
        from_keyframe = dropwhile(lambda frame: not frame.key_frame, frames)
        if self.scan_type == ScanType.PROGRESSIVE:
            return from_keyframe
        # Deinterlacing needs the previous frame, which the first one here lacks.
        return islice(
            deinterlace_frames(from_keyframe, self.scan_type, DamagedFrames(), DamagedFrames()),
            1,
            None,
        )

    def _frames_from_start(self) -> Iterator[Any]:
        try:
            self.container.seek(0)
            self.container.seek(min(0, self.first_frame.pts), stream=self.stream, backward=True)
        except av.FFmpegError as error:
            raise UnreadableVideo(f"cannot seek ({error_text(error)})") from error
        repairs = TimestampRepairs()
        frames = decode_frames(self.container, self.stream, DamagedFrames(), repairs)
        return deinterlace_frames(frames, self.scan_type, DamagedFrames(), DamagedFrames())


@contextmanager
def open_video(
    path: Path,
    *,
    threads: int = 0,
    scan_type: ScanType = ScanType.PROGRESSIVE,
    seekable: bool = True,
) -> Iterator[VideoReader]:
    """Open a local video file, decoding it with ``threads`` threads (0: one per core).

    ``scan_type``: the result of ``detect_scan_type``; frames are deinterlaced accordingly.
    ``seekable``: False when an earlier decode of the file had to repair timestamps. Raises
    UnreadableVideo, NoVideoStream for media without a video stream, and TooLargeVideo.
    """
    with _open_reader(path, threads, scan_type, seekable) as video:
        if video is not None:
            yield video
            return
    # Only now that the decoder threads have ended: they log too, and would wait for this thread.
    raise no_frames_error(path)


@contextmanager
def _open_reader(
    path: Path, threads: int, scan_type: ScanType, seekable: bool
) -> Iterator[VideoReader | None]:
    """Open the video; yields None when no frame can be decoded."""
    with open_container(path) as container:
        stream = select_video_stream(container, path)
        stream.thread_count = threads
        stream.thread_type = "AUTO"
        decode_damage, repairs = DamagedFrames(), TimestampRepairs()
        decoded = decode_frames(container, stream, decode_damage, repairs)
        first = _first_frame(decoded)
        if first is None:
            yield None
            return
        info = read_video_info(stream, first)
        damage = decode_damage if scan_type == ScanType.PROGRESSIVE else DamagedFrames()
        deinterlaced = deinterlace_frames(chain([first], decoded), scan_type, decode_damage, damage)
        yield VideoReader(
            container,
            stream,
            info,
            next(deinterlaced),
            deinterlaced,
            scan_type,
            damage,
            repairs,
            seekable,
        )


def _first_frame(decoded: Iterator[Any]) -> Any:
    """Decode the first frame; None when there is none."""
    try:
        return next(decoded, None)
    except DamagedVideo:
        return None


def read_rate(path: Path) -> Fraction | None:
    """Return the frames per second that a video states; None if it states none.

    Raises UnreadableVideo.
    """
    with open_video(path) as video:
        return video.info.rate


def read_rgb(path: Path, *, threads: int = 2) -> NDArray[np.uint8]:
    """Decode all frames of a (short) video as displayed: uint8 RGB [frames, height, width, 3]."""
    with open_video(path, threads=threads) as video:
        return np.stack([to_display_rgb(frame, video.info) for frame in video.frames()])
