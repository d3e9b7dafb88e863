"""How many flashes end a shot of a moving camera, and how many cuts behind a flash are lost.

``python perf/flashes.py`` runs the stage scenes with its default settings on two generated sets:
the development set, on which the limits were set, and a held-out set of other sources, cameras,
speeds and lengths. Half of each is drawn, half is real footage: still images of it under a moving
camera, and its own shots. The sources of the held-out set are the second half of the film and the
two live-action films.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from mimix_core import tables
from mimix_core.media import find_ffmpeg
from mimix_core.tables import SceneRow
from perf.record import ROOT, record
from perf.wipes import run_stage, write_images
from tests.stages.scenes.generated_flashes import (
    LOOKS,
    FlashCase,
    camera_path,
    draw_shot,
    fade_through,
    film,
    flash_between,
    flash_within,
    is_whole,
    lost_cuts,
)
from tests.stages.scenes.transitions import Images

SOURCES = ROOT / "demo" / "footage" / "sources"
SHOT_FRAMES = 84
LENGTHS = (34, 72, 34)


@dataclass(frozen=True)
class FlashSet:
    """What a set is generated from. ``films``: name, and the seconds of it that are used."""

    seed: int
    films: dict[str, tuple[float, float]]
    cameras: tuple[str, ...]
    speeds: tuple[float, ...]
    frames: tuple[int, ...]


SETS = {
    "development": FlashSet(
        1, {"bbb": (0, 300)}, ("pan", "tilt", "zoom", "shake"), (0.005, 0.02), (1, 3, 6, 12)
    ),
    "held_out": FlashSet(
        2,
        {"bbb": (300, 570), "portrait": (0, 60), "bikes": (0, 60)},
        ("diagonal", "handheld", "zoom", "pan"),
        (0.003, 0.008, 0.014, 0.026),
        (2, 4, 8, 10),
    ),
}


def main() -> None:
    """Measure, and record the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=160, help="Flashes of each kind of source.")
    count = parser.parse_args().cases
    subprocess.run([sys.executable, "demo/footage.py", "demo/footage"], cwd=ROOT, check=True)
    figures: dict[str, float] = {}
    units: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as name:
        folder = Path(name)
        for label, parameters in SETS.items():
            for source, cases in generate(parameters, count, folder):
                for kind, group in cases.items():
                    key = f"{label}_{source}_{kind}"
                    wrong, total = measure(group, folder, key)
                    figures[f"{key}s"], units[f"{key}s"] = total, "generated cases"
                    unit = "cut wrongly" if kind == "flash" else "cuts lost"
                    figures[f"{key}_errors"], units[f"{key}_errors"] = wrong, unit
    record("flashes", figures, units, "Default settings.")


def generate(
    parameters: FlashSet, count: int, folder: Path
) -> Iterator[tuple[str, dict[str, Iterator[FlashCase]]]]:
    """Yield for each kind of source its flashes within shots, and cuts behind flashes."""
    for source in ("drawn", "footage"):
        shots = DrawnShots(parameters) if source == "drawn" else FilmedShots(parameters, folder)
        yield (
            source,
            {
                "flash": flashes(parameters, shots, count),
                "cut": hidden_cuts(parameters, shots, count),
            },
        )


class DrawnShots:
    """Shots of drawn scenes."""

    def __init__(self, parameters: FlashSet) -> None:
        self._parameters = parameters
        self._seed = 10000 * parameters.seed

    def __call__(self, chance: random.Random, frames: int) -> Images:
        self._seed += 1
        camera = chance.choice(self._parameters.cameras)
        speed = chance.choice(self._parameters.speeds)
        return draw_shot(camera, frames, speed, self._seed)


