"""How a source's fields become frames: found in its pictures, since its flags lie both ways."""

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

from mimix_core.media.container import moving_pictures, open_container
from mimix_core.media.filters import frame_graph, pulled

_STRETCHES = 8
_STRETCH_FRAMES = 36

_MIN_WOVEN = 8
"""Fewer frames seen to be woven of two instants prove nothing: noise and fine stripes do that."""

_WOVEN_SHARE = Fraction(1, 2)
"""Of the frames that show anything: as many as this must be woven in interlaced video."""

_CYCLE = 5
_MIN_REPEATS = 3
_CADENCE_HOLDS = Fraction(4, 5)
"""Of the repeats of a field in a stretch: so many stand at the same place of five."""

_PULLDOWN_RATES = (Fraction(29), Fraction(31))

_BOTTOM_FIRST = {3, 5}
"""FFmpeg's AVFieldOrder: bb and bt."""


class Fields(StrEnum):
    """How the fields of a source make frames.

    ``TFF`` and ``BFF``: two instants woven into each frame, the top or the bottom field's first.
    ``TELECINE``: film at 24/s spread over 30 frames/s of fields (3:2 pulldown).
    """

    PROGRESSIVE = "progressive"
    TFF = "interlaced-tff"
    BFF = "interlaced-bff"
    TELECINE = "telecine"


@dataclass(frozen=True)
class Stretch:
    """What FFmpeg's ``idet`` says of successive frames, a letter each.

    ``orders``: t(op field first), b(ottom first), p(rogressive), u(ndetermined). ``repeats``: the
    t(op) or b(ottom) field is that of the frame before; n(either).
    """

    orders: str
    repeats: str

    @property
    def woven(self) -> int:
        """How many frames hold two instants."""
        return self.orders.count("t") + self.orders.count("b")

    @property
    def has_cadence(self) -> bool:
        """Whether one field repeats at one place of every five frames, the other at another.

        That is pulldown: AA BB BC CD DD repeats the top field of B and the bottom field of D.
        """
        places = []
        for field in "tb":
            found = Counter(k % _CYCLE for k, repeat in enumerate(self.repeats) if repeat == field)
            place, most = found.most_common(1)[0] if found else (0, 0)
            if most < _MIN_REPEATS or most < _CADENCE_HOLDS * found.total():
                return False
            places.append(place)
        return places[0] != places[1]


def find_fields(path: Path, *, threads: int = 2) -> Fields:
    """How the fields of a video file make frames, judged by combing in a few short stretches.

    One answer for the whole file: that of most of its moving pictures. Pictures in which nothing
    moves are progressive, whatever the flags say; flags only decide between top and bottom field
    first where the pictures do not. Raises UnreadableVideo.
    """
    with open_container(path) as container:
        stream = moving_pictures(container, path)
        stream.thread_count = threads
        stream.thread_type = "AUTO"
        stretches = [_judged(frames) for frames in _stretches(container, stream)]
        rate = Fraction(stream.average_rate or 0)
        order = int(stream.codec_context.field_order)
    return judge(stretches, rate, bottom_first=order in _BOTTOM_FIRST)


def judge(stretches: Sequence[Stretch], rate: Fraction, *, bottom_first: bool) -> Fields:
    """``find_fields`` on the verdicts; ``bottom_first``: what the file's flags say."""
    votes = Counter("".join(stretch.orders for stretch in stretches))
    woven = votes["t"] + votes["b"]
    telling = woven + votes["p"]
    if woven < _MIN_WOVEN:
        return Fields.PROGRESSIVE
    cadenced = sum(stretch.woven for stretch in stretches if stretch.has_cadence)
    if _PULLDOWN_RATES[0] <= rate <= _PULLDOWN_RATES[1] and 2 * cadenced > woven:
        return Fields.TELECINE
    if woven < _WOVEN_SHARE * telling:
        return Fields.PROGRESSIVE
    if max(votes["t"], votes["b"]) < 2 * min(votes["t"], votes["b"]):
        return Fields.BFF if bottom_first else Fields.TFF
    return Fields.BFF if votes["b"] > votes["t"] else Fields.TFF


def _stretches(container: Any, stream: Any) -> Iterator[Iterator[Any]]:
    """Runs of frames, spread evenly; as much as can be decoded of each."""
    start, length = stream.start_time or 0, stream.duration
    if not length and container.duration:
        length = round(Fraction(container.duration, av.time_base) / stream.time_base)
    whole = _STRETCHES * _STRETCH_FRAMES
    claimed = (length or 0) * stream.time_base * (stream.average_rate or 0)
    if claimed < whole:
        yield _run(container, stream, whole)
        return
    for part in range(_STRETCHES):
        try:
            container.seek(start + length * part // _STRETCHES, stream=stream, backward=True)
        except av.FFmpegError:
            # A damaged file: what is wrong with it is found and said where it is decoded whole.
            return
        yield _run(container, stream, _STRETCH_FRAMES)


def _run(container: Any, stream: Any, count: int) -> Iterator[Any]:
    try:
        yield from islice(container.decode(stream), count)
    except (av.FFmpegError, IndexError):
        # As above: the frames up to here still tell what they tell.
        return


def _judged(frames: Iterator[Any]) -> Stretch:
    """Up to a change of the picture's size."""
    first = next(frames, None)
    if first is None:
        return Stretch("", "")
    size = first.width, first.height
    same = takewhile(lambda frame: (frame.width, frame.height) == size, frames)
    graph = frame_graph(first, [("idet", "")])
    said = [frame.metadata for frame in pulled(graph, chain([first], same))]
    return Stretch(
        orders="".join(one["lavfi.idet.single.current_frame"][0] for one in said),
        repeats="".join(one["lavfi.idet.repeated.current_frame"][0] for one in said),
    )
