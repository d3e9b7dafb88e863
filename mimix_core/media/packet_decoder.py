"""Packet-by-packet decoding of one stream, with detection of damage and of a missing end."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av

from mimix_core.media.container import demux_packets, error_text
from mimix_core.media.frame_clock import FrameClock, TimestampRepairs
from mimix_core.media.probe import DamagedVideo, TruncatedVideo, UnreadableVideo

_MAX_FAILED_PACKETS = 100
"""After this many undecodable packets in a row decoding fails, except before the first frame."""

_END_TOLERANCE_FRAMES = 4
"""Frame durations by which the last frame may precede the stated end."""

_MIN_END_TOLERANCE = Fraction(1, 2)
"""Seconds that are always tolerated: audio and headers are rounded to their own frames."""

_INDEXED = {"mov", "avi"}
"""Formats whose index of all packets is read on opening."""

_WITHOUT_DURATION = {"mpeg", "mpegts"}
"""Formats without a stated duration: it is estimated from the file itself."""

_MAX_FRAME_DURATION = Fraction(600)
"""Seconds. No frame of an episode is displayed for longer: a larger gap means a wrong clock."""

_MAX_NOT_CODED_BYTES = 8
"""MPEG-4 packets up to this size hold no frame of their own: the previous one is shown longer."""

_B = av.video.frame.PictureType.B


@dataclass
class DamagedFrames:
    """The damaged frames among those decoded so far.

    ``pts``: PTS of frames that the decoder had to conceal in part, or that are displayed for
    longer because the next one is lost. Damage spreads to frames that refer to a damaged one:
    all frames up to the next keyframe count. Damage that a codec cannot detect is not included
    (flipped bits in HEVC, VP9 and AV1 usually decode without an error).
    """

    pts: set[int] = field(default_factory=set)


@dataclass
class _DamageTracker:
    """Compares incoming packets with decoded frames, and marks damaged frames."""

    damage: DamagedFrames
    corrupting: bool = False
    timestamps_match: bool = True
    pending: list[int] = field(default_factory=list)
    without_frame: set[int] = field(default_factory=set)
    rejected: list[int] = field(default_factory=list)
    last: int | None = None
    min_gap: int | None = None
    pending_b_frames: list[int] = field(default_factory=list)

    def add_packet(self, packet: Any, context: Any) -> None:
        if packet.pts is None or packet.is_discard or not packet.size:
            return
        if packet.is_corrupt:
            self.rejected.append(packet.pts)
        if context.name == "mpeg4" and packet.size <= _MAX_NOT_CODED_BYTES:
            self.without_frame.add(packet.pts)
        if context.skip_frame == "DEFAULT":
            heapq.heappush(self.pending, packet.pts)
        else:
            # Frames are skipped on purpose: a missing frame is not a sign of damage.
            self.timestamps_match = False

    def add_frame(self, frame: Any) -> None:
        pts = frame.pts
        if pts is None:
            return
        lost = self._lost(pts)
        if lost and self.last is not None:
            self.damage.pts.add(self.last)
        if frame.key_frame:
            self.corrupting = False
        if (lost and not frame.key_frame) or frame.is_corrupt:
            self.corrupting = True
            # The B-frames displayed before it refer to it too.
            self.damage.pts.update(self.pending_b_frames)
        if self.corrupting:
            self.damage.pts.add(pts)
        if frame.pict_type == _B:
            self.pending_b_frames.append(pts)
        else:
            self.pending_b_frames.clear()
        if self.last is not None:
            gap = pts - self.last
            self.min_gap = gap if self.min_gap is None else min(self.min_gap, gap)
        self.last = pts

    def drop_frame(self, frame: Any) -> None:
        """Take account of a frame that is dropped: later frames may refer to it."""
        lost = any(rejected <= frame.pts for rejected in self.rejected)
        self.rejected = [rejected for rejected in self.rejected if rejected > frame.pts]
        self.corrupting = not frame.key_frame and (self.corrupting or lost or frame.is_corrupt)
        self.pending_b_frames.clear()

    def finish(self) -> None:
        """Mark the last frame as damaged when frames after it were lost."""
        if self.last is not None and (self.rejected or (self.timestamps_match and self.pending)):
            self.damage.pts.add(self.last)

    def _lost(self, pts: int) -> bool:
        """Whether a frame between the last one and the one at ``pts`` was not decoded."""
        missing, matched = [], False
        while self.pending and self.pending[0] <= pts:
            earlier = heapq.heappop(self.pending)
            if earlier == pts:
                matched = True
            elif earlier in self.without_frame:
                self.without_frame.remove(earlier)
            else:
                missing.append(earlier)
        rejected = [p for p in self.rejected if p <= pts]
        self.rejected = [p for p in self.rejected if p > pts]
        # Where frames do not carry their packets' timestamps, the two cannot be matched.
        self.timestamps_match = self.timestamps_match and matched
        if rejected:
            return True
        if not self.timestamps_match or self.last is None or self.min_gap is None:
            return False
        # The second field of a frame may come in a separate packet half a frame later, and a
        # reference-only frame (VP8) one tick from another.
        reach = 3 * self.min_gap
        return any(4 * (p - self.last) >= reach and 4 * (pts - p) >= reach for p in missing)


def decode_frames(
    container: Any,
    stream: Any,
    damage: DamagedFrames,
    repairs: TimestampRepairs | None = None,
) -> Iterator[Any]:
    """Decode all frames from the container's position, in order of strictly increasing PTS.

    Undecodable frames are skipped and recorded in ``damage``, and what had to be done for the PTS
    to increase in ``repairs``; without the latter, nothing is repaired. Raises, after the last
    decodable frame: TruncatedVideo when the file ends well before its stated end, DamagedVideo when
    decoding fails or PTS do not increase, UnreadableVideo when the frame size changes.
    """
    found = TimestampRepairs() if repairs is None else repairs
    for frame in _decode_packets(container, stream, damage, found):
        if repairs is None and found:
            raise DamagedVideo(f"the timestamps before {frame.pts} do not increase")
        yield frame


def _decode_packets(
    container: Any, stream: Any, damage: DamagedFrames, repairs: TimestampRepairs
) -> Iterator[Any]:
    tracker = _DamageTracker(damage)
    reader = _PacketReader(container, stream)
    context = stream.codec_context
    clock = FrameClock(context.name, repairs, damage.pts)
    order = _OrderCheck(repairs, tracker.drop_frame)

    def track(frames: Iterable[Any]) -> Iterator[Any]:
        for frame in frames:
            tracker.add_frame(frame)
            yield frame

    failed_packets = 0
    for packet in reader.packets():
        tracker.add_packet(packet, context)
        stated_pts = packet.pts
        clock.number_packet(packet)
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            failed_packets += 1
            # A broadcast may begin long before the first keyframe.
            if failed_packets >= _MAX_FAILED_PACKETS and tracker.last is not None:
                raise DamagedVideo(f"decoding failed ({error_text(error)})") from error
            if stated_pts is not None:
                tracker.rejected.append(stated_pts)
            continue
        if frames:
            failed_packets = 0
        for decoded in frames:
            complete = context.skip_frame == "DEFAULT"
            for frame in clock.add_frame(decoded, complete=complete):
                yield from track(order.add(frame))
    for frame in clock.finish():
        yield from track(order.add(frame))
    yield from track(order.finish())
    reader.check_end(tracker.last)
    if failed_packets > _END_TOLERANCE_FRAMES:
        raise DamagedVideo("the last frames cannot be decoded")
    tracker.finish()


class _PacketReader:
    """Reads a stream's packets and checks that they reach the stated end."""

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self._formats = set(container.format.name.split(","))
        self._lacks_index = False
        self._listed_end = self._last_indexed_dts()
        self._last_dts: int | None = None
        self._end: int | None = None
        self._max_pts: int | None = None
        self._count = 0
        self._read_error = ""
        rate = stream.average_rate
        self._tolerance = max(
            _MIN_END_TOLERANCE,
            _END_TOLERANCE_FRAMES / Fraction(rate) if rate else _MIN_END_TOLERANCE,
        )

    def packets(self) -> Iterator[Any]:
        """Yield all packets, ending with the empty flush packet."""
        incoming = demux_packets(self._container, self._stream)
        while True:
            try:
                packet = next(incoming)
            except StopIteration:
                return
            except (av.FFmpegError, OSError) as error:
                self._read_error = error_text(error)
                return
            self._count += 1
            if packet.dts is not None:
                self._last_dts = packet.dts
            if packet.pts is not None:
                end = packet.pts + (packet.duration or 0)
                self._end = end if self._end is None else max(self._end, end)
                if not packet.is_discard:
                    self._max_pts = max(packet.pts, self._max_pts or packet.pts)
            yield packet

    def check_end(self, last: int | None) -> None:
        """Raise TruncatedVideo or DamagedVideo unless the stream is complete up to its end.

        ``last``: PTS of the last decoded frame.
        """
        if (
            self._last_dts is not None
            and self._listed_end is not None
            and self._last_dts < self._listed_end
        ):
            raise TruncatedVideo("the frames end before those listed in the file's index")
        if self._lacks_index and self._count < self._stream.frames - _END_TOLERANCE_FRAMES:
            raise TruncatedVideo(
                f"the file states {self._stream.frames} frames but contains {self._count}"
            )
        if self._end is not None and self._ends_early(self._end):
            raise TruncatedVideo("the file ends before its stated duration")
        if self._read_error:
            raise DamagedVideo(f"reading failed ({self._read_error})")
        skipping = self._stream.codec_context.skip_frame != "DEFAULT"
        if self._max_pts is None or last is None or skipping:
            return
        if (self._max_pts - last) * self._stream.time_base > self._tolerance:
            raise DamagedVideo("the last frames cannot be decoded")

    def _last_indexed_dts(self) -> int | None:
        """Return a lower bound of the last DTS from the file's index; None without an index."""
        if not _INDEXED & self._formats:
            return None
        entries = self._stream.index_entries
        count = len(entries)
        self._lacks_index = count <= 1 and "avi" in self._formats
        return int(entries[max(0, count - 1 - _END_TOLERANCE_FRAMES)].timestamp) if count else None

    def _ends_early(self, end: int) -> bool:
        """Whether all streams end well before the duration stated in the file's header."""
        container, stream = self._container, self._stream
        if container.duration is None or _WITHOUT_DURATION & self._formats:
            return False
        duration = Fraction(container.duration, av.time_base)
        # Matroska counts its duration from zero, other formats from their first packet.
        before_zero = min(0, container.start_time or 0)
        stated_end = Fraction(before_zero, av.time_base) + duration - self._tolerance
        if end * stream.time_base >= stated_end:
            return False
        # Audio or subtitles may be longer than the video: check the last packets of all streams.
        try:
            container.seek(end, stream=stream, backward=True)
            return not any(
                (packet.pts + (packet.duration or 0)) * packet.time_base >= stated_end
                for packet in container.demux()
                if packet.pts is not None
            )
        except (av.FFmpegError, IndexError, OSError):
            # Unreadable packets do not reach the end either.
            return True


