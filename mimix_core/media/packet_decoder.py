"""Decoding one stream, packet by packet: what was lost on the way, and whether the end is there."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av

from mimix_core.media.container import packets, words
from mimix_core.media.probe import DamagedVideo, TruncatedVideo, UnreadableVideo

_GIVE_UP = 100
"""So many packets in a row that give no picture are no dropout: the stream has broken off."""

_END_FRAMES = 4
"""The last frames may lie this many frame lengths before the promised end."""

_MIN_END = Fraction(1, 2)
"""And at least so many seconds: sound and headers are rounded to their own frames."""

_INDEXED = {"mov", "avi"}
"""Formats whose index of all packets is read at opening."""

_UNSTATED = {"mpeg", "mpegts"}
"""Formats without a header: their length is estimated from what is there."""

_B = av.video.frame.PictureType.B


@dataclass
class Damage:
    """``pts``: of the frames given out so far that the decoder had to make up in part, or that are
    shown longer since the next one is lost.

    A damaged picture is copied on by those that refer to it: all frames up to the next keyframe
    count. What a codec cannot notice (flipped bits in HEVC, VP9 and AV1 mostly decode as other
    pictures) is not here.
    """

    pts: set[int] = field(default_factory=set)


@dataclass
class _Watch:
    """Follows packets in and frames out, and marks damaged frames."""

    damage: Damage
    broken: bool = False
    trusted: bool = True
    waiting: list[int] = field(default_factory=list)
    refused: list[int] = field(default_factory=list)
    last: int | None = None
    shortest: int | None = None
    bidirectional: list[int] = field(default_factory=list)

    def packet(self, packet: Any, context: Any) -> None:
        if packet.pts is None or packet.is_discard or not packet.size:
            return
        if packet.is_corrupt:
            self.refused.append(packet.pts)
        if context.skip_frame == "DEFAULT":
            heapq.heappush(self.waiting, packet.pts)
        else:
            # Frames are left out on purpose: nothing can be told from what does not come.
            self.trusted = False

    def frame(self, frame: Any) -> None:
        pts = frame.pts
        if pts is None:
            return
        lost = self._lost(pts)
        if lost and self.last is not None:
            self.damage.pts.add(self.last)
        if frame.key_frame:
            self.broken = False
        if (lost and not frame.key_frame) or frame.is_corrupt:
            self.broken = True
            # B-frames before it refer to it too.
            self.damage.pts.update(self.bidirectional)
        if self.broken:
            self.damage.pts.add(pts)
        if frame.pict_type == _B:
            self.bidirectional.append(pts)
        else:
            self.bidirectional.clear()
        if self.last is not None:
            gap = pts - self.last
            self.shortest = gap if self.shortest is None else min(self.shortest, gap)
        self.last = pts

    def finish(self) -> None:
        """The stream is at its end: the last frame stands for those that should follow."""
        if self.last is not None and (self.refused or (self.trusted and self.waiting)):
            self.damage.pts.add(self.last)

    def _lost(self, pts: int) -> bool:
        """Whether a picture between the last frame and the one at ``pts`` did not come out."""
        missing, matched = [], False
        while self.waiting and self.waiting[0] <= pts:
            earlier = heapq.heappop(self.waiting)
            if earlier == pts:
                matched = True
            else:
                missing.append(earlier)
        refused = [p for p in self.refused if p <= pts]
        self.refused = [p for p in self.refused if p > pts]
        # Where frames do not carry the time of their packets, packets cannot be told from frames.
        self.trusted = self.trusted and matched
        if refused:
            return True
        if not self.trusted or self.last is None or self.shortest is None:
            return False
        # The second field of a frame may come as a packet of its own, half a frame later, and a
        # picture that is only referred to (VP8) one tick beside another.
        reach = 3 * self.shortest
        return any(4 * (p - self.last) >= reach and 4 * (pts - p) >= reach for p in missing)


def decoded(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    """All frames from where the container stands, in order of their strictly rising PTS.

    Pictures that cannot be decoded are left out and noted in ``damage``. Raises, after the last
    frame that can be decoded: TruncatedVideo when the file ends well before the end it promises,
    DamagedVideo when decoding breaks off, UnreadableVideo when the picture changes its size.
    """
    yield from _rising(_decoded(container, stream, damage))


def _decoded(container: Any, stream: Any, damage: Damage) -> Iterator[Any]:
    watch = _Watch(damage)
    reading = _Reading(container, stream)
    context = stream.codec_context
    fruitless = 0
    for packet in reading.packets():
        watch.packet(packet, context)
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            fruitless += 1
            if fruitless == _GIVE_UP:
                raise DamagedVideo(f"decoding breaks off ({words(error)})") from error
            if packet.pts is not None:
                watch.refused.append(packet.pts)
            continue
        if frames:
            fruitless = 0
        for frame in frames:
            watch.frame(frame)
            yield frame
    reading.check_end(watch.last)
    if fruitless > _END_FRAMES:
        raise DamagedVideo("the pictures at the end cannot be decoded")
    watch.finish()


class _Reading:
    """Reads a stream's packets and knows how far they should go."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self._formats = set(container.format.name.split(","))
        self._unlisted = False
        self._promised = self._last_listed()
        self._seen: int | None = None
        self._end: int | None = None
        self._latest: int | None = None
        self._count = 0
        self._problem = ""
        rate = stream.average_rate
        self._tolerance = max(_MIN_END, _END_FRAMES / Fraction(rate) if rate else _MIN_END)

    def packets(self) -> Iterator[Any]:
        """All packets there are, the empty one that ends decoding last."""
        incoming = packets(self._container, self._stream)
        while True:
            try:
                packet = next(incoming)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                self._problem = words(error)
                return
            self._count += 1
            if packet.dts is not None:
                self._seen = packet.dts
            if packet.pts is not None:
                end = packet.pts + (packet.duration or 0)
                self._end = end if self._end is None else max(self._end, end)
                if not packet.is_discard:
                    self._latest = max(packet.pts, self._latest or packet.pts)
            yield packet

    def check_end(self, last: int | None) -> None:
        """Raise TruncatedVideo or DamagedVideo unless all is there up to the end.

        ``last``: PTS of the last frame that was decoded.
        """
        if self._seen is not None and self._promised is not None and self._seen < self._promised:
            raise TruncatedVideo("the pictures end before those that the file's index lists")
        if self._unlisted and self._count < self._stream.frames - _END_FRAMES:
            raise TruncatedVideo(
                f"the file states {self._stream.frames} pictures and holds {self._count}"
            )
        if self._end is not None and self._ends_early(self._end):
            raise TruncatedVideo("the file ends before the length it states")
        if self._problem:
            raise DamagedVideo(f"reading breaks off ({self._problem})")
        skipping = self._stream.codec_context.skip_frame != "DEFAULT"
        if self._latest is None or last is None or skipping:
            return
        if (self._latest - last) * self._stream.time_base > self._tolerance:
            raise DamagedVideo("the pictures at the end cannot be decoded")

    def _last_listed(self) -> int | None:
        """DTS that the last packet has at least, by the file's index; None without one."""
        if not _INDEXED & self._formats:
            return None
        entries = self._stream.index_entries
        count = len(entries)
        self._unlisted = count <= 1 and "avi" in self._formats
        return int(entries[max(0, count - 1 - _END_FRAMES)].timestamp) if count else None

    def _ends_early(self, end: int) -> bool:
        """Whether all streams end well before the length that the file's header states."""
        container, stream = self._container, self._stream
        if container.duration is None or _UNSTATED & self._formats:
            return False
        length = Fraction(container.duration, av.time_base)
        # Matroska counts its length from zero, others from their first packet.
        before_zero = min(0, container.start_time or 0)
        stated = Fraction(before_zero, av.time_base) + length - self._tolerance
        if end * stream.time_base >= stated:
            return False
        # The sound, or subtitles, may be longer than the pictures: look at the last packets of all.
        try:
            container.seek(end, stream=stream, backward=True)
            return not any(
                (packet.pts + (packet.duration or 0)) * packet.time_base >= stated
                for packet in container.demux()
                if packet.pts is not None
            )
        except (av.FFmpegError, IndexError, OSError):
            # What cannot be read does not reach the end either.
            return True


_LONGEST_FRAME = Fraction(600)
"""Seconds. No picture of an episode is shown for longer: beyond it, the clock is wrong."""


def _rising(frames: Iterator[Any]) -> Iterator[Any]:
    last: int | None = None
    size = None
    for number, frame in enumerate(frames):
        if frame.pts is None:
            raise UnreadableVideo(f"frame {number} has no timestamp")
        if last is not None and frame.pts <= last:
            raise DamagedVideo(f"the timestamp of frame {number} does not rise ({frame.pts})")
        if last is not None and (frame.pts - last) * frame.time_base > _LONGEST_FRAME:
            raise DamagedVideo(f"the clock jumps by minutes before frame {number} ({frame.pts})")
        if size is not None and (frame.width, frame.height) != size:
            raise UnreadableVideo(
                f"the picture changes its size at frame {number}: from {size[0]}x{size[1]} to "
                f"{frame.width}x{frame.height}"
            )
        last, size = frame.pts, (frame.width, frame.height)
        yield frame
