"""The frames of an episode that clips want, and as little work as possible for the others.

What is decoded is known beforehand, to the PTS: a stretch without a wanted frame is jumped over by
a seek to a keyframe where that pays, and of what remains, frames that nobody wants and no other
frame refers to are not decoded. Both leave the pictures of the wanted frames untouched; should a
wanted frame fail to come out that way, the rest is decoded straight from the start.
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

from mimix_core.media import Fields, UnreadableVideo, Video, VideoInfo, open_video
from mimix_core.stages.clips.planning import Frames

JUMP_FRAMES = 24
"""A keyframe must lie so many frames ahead to be jumped to: the decoder's threads and its
reordering hold some frames, and all of them are thrown away."""

REORDERED_FRAMES = 16
"""Most frames by which H.264 and HEVC reorder. Of keyframes that lie closer together, a container
that seeks by decoding time may find the wrong one."""


_STEPS_BACK = (Fraction(0), Fraction(1, 2), Fraction(2))
"""Seconds. Formats without an index (MPEG-TS) seek by any packet's time, and may land late."""


class FrameFeed:
    """Gives the wanted frames of a video.

    ``info`` is there from the first frame on; ``straight`` tells that jumping did not work.
    """

    def __init__(
        self,
        path: Path,
        fields: Fields,
        frames: Frames,
        *,
        threads: int,
        alive: Callable[[], None],
    ) -> None:
        """``alive`` is called for every frame that is decoded, wanted or not."""
        self._path, self._fields, self._frames = path, fields, frames
        self._threads, self._alive = threads, alive
        self.info: VideoInfo | None = None
        self.jumps = 0
        self.straight = False

    def give(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any | None]]:
        """For each number of a frame in ``wanted`` (rising): the number, and the ``av`` frame.

        None where the decoder gives no frame of that PTS. Raises UnreadableVideo.
        """
        given = 0
        # Which frames of a telecined film are dropped depends on all that came before.
        if self._fields is not Fields.TELECINE:
            try:
                for number, frame in self._quick(wanted):
                    yield number, frame
                    given += 1
            except (_NotThere, UnreadableVideo, av.FFmpegError):
                self.straight = True
        if given < len(wanted):
            yield from self._straight(wanted[given:])

    @contextmanager
    def _open(self) -> Iterator[Video]:
        with open_video(self._path, threads=self._threads, fields=self._fields) as video:
            self.info = video.info
            yield video

    def _straight(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any | None]]:
        with self._open() as video:
            frames = video.frames()
            frame = next(frames, None)
            for number in wanted:
                pts = self._frames.pts[number]
                while frame is not None and frame.pts < pts:
                    self._alive()
                    frame = next(frames, None)
                yield number, frame if frame is not None and frame.pts == pts else None

    def _quick(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Raises _NotThere for a wanted frame that does not come out."""
        pts = self._frames.pts
        with self._open() as video:
            for key, part in stretches(wanted, self._frames.keyframes):
                self.jumps += 1
                frames = self._frames_from(video, key, part)
                for number in part:
                    frame = next((f for f in frames if f.pts >= pts[number]), None)
                    if frame is None or frame.pts != pts[number]:
                        raise _NotThere
                    yield number, frame

    def _frames_from(self, video: Video, key: int, part: Sequence[int]) -> Iterator[Any]:
        start = self._frames.pts[key]
        if self._fields is Fields.PROGRESSIVE:
            wanted = frozenset(self._frames.pts[number] for number in part)
            frames = _selected(video, start, self._frames.known - wanted)
        else:
            frames = video.frames_from(start)
        for frame in frames:
            self._alive()
            yield frame


class _NotThere(Exception):
    """A wanted frame did not come out of the decoder."""


def stretches(
    wanted: Sequence[int], keyframes: Sequence[int]
) -> Iterator[tuple[int, Sequence[int]]]:
    """Cuts ``wanted`` (rising frame numbers) into parts, each with the keyframe to start from.

    Without any keyframe (decoders of some old codecs mark none) there is one part, from frame 0.
    """
    clear = [
        key
        for key, after in zip(keyframes, chain(keyframes[1:], [None]), strict=False)
        if after is None or after - key > REORDERED_FRAMES
    ]
    begin, key = 0, _last(clear, wanted[0])
    for index in range(1, len(wanted)):
        found = _last(clear, wanted[index])
        if found - wanted[index - 1] >= JUMP_FRAMES:
            yield key, wanted[begin:index]
            begin, key = index, found
    yield key, wanted[begin:]


def _last(keyframes: Sequence[int], number: int) -> int:
    """The last keyframe at or before a frame; the first frame where there is none."""
    index = bisect_right(keyframes, number)
    return keyframes[index - 1] if index else 0


def _selected(video: Video, start: int, unwanted: frozenset[int]) -> Iterator[Any]:
    """Frames from the keyframe at PTS ``start`` on; of the unwanted ones only those needed.

    The two fields of a frame may come in packets of their own: that of the second has a PTS that
    no frame has, and is decoded.
    """
    time_base = video.info.time_base
    for seconds in _STEPS_BACK:
        frames = _sought(video, start - round(seconds / time_base), unwanted)
        keyed = dropwhile(lambda frame: not frame.key_frame, frames)
        key = next(keyed, None)
        # Before the keyframe, frames may come out that refer to some that were not decoded.
        if key is not None and key.pts <= start:
            yield from chain([key], keyed)
            return
    raise _NotThere


def _sought(video: Video, start: int, unwanted: frozenset[int]) -> Iterator[Any]:
    video.container.seek(start, stream=video.stream, backward=True)
    context = video.stream.codec_context
    for packet in video.container.demux(video.stream):
        context.skip_frame = "NONREF" if packet.pts in unwanted else "DEFAULT"
        yield from packet.decode()
