"""Running frames through libavfilter graphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import av


def build_filter_graph(frame: Any, steps: Sequence[tuple[str, str]]) -> Any:
    """Build a single-threaded graph of (filter, arguments) ``steps`` for frames like ``frame``."""
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


def filter_frames(graph: Any, frames: Iterable[Any]) -> Iterator[Any]:
    """Push ``frames`` through a graph and yield its output, flushing it at the end."""
    for frame in frames:
        graph.vpush(frame)
        yield from _pull_available(graph)
    graph.vpush(None)
    yield from _pull_available(graph)


def _pull_available(graph: Any) -> Iterator[Any]:
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return
