"""Generated videos whose frames show their number as a counter of large black and white blocks.

The counter has 18 blocks (6 x 3): a white one, 16 bits of the frame number in Gray code, high bit
first, and a black one. Only one block changes per frame, which does not look like a cut. The
counter is in the upper center, where crops of the bottom and of the sides do not remove it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av
import numpy as np

from mimix_core import tables
from mimix_core.engine.artifacts import Counts, TableRef, digest_file

COLUMNS, ROWS = 6, 3
LEFT, RIGHT, TOP, BOTTOM = 0.2, 0.8, 0.2, 0.56
SIZE = (320, 192)

COLORS = ((200, 40, 40), (40, 170, 60), (40, 70, 210), (220, 200, 60), (150, 60, 190))


@dataclass(frozen=True)
class Shot:
    """A shot of ``frames`` frames. ``hold``: number of frames that each moving image is held."""

    frames: int
    content: Literal["moving", "still", "black"] = "moving"
    hold: int = 1


@dataclass(frozen=True)
class GroundTruth:
    """The actual content of a video: the PTS of each frame, and the first frame of each shot."""

    path: Path
    time_base: Fraction
    pts: list[int]
    end: int
    shot_starts: list[int]

    def spans(self) -> list[tuple[int, int]]:
        """[start, end) of each shot in PTS."""
        starts = [self.pts[number] for number in self.shot_starts]
        return list(zip(starts, [*starts[1:], self.end], strict=True))


def draw_frame(
    number: int,
    shot: int,
    step: int,
    size: tuple[int, int] = SIZE,
    backdrop: np.ndarray | None = None,
    bar_bits: int = 0xFF,
) -> np.ndarray:
    """Draw the color of ``shot``, a bar at ``step`` and the counter: uint8 RGB [height, width, 3].

    ``backdrop``, an image of that size, replaces the color. ``bar_bits``: the bits that the bar
    flips in the image below it.
    """
    width, height = size
    image = np.empty((height, width, 3), np.uint8)
    if backdrop is None:
        image[:] = COLORS[shot % len(COLORS)]
        image[:, :, shot % 3] = np.linspace(0, 255, width, dtype=np.uint8)
    else:
        image[:] = backdrop
    # The bar moves back and forth: a jump would look like a cut.
    room = width - width // 10
    bar = room - abs(room - step * 5 % (2 * room))
    under = image[:, bar : bar + width // 10]
    image[:, bar : bar + width // 10] = under ^ bar_bits
    bits = [1, *((number ^ number >> 1) >> bit & 1 for bit in range(15, -1, -1)), 0]
    for index, bit in enumerate(bits):
        x0, y0, x1, y1 = _block_corners(index, width, height)
        image[round(y0) : round(y1), round(x0) : round(x1)] = 255 * bit
    return image


def read_counter(
    image: np.ndarray, crop: Sequence[int] | None = None, shown: tuple[int, int] = SIZE
) -> int:
    """Read the frame number from an image of the ``crop`` (x, y, width, height) of the source."""
    x, y, width, height = crop or (0, 0, *shown)
    scale_x, scale_y = image.shape[1] / width, image.shape[0] / height
    values = []
    for index in range(COLUMNS * ROWS):
        x0, y0, x1, y1 = _block_corners(index, *shown)
        third_x, third_y = (x1 - x0) / 3, (y1 - y0) / 3
        left, right = ((v - x) * scale_x for v in (x0 + third_x, x1 - third_x))
        top, bottom = ((v - y) * scale_y for v in (y0 + third_y, y1 - third_y))
        values.append(image[round(top) : round(bottom), round(left) : round(right)].mean())
    assert values[0] > 200 and values[-1] < 55, f"no counter in the image: {values}"
    number = 0
    for value in values[1:-1]:
        assert value < 70 or value > 185, f"a block is neither black nor white: {values}"
        number = number * 2 + (int(value > 128) ^ number & 1)
    return number


def write_video(
    path: Path,
    shots: Sequence[Shot],
    *,
    rate: Fraction = Fraction(24),
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    b_frames: int = 2,
    gop: int = 48,
    size: tuple[int, int] = SIZE,
    rotation: int = 0,
    sample_aspect: Fraction = Fraction(1),
    container_options: Mapping[str, str] | None = None,
    draw: object = None,
) -> GroundTruth:
    """Write the shots in sequence and return the ground truth as read back by PyAV.

    ``rotation``: degrees clockwise by which a player has to rotate the coded frame.
    ``draw(image, number)`` may modify each image in place.
    """
    time_base = time_base or 1 / rate
    pts = pts if pts is not None else range(sum(shot.frames for shot in shots))
    turns = rotation // 90
    with av.open(str(path), "w", options=dict(container_options or {})) as container:
        options = {"crf": "12", "preset": "ultrafast"} if codec == "libx264" else {}
        stream = container.add_stream(codec, rate=rate, options=options)
        coded = size if turns % 2 == 0 else size[::-1]
        stream.width, stream.height = coded
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        stream.codec_context.gop_size = gop
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.sample_aspect_ratio = sample_aspect
        stream.codec_context.thread_count = 1
        stream.codec_context.bit_rate = 4_000_000
        if rotation:
            stream.set_display_rotation(-rotation)
        number = 0
        for index, shot in enumerate(shots):
            for k in range(shot.frames):
                image = draw_frame(
                    number if shot.content == "moving" else 0,
                    index,
                    k // shot.hold if shot.content == "moving" else 0,
                    size,
                )
                if shot.content == "black":
                    image[:] = 0
                if draw is not None:
                    draw(image, number)
                frame = av.VideoFrame.from_ndarray(
                    np.ascontiguousarray(np.rot90(image, turns)), format="rgb24"
                ).reformat(format="yuv420p")
                frame.pts, frame.time_base = pts[number], time_base
                container.mux(stream.encode(frame))
                number += 1
        container.mux(stream.encode(None))
    return read_ground_truth(path, shots)


def variable_rate_pts(frames: int) -> list[int]:
    """Milliseconds of a video that alternates between 24, 60 and 12 frames per second."""
    times, now = [], 700
    for number in range(frames):
        times.append(now)
        now += (42, 17, 83)[number // 20 % 3]
    return times


def read_ground_truth(path: Path, shots: Sequence[Shot]) -> GroundTruth:
    """Read a video back with PyAV alone, and check its number of frames."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(frame.pts, frame.duration) for frame in container.decode(stream)]
        time_base = Fraction(stream.time_base)
    shot_starts = [sum(shot.frames for shot in shots[:index]) for index in range(len(shots))]
    assert len(frames) == sum(shot.frames for shot in shots)
    pts = [p for p, _ in frames]
    last = frames[-1][1] or pts[-1] - pts[-2]
    return GroundTruth(path, time_base, pts, pts[-1] + last, shot_starts)