class FilmedShots:
    """Shots of films: still images under a moving camera, shots under one, and shots as they are.

    Two shots in a row are of different scenes.
    """

    def __init__(self, parameters: FlashSet, folder: Path) -> None:
        self._parameters = parameters
        self._scenes: list[tuple[str, SceneRow]] = []
        for name, (start, end) in parameters.films.items():
            for row in tables.usable(run_stage(SOURCES / f"{name}.mp4", folder / name)):
                unit = Fraction(row["time_base_num"], row["time_base_den"])
                if row["frames"] >= SHOT_FRAMES and start <= row["start_pts"] * unit < end:
                    self._scenes.append((name, row))
        self._last = -1

    def __call__(self, chance: random.Random, frames: int) -> Images:
        number = chance.choice([n for n in range(len(self._scenes)) if n != self._last])
        self._last = number
        kind = chance.choice(("still", "moving", "as it is"))
        camera = chance.choice(self._parameters.cameras)
        speed = chance.choice(self._parameters.speeds)
        path = camera_path(camera, frames, speed, chance.randrange(1000))
        if kind == "still":
            return film(read_shot(*self._scenes[number], 1, 1280)[0], path)
        images = read_shot(*self._scenes[number], frames, 640)
        if kind == "moving":
            path[:, :2] *= 0.5
            return film(images, path, 0.55)
        return film(images, np.tile([0.0, 0.0, 1.0], (frames, 1)), 1.0)


def read_shot(name: str, row: SceneRow, frames: int, width: int) -> Images:
    """Return frames from the middle of a scene, 16:9: uint8 RGB [frames, height, width, 3]."""
    unit = Fraction(row["time_base_num"], row["time_base_den"])
    seconds = (row["end_pts"] - row["start_pts"]) * unit
    start = row["start_pts"] * unit + seconds * (row["frames"] - frames) / (2 * row["frames"])
    height = width * 9 // 16
    content = subprocess.run(
        [find_ffmpeg(), "-v", "error", "-ss", f"{float(start):.4f}", "-i",
         str(SOURCES / f"{name}.mp4"), "-frames:v", str(frames), "-vf",
         f"crop='min(iw,ih*16/9)':ih,scale={width}:{height}", "-fps_mode", "passthrough",
         "-pix_fmt", "rgb24", "-f", "rawvideo", "-"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout  # fmt: skip
    return np.frombuffer(content, np.uint8).reshape(-1, height, width, 3)


def flashes(
    parameters: FlashSet, shots: DrawnShots | FilmedShots, count: int
) -> Iterator[FlashCase]:
    chance = random.Random(parameters.seed)
    for number in range(count):
        look = list(LOOKS)[number % len(LOOKS)]
        frames = chance.choice([n for n in parameters.frames if n > 2 or "fade" not in look])
        parts = [shots(chance, length) for length in LENGTHS]
        yield flash_within(f"{number} {look} {frames}", parts, look, frames)


def hidden_cuts(
    parameters: FlashSet, shots: DrawnShots | FilmedShots, count: int
) -> Iterator[FlashCase]:
    chance = random.Random(100 + parameters.seed)
    for number in range(count):
        parts = [shots(chance, 60) for _ in range(2)]
        look = list(LOOKS)[number % len(LOOKS)]
        if number % 4 == 3:
            color = chance.choice(((255.0,) * 3, (0.0,) * 3))
            frames = chance.choice((2, 4, 8))
            yield fade_through(
                f"{number} fade through {color[0]:.0f} {frames}", parts, color, frames
            )
            continue
        frames = chance.choice([n for n in parameters.frames if n > 2 or "fade" not in look])
        yield flash_between(f"{number} cut behind {look} {frames}", parts, look, frames)


def measure(cases: Iterator[FlashCase], folder: Path, key: str) -> tuple[int, int]:
    """Return how many of the cases went wrong, and of how many.

    A shot that is cut without a flash as well is not counted.
    """
    wrong = total = 0
    for case in cases:
        result = goes_wrong(case, folder)
        total += result is not None
        if result:
            wrong += 1
            print(f"{key}: {case.name}", flush=True)
    return wrong, total


def goes_wrong(case: FlashCase, folder: Path) -> bool | None:
    """Return whether a flash ends its shot, or a cut is lost; None: it is not due to the flash."""
    rows = run_stage(write_images(folder / "case.mp4", case.images), folder / "case")
    if len(case.shots) == 2:
        return bool(lost_cuts(case, rows))
    if is_whole(case.shots[1], rows):
        return False
    rows = run_stage(write_images(folder / "case.mp4", case.plain), folder / "case")
    return True if is_whole(case.shots[1], rows) else None


if __name__ == "__main__":
    main()
