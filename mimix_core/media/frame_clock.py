"""Presentation times of decoded frames where a container does not state them.

AVI, and MP4 without composition times, count packets in decoding order. With B-frames, players show
the frames in another order: FFmpeg then invents a presentation time for each packet, and the
decoder returns them out of order. The times themselves are right, only their assignment is not:
``FrameClock`` assigns them to the frames in the order in which these are displayed.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

_MAX_REORDER = 16
"""Maximum number of frames that are displayed before a frame decoded earlier (H.264, HEVC)."""

_MAX_UNDISPLAYED = 64
"""Packets without a frame of their own after which a video consists of such packets (fields)."""

_ONE_FRAME_DELAY = {"mpeg4", "msmpeg4v3", "mpeg1video", "mpeg2video", "vc1", "wmv3"}
"""Codecs in which only one decoded frame can wait for its display."""


@dataclass
class TimestampRepairs:
    """What was done so that the timestamps of the frames decoded so far increase.

    ``reordered``: the timestamps were assigned in the order of display. ``dropped``: the number of
    frames dropped because their timestamps did not increase, by the PTS of the frame before them.
    """

    reordered: bool = False
    dropped: dict[int, int] = field(default_factory=dict)

    def __bool__(self) -> bool:
        """Whether anything was repaired: frames are then the same only when read from the start."""
        return self.reordered or bool(self.dropped)


class FrameClock:
    """Assigns timestamps to the frames of one stream.

    Each packet is decoded with its number instead of its PTS. Frames get the PTS of their packet,
    unless the decoder displays a frame after another one that was decoded later and has a later
    PTS: then the PTS were counted in decoding order, and from there on each displayed frame gets
    the lowest PTS not yet assigned. Frames of which this is not yet known are held back.
    """

    def __init__(self, codec: str, repairs: TimestampRepairs, damage: set[int]) -> None:
        """``damage``: the PTS of frames whose timestamps may be wrong are added to it."""
        self._repairs, self._damage = repairs, damage
        self._delay = 1 if codec in _ONE_FRAME_DELAY else _MAX_REORDER
        self._count = 0
        self._undisplayed = 0
        self._stated: dict[int, int | None] = {}
        self._waiting: dict[int, int] = {}
        self._held: list[tuple[Any, int]] = []
        self._unassigned: list[int] = []
        self._recent: deque[int] = deque(maxlen=_MAX_REORDER)
        self._last: int | None = None

    def number_packet(self, packet: Any) -> None:
        """Replace the PTS of a packet by its number; its decoding time replaces a missing PTS."""
        if not packet.size:
            return
        number, self._count = self._count, self._count + 1
        stated = packet.pts if packet.pts is not None else packet.dts
        self._stated[number] = stated
        self._stated.pop(number - 100 * _MAX_REORDER, None)
        packet.pts = number
        if stated is not None and not packet.is_discard:
            self._waiting[number] = stated
            if self._repairs.reordered:
                insort(self._unassigned, stated)

    def add_frame(self, frame: Any, *, complete: bool) -> Iterator[Any]:
        """Yield the frames whose timestamps are known with this one, in order of display.

        ``complete``: no frame is skipped on purpose.
        """
        number = frame.pts
        frame.pts = None if number is None else self._stated.get(number)
        if frame.pts is None:
            yield from self._release()
            yield frame
            return
        self._waiting.pop(number, None)
        if self._repairs.reordered:
            self._forget_lost(number)
            self._assign(frame)
            yield frame
            return
        if not self._held and not (complete and self._may_be_reordered(number, frame.pts)):
            self._forget_old(number)
            self._last = frame.pts
            yield frame
            return
        self._held.append((frame, number))
        if self._is_reordered():
            self._repairs.reordered = True
            held, self._held = self._held, []
            self._unassigned = sorted([*self._waiting.values(), *(each.pts for each, _ in held)])
            for each, _ in held:
                self._assign(each)
                yield each
        elif len(self._held) > _MAX_REORDER:
            self._undisplayed += 1
            yield from self._release()

    def finish(self) -> Iterator[Any]:
        """Yield the frames held back."""
        yield from self._release()

    def _release(self) -> Iterator[Any]:
        """Yield the frames held back, with their stated PTS."""
        held, self._held = self._held, []
        for frame, number in held:
            self._forget_old(number)
            self._last = frame.pts
            yield frame

    def _may_be_reordered(self, number: int, pts: int) -> bool:
        """Whether a packet with an earlier PTS was decoded before this one, but not displayed."""
        if self._undisplayed >= _MAX_UNDISPLAYED:
            return False
        return any(
            earlier < number and stated < pts and (self._last is None or stated > self._last)
            for earlier, stated in self._waiting.items()
        )

    def _is_reordered(self) -> bool:
        """Whether the newest frame held back was decoded, and is timed, before one shown earlier.

        A single wrong PTS looks the same, but not like a count in decoding order: a packet decoded
        later has an earlier one.
        """
        newest, number = self._held[-1]
        return any(
            number < shown
            and all(
                (stated := self._stated.get(between)) is None or stated > newest.pts
                for between in range(number + 1, shown + 1)
            )
            for _, shown in self._held[:-1]
        )

    def _assign(self, frame: Any) -> None:
        if self._unassigned:
            frame.pts = self._unassigned.pop(0)
        self._recent.append(frame.pts)
        self._last = frame.pts

    def _forget_old(self, number: int) -> None:
        """Forget packets that were decoded too long ago to be displayed still."""
        for earlier in [n for n in self._waiting if n < number - _MAX_REORDER]:
            del self._waiting[earlier]

    def _forget_lost(self, number: int) -> None:
        """Give up the timestamps of packets that cannot be displayed any more."""
        waiting = [earlier for earlier in self._waiting if earlier < number]
        limit = len(waiting) - self._delay if self._delay == 1 else 0
        for index, earlier in enumerate(waiting):
            if index >= limit and earlier >= number - _MAX_REORDER:
                continue
            stated = self._waiting.pop(earlier)
            place = bisect_left(self._unassigned, stated)
            if place < len(self._unassigned) and self._unassigned[place] == stated:
                del self._unassigned[place]
            elif self._unassigned:
                # Its timestamp went to a later frame, and so on up to here.
                del self._unassigned[0]
                self._damage.update(self._recent)
