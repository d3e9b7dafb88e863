"""Write the episodes of hard cases, with the ground truth of each frame.

The ground truth comes from the generator: the instants it assigned to its images, on the timestamps
of the file's packets (read without decoding).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np

from mimix_core.media import ScanType, find_ffmpeg
from tests.episode_plan import EpisodePlan, number
from tests.hard_cases import Case
from tests.media_factory import SIZE


@dataclass(frozen=True)
class Episode:
    """The ground truth: expected PTS and counter of each frame, and the scenes.

    ``scenes``: [first, last] indices into ``pts`` of the frames that show one scene only.
    """

    case: Case
    path: Path
    time_base: Fraction
    pts: list[int]
    counters: list[int]
    scenes: list[tuple[int, int]]


def write_episode(case: Case, folder: Path, scenes: int = 5, seconds: int = 10) -> Episode:
    """Write the episode of a case: ``scenes`` scenes of about ``seconds`` each."""
    path = folder / f"{case.name}{case.suffix}"
    instants = case.rate
    if case.scan_type == ScanType.TELECINE:
        instants = case.rate * Fraction(4, 5)
    elif case.scan_type != ScanType.PROGRESSIVE:
        instants = case.rate * 2
    # Complete pulldown cycles, and no cut between the fields of a frame.
    length = round(seconds * instants) // 4 * 4
    plan = EpisodePlan(case.join, scenes, length, case.blend, case.pan, case.seed)
    target = path if not case.trim else path.with_name(f"whole-{path.name}")
    _write(case, target, plan)
    if case.trim:
        command = [find_ffmpeg(), "-v", "error", "-ss", str(float(case.trim)), "-i", str(target)]
        subprocess.run([*command, "-c", "copy", str(path)], check=True)
        target.unlink()
    return _truth(case, path, plan)


def _write(case: Case, path: Path, plan: EpisodePlan) -> None:
    options = {"crf": "14", "preset": "ultrafast"} if case.codec.startswith("libx26") else {}
    flag = _field_flag(case)
    if flag in ("tff", "bff"):
        options["flags"] = "+ildct+ilme"
        if case.codec == "libx264":
            options["x264-params"] = f"{flag}=1"
    options |= case.options
    is_rotated = case.rotation % 180 != 0
    times = _times(case, plan)
    base = Fraction(1, 1000) if case.jitter else 1 / case.rate
    with av.open(str(path), "w") as container:
        stream = container.add_stream(case.codec, rate=case.rate, options=dict(options))
        stream.width, stream.height = SIZE[::-1] if is_rotated else SIZE
        stream.pix_fmt = case.pixels
        context = stream.codec_context
        context.time_base = base
        context.gop_size, context.max_b_frames = case.gop, case.b_frames
        context.thread_count, context.bit_rate = 1, 4_000_000
        context.sample_aspect_ratio = case.aspect
        for name, value in case.tags.items():
            setattr(context, name, value)
        if case.rotation:
            stream.set_display_rotation(-case.rotation)
        sound = container.add_stream("aac", rate=48_000) if case.sound else None
        frames = _coded_frames(case, plan)
        flagged = _set_field_flag(frames, flag) if flag else frames
        for frame, time in zip(flagged, times, strict=True):
            frame.pts, frame.time_base = round(time / base), base
            frame.pict_type = 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _write_tone(container, sound, round(times[-1]) + 1)


def _field_flag(case: Case) -> str | None:
    truth = {ScanType.TFF: "tff", ScanType.BFF: "bff"}.get(case.scan_type)
    return case.flag or truth


def _times(case: Case, plan: EpisodePlan) -> list[Fraction]:
    """Return the display time of each coded frame, seconds."""
    count = plan.count
    if case.scan_type == ScanType.TELECINE:
        count = len(_instants_of_fields(case, count)) // 2
    elif case.scan_type != ScanType.PROGRESSIVE:
        count //= 2
    if not case.jitter:
        return [case.start + k / case.rate for k in range(count)]
    steps = np.random.default_rng(5).integers(20, 64, count - 1)
    return [case.start + Fraction(int(ms), 1000) for ms in [0, *np.cumsum(steps)]]


def _coded_frames(case: Case, plan: EpisodePlan) -> Iterator[Any]:
    """Draw the frames to be encoded, in the case's pixel format."""
    if case.scan_type == ScanType.PROGRESSIVE:
        for instant in range(plan.count):
            yield _to_pixel_format(case, np.rot90(plan.draw(instant), case.rotation // 90))
        return
    shown = (
        _instants_of_fields(case, plan.count)
        if case.scan_type == ScanType.TELECINE
        else list(range(plan.count))
    )
    first = 1 if case.scan_type == ScanType.BFF else 0
    lines = (first, 1 - first)
    drawn: dict[int, np.ndarray] = {}
    for k in range(0, len(shown) - 1, 2):
        pair = shown[k : k + 2]
        drawn = {n: drawn[n] if n in drawn else plan.draw(n) for n in pair}
        one, other = (
            _to_pixel_format(case, drawn[n][p::2]) for n, p in zip(pair, lines, strict=True)
        )
        yield _interlace(other, one) if first else _interlace(one, other)


def _instants_of_fields(case: Case, count: int) -> list[int]:
    """Return the instant (for film: the frame) of each field."""
    if case.scan_type != ScanType.TELECINE:
        return list(range(count))
    shown = case.pulldown
    return list(chain.from_iterable([n] * shown[n % len(shown)] for n in range(count)))


def _to_pixel_format(case: Case, image: np.ndarray) -> Any:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
        format=case.pixels,
        dst_colorspace=case.matrix,
        dst_color_range="JPEG" if case.full_range else "MPEG",
    )


def _interlace(top: Any, bottom: Any) -> Any:
    """Interlace two fields into a frame, each plane line by line."""
    frame = av.VideoFrame(top.width, top.height * 2, top.format.name)
    for whole, *halves in zip(frame.planes, top.planes, bottom.planes, strict=True):
        lines = np.zeros((whole.height, whole.line_size), np.uint8)
        for parity, half in enumerate(halves):
            rows = np.frombuffer(half, np.uint8).reshape(half.height, half.line_size)
            lines[parity::2, : half.width] = rows[:, : half.width]
        whole.update(lines)
    return frame


def _set_field_flag(frames: Iterable[Any], flag: str) -> Iterator[Any]:
    graph = None
    for frame in frames:
        frame.time_base = Fraction(1, 1000)
        if graph is None:
            graph = av.filter.Graph()
            source = graph.add_buffer(
                width=frame.width,
                height=frame.height,
                format=frame.format,
                time_base=frame.time_base,
            )
            graph.link_nodes(source, graph.add("setfield", flag), graph.add("buffersink"))
            graph.configure()
        graph.vpush(frame)
        yield graph.vpull()


def _write_tone(container: Any, stream: Any, seconds: int) -> None:
    rate, size = 48_000, 1024
    for start in range(0, rate * seconds, size):
        wave = 0.3 * np.sin(np.arange(start, start + size) * 0.06)
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _truth(case: Case, path: Path, plan: EpisodePlan) -> Episode:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        base = Fraction(stream.time_base)
        packets = sorted(
            packet.pts
            for packet in container.demux(stream)
            if packet.pts is not None and packet.size and not packet.is_discard
        )
    times = [time for time in _times(case, plan) if time >= case.start + case.trim]
    left_out = plan.count - len(times) if case.trim else 0
    assert len(packets) == len(times), (case.name, len(packets), len(times))
    for pts, time in zip(packets, times, strict=True):
        assert abs((pts - packets[0]) * base - (time - times[0])) <= base, (case.name, pts, time)
    if case.scan_type == ScanType.TELECINE:
        packets = _film_pts(packets)
        instants: Sequence[int] = range(plan.count)
    elif case.scan_type != ScanType.PROGRESSIVE:
        instants = range(0, plan.count, 2)
    else:
        instants = range(left_out, plan.count)
    assert len(instants) == len(packets)
    counters = [number(instant, plan.scene(instant)) for instant in instants]
    return Episode(case, path, base, packets, counters, _scenes(plan, instants))


def _film_pts(pts: Sequence[int]) -> list[int]:
    """Return evenly spaced PTS of the film frames: four for every five video frames."""
    film: list[int] = []
    for k in range(0, len(pts), 5):
        start = pts[k]
        end = pts[k + 5] if k + 5 < len(pts) else start + Fraction(5 * (pts[k + 4] - start), 4)
        film += [round(start + Fraction(end - start) * j / 4) for j in range(4)]
    return film


def _scenes(plan: EpisodePlan, instants: Sequence[int]) -> list[tuple[int, int]]:
    scenes: list[tuple[int, int]] = []
    before = -1
    for index, instant in enumerate(instants):
        scene = plan.scene(instant) if plan.is_pure(instant) else -1
        if scene == before and scene >= 0:
            scenes[-1] = (scenes[-1][0], index)
        elif scene >= 0:
            scenes.append((index, index))
        before = scene
    return scenes
