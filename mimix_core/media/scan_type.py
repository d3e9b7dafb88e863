"""Scan type detection from the frames themselves, because the flags of files are often wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from itertools import chain, islice, takewhile
from pathlib import Path
from typing import Any

import av

from mimix_core.media.container import open_container, select_video_stream
from mimix_core.media.filters import build_filter_graph, filter_frames

_SEGMENTS = 8
_SEGMENT_FRAMES = 36

_MIN_INTERLACED_FRAMES = 8
"""Fewer frames classified as interlaced prove nothing: noise and fine stripes look interlaced."""

_MIN_INTERLACED_SHARE = Fraction(1, 2)
"""Share of the frames with a conclusive result that must be interlaced in interlaced video."""

_CYCLE = 5
_MIN_REPEATS = 3
_MIN_CADENCE_SHARE = Fraction(4, 5)
"""Share of the repeats of a field that must be at the same position of the five-frame cycle."""

_PULLDOWN_RATES = (Fraction(29), Fraction(31))

_BOTTOM_FIRST = {3, 5}
"""The values bb and bt of FFmpeg's AVFieldOrder."""


class ScanType(StrEnum):
    """How a source's fields form frames.

    ``TFF`` and ``BFF``: interlaced, each frame holds two instants, with the top or bottom field
    first. ``TELECINE``: film at 24 frames/s in interlaced video at 30 frames/s (3:2 pulldown).
    """

    PROGRESSIVE = "progressive"
    TFF = "interlaced-tff"
    BFF = "interlaced-bff"
    TELECINE = "telecine"


@dataclass(frozen=True)
class IdetResult:
    """The result of FFmpeg's ``idet`` for consecutive frames, one letter per frame.

    ``orders``: t(op field first), b(ottom field first), p(rogressive) or u(ndetermined).
    ``repeats``: the t(op) or b(ottom) field repeats that of the previous frame, or n(either).
    """

    orders: str
    repeats: str

    @property
    def interlaced_frames(self) -> int:
        """The number of frames that hold two instants."""
        return self.orders.count("t") + self.orders.count("b")

    @property
    def has_pulldown_cadence(self) -> bool:
        """Whether the two fields repeat at different fixed positions of the five-frame cycle.

        This is pulldown: AA BB BC CD DD repeats the top field of B and the bottom field of D.
        """
        positions = []
        for field in "tb":
            counts = Counter(k % _CYCLE for k, repeat in enumerate(self.repeats) if repeat == field)
            position, highest = counts.most_common(1)[0] if counts else (0, 0)
            if highest < _MIN_REPEATS or highest < _MIN_CADENCE_SHARE * counts.total():
                return False
            positions.append(position)
        return positions[0] != positions[1]


def detect_scan_type(path: Path, *, threads: int = 2) -> ScanType:
    """Detect the scan type of a video file from combing in a few short segments.

    There is one result per file: that of the majority of its frames with motion. Without motion the
    result is progressive, regardless of the flags; they only decide the field order where the
    frames do not. Raises UnreadableVideo.
    """
    with open_container(path) as container:
        stream = select_video_stream(container, path)
        stream.thread_count = threads
        stream.thread_type = "AUTO"
        results = [_run_idet(frames) for frames in _decode_segments(container, stream)]
        rate = Fraction(stream.average_rate or 0)
        order = int(stream.codec_context.field_order)
    return classify_scan_type(results, rate, bottom_first=order in _BOTTOM_FIRST)


def classify_scan_type(
    results: Sequence[IdetResult], rate: Fraction, *, bottom_first: bool
) -> ScanType:
    """Derive the scan type; ``bottom_first``: the field order according to the file's flags."""
    votes = Counter("".join(segment.orders for segment in results))
    interlaced = votes["t"] + votes["b"]
    conclusive = interlaced + votes["p"]
    if interlaced < _MIN_INTERLACED_FRAMES:
        return ScanType.PROGRESSIVE
    cadenced = sum(segment.interlaced_frames for segment in results if segment.has_pulldown_cadence)
    if _PULLDOWN_RATES[0] <= rate <= _PULLDOWN_RATES[1] and 2 * cadenced > interlaced:
        return ScanType.TELECINE
    if interlaced < _MIN_INTERLACED_SHARE * conclusive:
        return ScanType.PROGRESSIVE
    if max(votes["t"], votes["b"]) < 2 * min(votes["t"], votes["b"]):
        return ScanType.BFF if bottom_first else ScanType.TFF
    return ScanType.BFF if votes["b"] > votes["t"] else ScanType.TFF


def _decode_segments(container: Any, stream: Any) -> Iterator[Iterator[Any]]:
    """Yield evenly spaced segments of frames, each as far as it can be decoded."""
    start, length = stream.start_time or 0, stream.duration
    if not length and container.duration:
        length = round(Fraction(container.duration, av.time_base) / stream.time_base)
    total = _SEGMENTS * _SEGMENT_FRAMES
    stated = (length or 0) * stream.time_base * (stream.average_rate or 0)
    if stated < total:
        yield _decode_up_to(container, stream, total)
        return
    for part in range(_SEGMENTS):
        try:
            container.seek(start + length * part // _SEGMENTS, stream=stream, backward=True)
        except av.FFmpegError:
            # A damaged file: the complete decode detects and reports what is wrong with it.
            return
        yield _decode_up_to(container, stream, _SEGMENT_FRAMES)


def _decode_up_to(container: Any, stream: Any, count: int) -> Iterator[Any]:
    try:
        yield from islice(container.decode(stream), count)
    except (av.FFmpegError, IndexError):
        # As above; the frames decoded so far still count.
        return


def _run_idet(frames: Iterator[Any]) -> IdetResult:
    """Run ``idet`` on the frames up to a change of their size."""
    first = next(frames, None)
    if first is None:
        return IdetResult("", "")
    size = first.width, first.height
    same_size = takewhile(lambda frame: (frame.width, frame.height) == size, frames)
    graph = build_filter_graph(first, [("idet", "")])
    metadata = [frame.metadata for frame in filter_frames(graph, chain([first], same_size))]
    return IdetResult(
        orders="".join(tags["lavfi.idet.single.current_frame"][0] for tags in metadata),
        repeats="".join(tags["lavfi.idet.repeated.current_frame"][0] for tags in metadata),
    )