class _OrderCheck:
    """Lets frames pass in order of strictly increasing PTS.

    A frame that is not later than the one before it is dropped and recorded in ``repairs``. So is
    a single frame far ahead of both its neighbors.
    """

    def __init__(self, repairs: TimestampRepairs, on_drop: Callable[[Any], None]) -> None:
        self._repairs, self._on_drop = repairs, on_drop
        self._number = -1
        self._last: int | None = None
        self._gap = 0
        self._ahead: Any = None
        self._size: tuple[int, int] | None = None

    def add(self, frame: Any) -> Iterator[Any]:
        """Yield the frames that are known to be in order with this one."""
        self._number += 1
        if frame.pts is None:
            raise UnreadableVideo(f"frame {self._number} has no timestamp")
        if self._ahead is not None and self._last is not None:
            ahead, self._ahead = self._ahead, None
            if self._last < frame.pts <= self._last + 2 * self._gap:
                self._drop(ahead)
            else:
                yield self._accept(ahead)
        if self._last is not None and frame.pts <= self._last:
            self._drop(frame)
        elif self._last is not None and 0 < 4 * self._gap < frame.pts - self._last:
            self._ahead = frame
        else:
            yield self._accept(frame)

    def finish(self) -> Iterator[Any]:
        """Yield the frame held back, if any."""
        if self._ahead is not None:
            yield self._accept(self._ahead)
            self._ahead = None

    def _drop(self, frame: Any) -> None:
        assert self._last is not None
        self._on_drop(frame)
        self._repairs.dropped[self._last] = self._repairs.dropped.get(self._last, 0) + 1

    def _accept(self, frame: Any) -> Any:
        size = frame.width, frame.height
        if self._last is not None:
            self._gap = frame.pts - self._last
            if self._gap * frame.time_base > _MAX_FRAME_DURATION:
                raise DamagedVideo(
                    f"the clock jumps by minutes before frame {self._number} ({frame.pts})"
                )
        if self._size is not None and size != self._size:
            raise UnreadableVideo(
                f"the frame size changes at frame {self._number}: from "
                f"{self._size[0]}x{self._size[1]} to {size[0]}x{size[1]}"
            )
        self._last, self._size = frame.pts, size
        return frame
