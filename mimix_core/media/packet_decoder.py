"""Packet-by-packet decoding of one stream, with detection of damage and of a missing end."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import av

from mimix_core.media.container import demux_packets, error_text
from mimix_core.media.probe import DamagedVideo, TruncatedVideo, UnreadableVideo

_MAX_FAILED_PACKETS = 100
"""After this many undecodable packets in a row decoding fails."""

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
    rejected: list[int] = field(default_factory=list)
    last: int | None = None
    min_gap: int | None = None
    pending_b_frames: list[int] = field(default_factory=list)

    def add_packet(self, packet: Any, context: Any) -> None:
        if packet.pts is None or packet.is_discard or not packet.size:
            return
        if packet.is_corrupt:
            self.rejected.append(packet.pts)
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


def decode_frames(container: Any, stream: Any, damage: DamagedFrames) -> Iterator[Any]:
    """Decode all frames from the container's position, in order of strictly increasing PTS.

    Undecodable frames are skipped and recorded in ``damage``. Raises, after the last decodable
    frame: TruncatedVideo when the file ends well before its stated end, DamagedVideo when decoding
    fails, UnreadableVideo when the frame size changes.
    """
    yield from _check_order(_decode_packets(container, stream, damage))


def _decode_packets(container: Any, stream: Any, damage: DamagedFrames) -> Iterator[Any]:
    tracker = _DamageTracker(damage)
    reader = _PacketReader(container, stream)
    context = stream.codec_context
    failed_packets = 0
    for packet in reader.packets():
        tracker.add_packet(packet, context)
        try:
            frames = packet.decode()
        except av.FFmpegError as error:
            failed_packets += 1
            if failed_packets == _MAX_FAILED_PACKETS:
                raise DamagedVideo(f"decoding failed ({error_text(error)})") from error
            if packet.pts is not None:
                tracker.rejected.append(packet.pts)
            continue
        if frames:
            failed_packets = 0
        for frame in frames:
            tracker.add_frame(frame)
            yield frame
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


def _check_order(frames: Iterator[Any]) -> Iterator[Any]:
    last: int | None = None
    size = None
    for number, frame in enumerate(frames):
        if frame.pts is None:
            raise UnreadableVideo(f"frame {number} has no timestamp")
        if last is not None and frame.pts <= last:
            raise DamagedVideo(f"the timestamp of frame {number} does not increase ({frame.pts})")
        if last is not None and (frame.pts - last) * frame.time_base > _MAX_FRAME_DURATION:
            raise DamagedVideo(f"the clock jumps by minutes before frame {number} ({frame.pts})")
        if size is not None and (frame.width, frame.height) != size:
            raise UnreadableVideo(
                f"the frame size changes at frame {number}: from {size[0]}x{size[1]} to "
                f"{frame.width}x{frame.height}"
            )
        last, size = frame.pts, (frame.width, frame.height)
        yield frame
