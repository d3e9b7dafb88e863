"""Selective decoding of the frames that clips need.

The PTS of the wanted frames are known beforehand. Gaps without a wanted frame are skipped by
seeking to a keyframe where that saves work, and unwanted frames that no other frame refers to are
not decoded. Neither changes the pixels of the wanted frames. If a wanted frame cannot be decoded
this way, the rest is decoded sequentially from the start.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, dropwhile
from pathlib import Path
from typing import Any

import av

from mimix_core.media import ScanType, UnreadableVideo, VideoInfo, VideoReader, open_video
from mimix_core.stages.clips.planning import FrameIndex

MIN_SEEK_GAP = 24
"""Minimum number of frames to skip for a seek to pay off: the frames buffered by the decoder's
threads and its reordering are lost with each seek."""

MAX_REORDER_FRAMES = 16
"""Maximum reordering of H.264 and HEVC. Where keyframes are closer together than this, a container
that seeks by decoding time may find the wrong one."""


_SEEK_BACK_SECONDS = (Fraction(0), Fraction(1, 2), Fraction(2))
"""Formats without an index (MPEG-TS) seek by the time of any packet, and may land late."""


class SelectiveFrameReader:
    """Reads selected frames of a video.

    ``info`` is available from the first frame on. ``seeks`` counts the seeks, and
    ``sequential_fallback`` is set when seeking did not work.
    """

    def __init__(
        self,
        path: Path,
        scan_type: ScanType,
        frames: FrameIndex,
        *,
        threads: int,
        on_frame: Callable[[], None],
        seekable: bool = True,
    ) -> None:
        """``on_frame`` is called for every decoded frame, wanted or not.

        ``seekable``: False where the timestamps of the frames were repaired.
        """
        self._path, self._scan_type, self._frames = path, scan_type, frames
        self._seekable = seekable
        self._threads, self._on_frame = threads, on_frame
        self.info: VideoInfo | None = None
        self.seeks = 0
        self.sequential_fallback = False

    def read_frames(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any | None]]:
        """Yield each frame number in ``wanted`` (increasing) with its ``av.VideoFrame``.

        The frame is None where the decoder has no frame with that PTS. Raises UnreadableVideo.
        """
        yielded = 0
        # Which frames of telecined film are dropped depends on all earlier frames, and so do
        # repaired timestamps.
        if self._seekable and self._scan_type is not ScanType.TELECINE:
            try:
                for number, frame in self._read_with_seeks(wanted):
                    yield number, frame
                    yielded += 1
            except (_FrameMissing, UnreadableVideo, av.FFmpegError):
                self.sequential_fallback = True
        if yielded < len(wanted):
            yield from self._read_sequentially(wanted[yielded:])

    @contextmanager
    def _open(self) -> Iterator[VideoReader]:
        with open_video(self._path, threads=self._threads, scan_type=self._scan_type) as video:
            self.info = video.info
            yield video

    def _read_sequentially(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any | None]]:
        with self._open() as video:
            frames = video.frames()
            frame = next(frames, None)
            for number in wanted:
                pts = self._frames.pts[number]
                while frame is not None and frame.pts < pts:
                    self._on_frame()
                    frame = next(frames, None)
                yield number, frame if frame is not None and frame.pts == pts else None

    def _read_with_seeks(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Raise _FrameMissing when a wanted frame cannot be decoded."""
        pts = self._frames.pts
        with self._open() as video:
            for key, segment in plan_seek_segments(wanted, self._frames.keyframes):
                self.seeks += 1
                frames = self._decode_segment(video, key, segment)
                for number in segment:
                    frame = next((f for f in frames if f.pts >= pts[number]), None)
                    if frame is None or frame.pts != pts[number]:
                        raise _FrameMissing
                    yield number, frame

    def _decode_segment(
        self, video: VideoReader, key: int, segment: Sequence[int]
    ) -> Iterator[Any]:
        start = self._frames.pts[key]
        if self._scan_type is ScanType.PROGRESSIVE:
            wanted = frozenset(self._frames.pts[number] for number in segment)
            frames = _decode_wanted(video, start, self._frames.all_pts - wanted)
        else:
            frames = video.frames_from(start)
        for frame in frames:
            self._on_frame()
            yield frame


class _FrameMissing(Exception):
    """A wanted frame could not be decoded."""


def plan_seek_segments(
    wanted: Sequence[int], keyframes: Sequence[int]
) -> Iterator[tuple[int, Sequence[int]]]:
    """Split ``wanted`` (increasing frame numbers) into segments, each with its start keyframe.

    Without any keyframe (some old decoders mark none) there is one segment, starting at frame 0.
    """
    isolated = [
        key
        for key, after in zip(keyframes, chain(keyframes[1:], [None]), strict=False)
        if after is None or after - key > MAX_REORDER_FRAMES
    ]
    begin, key = 0, _last_keyframe_at(isolated, wanted[0])
    for index in range(1, len(wanted)):
        keyframe = _last_keyframe_at(isolated, wanted[index])
        if keyframe - wanted[index - 1] >= MIN_SEEK_GAP:
            yield key, wanted[begin:index]
            begin, key = index, keyframe
    yield key, wanted[begin:]


def _last_keyframe_at(keyframes: Sequence[int], number: int) -> int:
    """Return the last keyframe at or before a frame, or frame 0 when there is none."""
    index = bisect_right(keyframes, number)
    return keyframes[index - 1] if index else 0


def _decode_wanted(video: VideoReader, start: int, unwanted: frozenset[int]) -> Iterator[Any]:
    """Decode from the keyframe at PTS ``start`` on, skipping unwanted frames where possible.

    The two fields of a frame may come in separate packets. The second one has a PTS that belongs
    to no frame, and is therefore decoded.
    """
    time_base = video.info.time_base
    for seconds in _SEEK_BACK_SECONDS:
        frames = _decode_after_seek(video, start - round(seconds / time_base), unwanted)
        from_keyframe = dropwhile(lambda frame: not frame.key_frame, frames)
        key = next(from_keyframe, None)
        # Frames output before the keyframe may refer to frames that were not decoded.
        if key is not None and key.pts <= start:
            yield from chain([key], from_keyframe)
            return
    raise _FrameMissing


def _decode_after_seek(video: VideoReader, start: int, unwanted: frozenset[int]) -> Iterator[Any]:
    video.container.seek(start, stream=video.stream, backward=True)
    context = video.stream.codec_context
    for packet in video.container.demux(video.stream):
        context.skip_frame = "NONREF" if packet.pts in unwanted else "DEFAULT"
        yield from packet.decode()
