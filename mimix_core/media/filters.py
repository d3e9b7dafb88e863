"""libavfilter graphs that frames are pushed through."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import av


def frame_graph(frame: Any, steps: Sequence[tuple[str, str]]) -> Any:
    """A graph of (filter, arguments) ``steps``, on one thread, for frames like ``frame``."""
    graph = av.filter.Graph()
    graph.threads = 1
    last = graph.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=str(frame.time_base),
        pixel_aspect="1/1",
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
    )
    for name, arguments in steps:
        step = graph.add(name, arguments)
        last.link_to(step)
        last = step
    last.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def pulled(graph: Any, frames: Iterable[Any]) -> Iterator[Any]:
    """What comes out of a graph while ``frames`` go in, and after the last of them."""
    for frame in frames:
        graph.vpush(frame)
        yield from _ready(graph)
    graph.vpush(None)
    yield from _ready(graph)


def _ready(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