def write_sound(path: Path, seconds: int, *, beep_at: float, video: bool = False) -> Path:
    """Write silence with a 0.1 s beep; with ``video``, also black frames that start at 0."""
    rate = 48_000
    samples = np.zeros(rate * seconds, np.float32)
    begin = round(beep_at * rate)
    samples[begin : begin + rate // 10] = 0.8 * np.sin(np.arange(rate // 10) * 0.2)
    with av.open(str(path), "w") as container:
        pictures = container.add_stream("libx264", rate=8) if video else None
        stream = container.add_stream("pcm_s16le", rate=rate)
        stream.layout = "mono"
        if pictures is not None:
            pictures.width, pictures.height, pictures.pix_fmt = 64, 64, "yuv420p"
            for number in range(8 * seconds):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                frame.pts = number
                container.mux(pictures.encode(frame))
            container.mux(pictures.encode(None))
        whole = (samples * 32767).astype(np.int16)
        for start in range(0, len(whole), 4800):
            part = av.AudioFrame.from_ndarray(
                whole[None, start : start + 4800], format="s16", layout="mono"
            )
            part.sample_rate, part.pts, part.time_base = rate, start, Fraction(1, rate)
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return path


def commit_table(folder: Path, table: tables.Table, rows: Sequence[tables.Row]) -> TableRef:
    """Write a table to ``folder`` as a stage would."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "table.parquet"
    tables.write(path, table, rows, stage_key="test")
    counts = Counts(rows_in=len(rows), ok=len(rows), rejected=0, failed=0)
    return TableRef(
        stage=table.name,
        unit="test",
        key="test",
        sha256=digest_file(path),
        path=path,
        counts=counts,
    )


def _block_corners(index: int, width: float, height: float) -> tuple[float, float, float, float]:
    row, column = divmod(index, COLUMNS)
    across, down = (RIGHT - LEFT) * width / COLUMNS, (BOTTOM - TOP) * height / ROWS
    x0, y0 = LEFT * width + column * across, TOP * height + row * down
    return x0, y0, x0 + across, y0 + down
