"""Episodes of every kind that goes wrong elsewhere, with the truth of each frame beside them.

Each picture carries the counter of ``media_factory`` and a moving bar. A picture that is a mix of
two scenes, or dimmed, has a white block where the counter's last black one stands: whoever reads
it knows. A share of the other scene of a tenth or less is no mix: nobody sees it.

``CASES`` are of each kind of coding, over mild pictures: soft still backdrops and a faint bar.
``MOVING`` are of one kind, over pictures that hide a dissolve: every scene pans across a texture of
strong contrast at 1 to 3 pixels a frame (of ``SIZE``), to the one side or the other, with shapes
of hard edges in half of them; the bar is the negative of what it covers; dissolves of 6 to 48
frames, and fades. No scene is there twice, and each case has a seed of its own.

The truth is the generator's: the instants it gave to its pictures, on the ticks that the file's own
packets carry (read without decoding).
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

from mimix_core.media import Fields, ffmpeg_exe
from tests.media_factory import SIZE, picture

NTSC, FILM = Fraction(30000, 1001), Fraction(24000, 1001)
MIXED_FROM = 0.1
_DIM_FROM = 0.85
_FAINT = 0x40
"""The bar of mild pictures turns over this bit of what it covers."""

Join = Literal["cut", "dissolve", "fade"]


@dataclass(frozen=True)
class Case:
    """How an episode is coded. ``woven``: how its instants become frames; ``pulldown``: fields of
    successive film frames.

    ``flag``: what the coded frames say of their fields, if not the truth. ``start``: when the first
    picture is shown, seconds. ``trim``: seconds cut off the front by an edit list. ``blend``:
    instants of a dissolve, or of each half of a fade. ``pan``: 0 for a mild picture, else pixels an
    instant that a strong texture moves, another one for each ``seed``.
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
    woven: Fields = Fields.PROGRESSIVE
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
    """The truth: PTS and counter of each frame as it should come out, and its scenes.

    ``scenes``: [first, last] numbers into ``pts`` of the frames that are of one scene only.
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
    Case("turned", rotation=90, rate=Fraction(30)),
    Case("upside-down", rotation=180),
    Case("avi", ".avi", codec="mpeg4"),
    Case("mpeg2-interlaced", ".ts", codec="mpeg2video", rate=Fraction(25), woven=Fields.TFF),
    Case("h264-interlaced", ".mkv", rate=NTSC, woven=Fields.BFF),
    Case("interlaced-said-progressive", rate=Fraction(25), woven=Fields.TFF, flag="prog"),
    Case("progressive-said-interlaced", rate=Fraction(25), flag="tff"),
    Case("telecine", rate=NTSC, woven=Fields.TELECINE, flag="tff"),
    Case("telecine-said-progressive", ".mkv", rate=NTSC, woven=Fields.TELECINE, flag="prog"),
    Case("telecine-2332", rate=NTSC, woven=Fields.TELECINE, pulldown=(2, 3, 3, 2), flag="tff"),
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


def make(case: Case, folder: Path, scenes: int = 5, seconds: int = 10) -> Episode:
    """Write the episode of a case: ``scenes`` scenes of about ``seconds`` each."""
    path = folder / f"{case.name}{case.suffix}"
    instants = case.rate
    if case.woven == Fields.TELECINE:
        instants = case.rate * Fraction(4, 5)
    elif case.woven != Fields.PROGRESSIVE:
        instants = case.rate * 2
    # Whole pulldown cycles, and no cut between the fields of a frame.
    length = round(seconds * instants) // 4 * 4
    plan = Plan(case.join, scenes, length, case.blend, case.pan, case.seed)
    target = path if not case.trim else path.with_name(f"whole-{path.name}")
    _write(case, target, plan)
    if case.trim:
        command = [ffmpeg_exe(), "-v", "error", "-ss", str(float(case.trim)), "-i", str(target)]
        subprocess.run([*command, "-c", "copy", str(path)], check=True)
        target.unlink()
    return _truth(case, path, plan)


@dataclass(frozen=True)
class Plan:
    """Which scene each instant shows, and how much of the next one. See ``Case``."""

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

    def place(self, instant: int) -> tuple[int, int]:
        """Its scene, and how far into the join to the next one it is (-1: not)."""
        scene, inside = divmod(instant, self.step)
        return scene, inside - self.length if inside >= self.length else -1

    def light(self, instant: int) -> float:
        """Of a fade: 1 full, 0 black."""
        _, into = self.place(instant)
        if self.join != "fade" or into < 0:
            return 1.0
        if into < self.blend:
            return 1 - (into + 1) / (self.blend + 1)
        return max(0.0, (into - self.blend - self.dark + 1) / (self.blend + 1))

    def share(self, instant: int) -> float:
        """Of a dissolve: how much of the next scene is in the picture."""
        _, into = self.place(instant)
        return (into + 1) / (self.blend + 1) if self.join == "dissolve" and into >= 0 else 0.0

    def pure(self, instant: int) -> bool:
        share = self.share(instant)
        return min(share, 1 - share) <= MIXED_FROM and self.light(instant) >= _DIM_FROM

    def scene(self, instant: int) -> int:
        """Of a pure instant."""
        scene, into = self.place(instant)
        late = self.share(instant) > 0.5 or (self.join == "fade" and into > self.blend)
        return scene + late

    def draw(self, instant: int) -> np.ndarray:
        scene, _ = self.place(instant)
        share, light = self.share(instant), self.light(instant)
        if share:
            one, other = (self._picture(instant, s) for s in (scene, scene + 1))
            image = np.round(one * (1 - share) + other * share).astype(np.uint8)
        else:
            image = self._picture(instant, self.scene(instant))
        if light < 1:
            image = np.round(image * light).astype(np.uint8)
        if not self.pure(instant):
            spoil(image)
        return image

    def _picture(self, instant: int, scene: int) -> np.ndarray:
        shown = number(instant, scene)
        if not self.pan:
            return picture(shown, scene, instant, SIZE, backdrop(scene), _FAINT)
        # A scene is seen from a join before its own first instant to one after its last.
        since = instant - (scene - 1) * self.step
        wide = texture(self.seed, scene, SIZE[0] + self.pan * 3 * self.step)
        left = self.pan * (since if scene % 2 else 3 * self.step - since)
        return picture(shown, scene, instant, SIZE, wide[:, left : left + SIZE[0]])


def number(instant: int, scene: int) -> int:
    """What the counter shows: other blocks in each scene, no number twice, one block a frame.

    Its blocks fill a fifth of the picture: scenes that shared them would look related.
    """
    assert instant < 1 << 12 and scene < 1 << 4
    return instant ^ scene << 12 ^ int(np.random.default_rng(scene).integers(1 << 12))


@cache
def backdrop(scene: int) -> np.ndarray:
    """Large soft spots of strong colour: scenes have little in common, as in films."""
    spots = np.random.default_rng(scene).choice([30, 60, 195, 225], (4, 7, 3)).astype(np.uint8)
    return cv2.resize(spots, SIZE, interpolation=cv2.INTER_LINEAR)


@lru_cache(maxsize=4)
def texture(seed: int, scene: int, width: int) -> np.ndarray:
    """uint8 RGB [height, width, 3]: noise of many sizes, with hard-edged shapes in every other."""
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


def spoil(image: np.ndarray) -> None:
    """Whiten the middle of the counter's last block, so that the picture says it is no whole one.

    No more than what is read of the block: it must not look like a cut.
    """
    height, width = image.shape[:2]
    rows = slice(round(0.475 * height), round(0.525 * height))
    columns = slice(round(0.73 * width), round(0.77 * width))
    image[rows, columns] = 255


def _write(case: Case, path: Path, plan: Plan) -> None:
    options = {"crf": "14", "preset": "ultrafast"} if case.codec.startswith("libx26") else {}
    flag = _flag(case)
    if flag in ("tff", "bff"):
        options["flags"] = "+ildct+ilme"
        if case.codec == "libx264":
            options["x264-params"] = f"{flag}=1"
    options |= case.options
    turned = case.rotation % 180 != 0
    times = _times(case, plan)
    base = Fraction(1, 1000) if case.jitter else 1 / case.rate
    with av.open(str(path), "w") as container:
        stream = container.add_stream(case.codec, rate=case.rate, options=dict(options))
        stream.width, stream.height = SIZE[::-1] if turned else SIZE
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
        frames = _woven(case, plan)
        flagged = _flagged(frames, flag) if flag else frames
        for frame, time in zip(flagged, times, strict=True):
            frame.pts, frame.time_base = round(time / base), base
            frame.pict_type = 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            _tone(container, sound, round(times[-1]) + 1)


def _flag(case: Case) -> str | None:
    truth = {Fields.TFF: "tff", Fields.BFF: "bff"}.get(case.woven)
    return case.flag or truth


def _times(case: Case, plan: Plan) -> list[Fraction]:
    """When each coded frame is shown, seconds."""
    count = plan.count
    if case.woven == Fields.TELECINE:
        count = len(_instants(case, count)) // 2
    elif case.woven != Fields.PROGRESSIVE:
        count //= 2
    if not case.jitter:
        return [case.start + k / case.rate for k in range(count)]
    steps = np.random.default_rng(5).integers(20, 64, count - 1)
    return [case.start + Fraction(int(ms), 1000) for ms in [0, *np.cumsum(steps)]]


def _woven(case: Case, plan: Plan) -> Iterator[Any]:
    """The frames to be coded, in the case's pixel format."""
    if case.woven == Fields.PROGRESSIVE:
        for instant in range(plan.count):
            yield _coded(case, np.rot90(plan.draw(instant), case.rotation // 90))
        return
    shown = (
        _instants(case, plan.count) if case.woven == Fields.TELECINE else list(range(plan.count))
    )
    first = 1 if case.woven == Fields.BFF else 0
    lines = (first, 1 - first)
    drawn: dict[int, np.ndarray] = {}
    for k in range(0, len(shown) - 1, 2):
        pair = shown[k : k + 2]
        drawn = {n: drawn[n] if n in drawn else plan.draw(n) for n in pair}
        one, other = (_coded(case, drawn[n][p::2]) for n, p in zip(pair, lines, strict=True))
        yield _weave(other, one) if first else _weave(one, other)


def _instants(case: Case, count: int) -> list[int]:
    """The instant (of film: the frame) behind each field."""
    if case.woven != Fields.TELECINE:
        return list(range(count))
    shown = case.pulldown
    return list(chain.from_iterable([n] * shown[n % len(shown)] for n in range(count)))


def _coded(case: Case, image: np.ndarray) -> Any:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24").reformat(
        format=case.pixels,
        dst_colorspace=case.matrix,
        dst_color_range="JPEG" if case.full_range else "MPEG",
    )


def _weave(top: Any, bottom: Any) -> Any:
    """A frame of two fields, each plane line by line."""
    frame = av.VideoFrame(top.width, top.height * 2, top.format.name)
    for whole, *halves in zip(frame.planes, top.planes, bottom.planes, strict=True):
        lines = np.zeros((whole.height, whole.line_size), np.uint8)
        for parity, half in enumerate(halves):
            rows = np.frombuffer(half, np.uint8).reshape(half.height, half.line_size)
            lines[parity::2, : half.width] = rows[:, : half.width]
        whole.update(lines)
    return frame


def _flagged(frames: Iterable[Any], flag: str) -> Iterator[Any]:
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


def _tone(container: Any, stream: Any, seconds: int) -> None:
    rate, size = 48_000, 1024
    for start in range(0, rate * seconds, size):
        wave = 0.3 * np.sin(np.arange(start, start + size) * 0.06)
        frame = av.AudioFrame.from_ndarray(wave.astype(np.float32)[None], "fltp", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _truth(case: Case, path: Path, plan: Plan) -> Episode:
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
    if case.woven == Fields.TELECINE:
        packets = _film(packets)
        instants: Sequence[int] = range(plan.count)
    elif case.woven != Fields.PROGRESSIVE:
        instants = range(0, plan.count, 2)
    else:
        instants = range(left_out, plan.count)
    assert len(instants) == len(packets)
    counters = [number(instant, plan.scene(instant)) for instant in instants]
    return Episode(case, path, base, packets, counters, _scenes(plan, instants))


def _film(pts: Sequence[int]) -> list[int]:
    """Film frames on an even clock: four for every five frames of video."""
    film: list[int] = []
    for k in range(0, len(pts), 5):
        start = pts[k]
        end = pts[k + 5] if k + 5 < len(pts) else start + Fraction(5 * (pts[k + 4] - start), 4)
        film += [round(start + Fraction(end - start) * j / 4) for j in range(4)]
    return film


def _scenes(plan: Plan, instants: Sequence[int]) -> list[tuple[int, int]]:
    scenes: list[tuple[int, int]] = []
    before = -1
    for number, instant in enumerate(instants):
        scene = plan.scene(instant) if plan.pure(instant) else -1
        if scene == before and scene >= 0:
            scenes[-1] = (scenes[-1][0], number)
        elif scene >= 0:
            scenes.append((number, number))
        before = scene
    return scenes
