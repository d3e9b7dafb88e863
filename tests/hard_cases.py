"""Generated episodes of many difficult kinds, with the ground truth of each frame.

Each frame shows the counter of ``media_factory`` and a moving bar. In a frame that blends two
scenes, or is dimmed, the counter's last black block is white, which makes reading the counter
fail. A share of the other scene of a tenth or less does not count as a blend: it is invisible.

``CASES`` cover each kind of encoding with simple images: soft still backdrops and a faint bar.
``MOVING`` cover one kind of encoding with images that hide a dissolve: every scene pans across a
high-contrast texture at 1 to 3 pixels per frame (at ``SIZE``), in either direction, with
hard-edged shapes in half of them; the bar inverts what it covers; dissolves of 6 to 48 frames, and
fades. No scene is used twice, and each case has a different seed.

The ground truth comes from the generator: the instants it assigned to its images, on the timestamps
of the file's packets (read without decoding).
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import av
import cv2
import numpy as np

from mimix_core.media import ScanType, find_ffmpeg
from tests.media_factory import SIZE, draw_frame

NTSC, FILM = Fraction(30000, 1001), Fraction(24000, 1001)
MAX_PURE_SHARE = 0.1
_MIN_PURE_BRIGHTNESS = 0.85
_FAINT_BAR_BITS = 0x40
"""The bar of simple images flips this bit of what it covers."""

Join = Literal["cut", "dissolve", "fade"]


@dataclass(frozen=True)
class Case:
    """How an episode is encoded.

    ``scan_type``: how its instants become frames; ``pulldown``: number of fields of successive film
    frames. ``flag``: the field flag of the coded frames, if it is wrong. ``start``: time of the
    first frame, seconds. ``trim``: seconds cut off the front by an edit list. ``blend``: instants
    of a dissolve, or of each half of a fade. ``pan``: 0 for a simple image, or the pixels per
    instant by which a high-contrast texture moves, a different one for each ``seed``.
    """

    name: str
    suffix: str = ".mp4"
    codec: str = "libx264"
    pixels: str = "yuv420p"
    rate: Fraction = Fraction(24)
    join: Join = "cut"
    b_frames: int = 2
    gop: int = 48
    start: Fraction = Fraction(0)
    trim: Fraction = Fraction(0)
    jitter: bool = False
    sound: bool = False
    scan_type: ScanType = ScanType.PROGRESSIVE
    pulldown: tuple[int, ...] = (2, 3)
    flag: Literal["tff", "bff", "prog"] | None = None
    matrix: str = "ITU601"
    tags: Mapping[str, int] = field(default_factory=dict)
    full_range: bool = False
    aspect: Fraction = Fraction(1)
    rotation: int = 0
    blend: int = 14
    pan: int = 0
    seed: int = 0
    options: Mapping[str, str] = field(default_factory=dict)


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


CASES = (
    Case("cuts"),
    Case("dissolves", ".mkv", rate=Fraction(25), join="dissolve"),
    Case("fades", join="fade"),
    Case("variable-rate", jitter=True),
    Case("many-b-frames", b_frames=8, gop=250, options={"x264-params": "b-pyramid=normal:ref=5"}),
    Case("open-gops", ".mkv", b_frames=3, gop=24, options={"x264-params": "open-gop=1"}),
    Case("transport-stream", ".ts", rate=Fraction(25), sound=True),
    Case("late-start", ".mkv", start=Fraction(7, 3)),
    Case("sound-first", ".mkv", start=Fraction(3, 2), sound=True),
    Case("edit-list", trim=Fraction(5, 4), gop=60),
    Case("hevc", codec="libx265", options={"x265-params": "log-level=none:pools=1"}),
    Case(
        "hevc-10-bit",
        ".mkv",
        codec="libx265",
        pixels="yuv420p10le",
        matrix="ITU709",
        tags={"colorspace": 1},
        options={"x265-params": "log-level=none:pools=1"},
    ),
    Case("10-bit-422", ".mkv", pixels="yuv422p10le", rate=Fraction(50)),
    Case("422", pixels="yuv422p"),
    Case("444", ".mkv", pixels="yuv444p", rate=NTSC),
    Case("full-range", full_range=True, tags={"color_range": 2}),
    Case("bt601", matrix="ITU601", tags={"colorspace": 6}),
    Case("bt709", matrix="ITU709", tags={"colorspace": 1}, rate=FILM),
    Case("bt2020", matrix="bt2020", tags={"colorspace": 9, "color_primaries": 9}),
    Case("anamorphic", aspect=Fraction(16, 11)),
    Case("is_rotated", rotation=90, rate=Fraction(30)),
    Case("upside-down", rotation=180),
    Case("avi", ".avi", codec="mpeg4"),
    Case("mpeg2-interlaced", ".ts", codec="mpeg2video", rate=Fraction(25), scan_type=ScanType.TFF),
    Case("h264-interlaced", ".mkv", rate=NTSC, scan_type=ScanType.BFF),
    Case("interlaced-said-progressive", rate=Fraction(25), scan_type=ScanType.TFF, flag="prog"),
    Case("progressive-said-interlaced", rate=Fraction(25), flag="tff"),
    Case("telecine", rate=NTSC, scan_type=ScanType.TELECINE, flag="tff"),
    Case("telecine-said-progressive", ".mkv", rate=NTSC, scan_type=ScanType.TELECINE, flag="prog"),
    Case(
        "telecine-2332", rate=NTSC, scan_type=ScanType.TELECINE, pulldown=(2, 3, 3, 2), flag="tff"
    ),
)

MOVING = (
    Case("moving-dissolves-6", join="dissolve", blend=6, pan=3, seed=1),
    Case("moving-dissolves-12", join="dissolve", blend=12, pan=2, seed=2),
    Case(
        "moving-dissolves-18", ".mkv", rate=Fraction(25), join="dissolve", blend=18, pan=3, seed=3
    ),
    Case("moving-dissolves-24", join="dissolve", blend=24, pan=1, seed=4),
    Case("moving-dissolves-30", ".mkv", rate=NTSC, join="dissolve", blend=30, pan=3, seed=5),
    Case("moving-dissolves-36", join="dissolve", blend=36, pan=2, seed=6),
    Case("moving-dissolves-48", join="dissolve", blend=48, pan=3, seed=7),
    Case("moving-dissolves-48-slow", join="dissolve", blend=48, pan=1, seed=8),
    Case("moving-fades", join="fade", blend=20, pan=3, seed=9),
    Case("moving-cuts", pan=3, seed=10),
)


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


@dataclass(frozen=True)
class EpisodePlan:
    """The scene that each instant shows, and the share of the next one. See ``Case``."""

    join: Join
    scenes: int
    length: int
    blend: int
    pan: int
    seed: int
    dark: int = 8

    @property
    def step(self) -> int:
        extra = {"cut": 0, "dissolve": self.blend, "fade": 2 * self.blend + self.dark}[self.join]
        return self.length + extra

    @property
    def count(self) -> int:
        return self.step * (self.scenes - 1) + self.length

    def position(self, instant: int) -> tuple[int, int]:
        """Return its scene, and its position in the transition to the next one (-1: not in one)."""
        scene, inside = divmod(instant, self.step)
        return scene, inside - self.length if inside >= self.length else -1

    def brightness(self, instant: int) -> float:
        """Return the brightness during a fade: 1 full, 0 black."""
        _, into = self.position(instant)
        if self.join != "fade" or into < 0:
            return 1.0
        if into < self.blend:
            return 1 - (into + 1) / (self.blend + 1)
        return max(0.0, (into - self.blend - self.dark + 1) / (self.blend + 1))

    def share(self, instant: int) -> float:
        """Return the share of the next scene during a dissolve."""
        _, into = self.position(instant)
        return (into + 1) / (self.blend + 1) if self.join == "dissolve" and into >= 0 else 0.0

    def is_pure(self, instant: int) -> bool:
        share = self.share(instant)
        return (
            min(share, 1 - share) <= MAX_PURE_SHARE
            and self.brightness(instant) >= _MIN_PURE_BRIGHTNESS
        )

    def scene(self, instant: int) -> int:
        """Return the scene of a pure instant."""
        scene, into = self.position(instant)
        late = self.share(instant) > 0.5 or (self.join == "fade" and into > self.blend)
        return scene + late

    def draw(self, instant: int) -> np.ndarray:
        scene, _ = self.position(instant)
        share, brightness = self.share(instant), self.brightness(instant)
        if share:
            one, other = (self._draw_scene(instant, s) for s in (scene, scene + 1))
            image = np.round(one * (1 - share) + other * share).astype(np.uint8)
        else:
            image = self._draw_scene(instant, self.scene(instant))
        if brightness < 1:
            image = np.round(image * brightness).astype(np.uint8)
        if not self.is_pure(instant):
            mark_impure(image)
        return image

    def _draw_scene(self, instant: int, scene: int) -> np.ndarray:
        shown = number(instant, scene)
        if not self.pan:
            return draw_frame(shown, scene, instant, SIZE, backdrop(scene), _FAINT_BAR_BITS)
        # A scene is visible from the transition before its first instant to that after its last.
        since = instant - (scene - 1) * self.step
        wide = texture(self.seed, scene, SIZE[0] + self.pan * 3 * self.step)
        left = self.pan * (since if scene % 2 else 3 * self.step - since)
        return draw_frame(shown, scene, instant, SIZE, wide[:, left : left + SIZE[0]])


def number(instant: int, scene: int) -> int:
    """Return the unique counter value: one block changes per frame, and blocks differ per scene.

    The blocks fill a fifth of the image: scenes with the same blocks would look related.
    """
    assert instant < 1 << 12 and scene < 1 << 4
    return instant ^ scene << 12 ^ int(np.random.default_rng(scene).integers(1 << 12))


@cache
def backdrop(scene: int) -> np.ndarray:
    """Draw large soft spots of strong color: scenes have little in common, as in films."""
    spots = np.random.default_rng(scene).choice([30, 60, 195, 225], (4, 7, 3)).astype(np.uint8)
    return cv2.resize(spots, SIZE, interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=4)
def texture(seed: int, scene: int, width: int) -> np.ndarray:
    """Draw multi-scale noise, uint8 RGB [height, width, 3], half of them with hard-edged shapes."""
    random = np.random.default_rng((seed, scene))
    height = SIZE[1]
    image = np.full((height, width, 3), random.integers(90, 166, 3), np.float32)
    for cell, strength in ((64, 84), (32, 63), (16, 49), (8, 35), (4, 25)):
        grid = height // cell + 2, width // cell + 2
        noise = random.uniform(-1, 1, (*grid, 1)) + random.uniform(-1, 1, (*grid, 3))
        size = grid[1] * cell, grid[0] * cell
        wave = cv2.resize(
            (strength / 2 * noise).astype(np.float32), size, None, 0, 0, cv2.INTER_CUBIC
        )
        image += wave[:height, :width]
    if (seed + scene) % 2:
        for _ in range(width // 8):
            centre = int(random.integers(width)), int(random.integers(height))
            colour = [float(level) for level in random.integers(0, 256, 3)]
            cv2.circle(image, centre, int(random.integers(4, 28)), colour, -1)
    return image.clip(0, 255).astype(np.uint8)


def mark_impure(image: np.ndarray) -> None:
    """Whiten the center of the counter's last block, to mark the image as blended or dimmed.

    Only the area read from the block is whitened: it must not look like a cut.
    """
    height, width = image.shape[:2]
    rows = slice(round(0.475 * height), round(0.525 * height))
    columns = slice(round(0.73 * width), round(0.77 * width))
    image[rows, columns] = 255


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
    for number, instant in enumerate(instants):
        scene = plan.scene(instant) if plan.is_pure(instant) else -1
        if scene == before and scene >= 0:
            scenes[-1] = (scenes[-1][0], number)
        elif scene >= 0:
            scenes.append((number, number))
        before = scene
    return scenes
