"""How many generated wipes are found in real footage, and what false alarms cost on real films.

``python perf/wipes.py`` joins pairs of the demo footage's shots by FFmpeg's xfade (kinds and
lengths below), runs the stage scenes on the result with its default settings, and counts the
transitions of which no mixed frame is in a usable scene. Then it compares the clips that the films
give with and without the detector ``wipes``. Limits were set with shots of the same films.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import av
import numpy as np

from mimix_core import tables
from mimix_core.domain.library import Style
from mimix_core.domain.timeline import Span, clip_duration, clip_start_times
from mimix_core.engine.artifacts import file_ref
from mimix_core.media import find_ffmpeg
from mimix_core.settings import ClipSettings, SceneSettings, exact_seconds
from mimix_core.stages import scenes
from mimix_core.stages.scenes import analysis
from mimix_core.stages.scenes.wipes import detect_wipes
from mimix_core.tables import SceneRow
from perf.record import ROOT, record
from tests.stages.scenes.generated_wipes import GROUPS, join_shots
from tests.stages.scenes.transitions import Images

SOURCES = ROOT / "demo" / "footage" / "sources"
FILMS = ("bbb", "portrait", "bikes")
LENGTHS = (12, 24)
PAIRS = 3
SHOT_FRAMES = 84
SIZE = (320, 180)


def main() -> None:
    """Measure, and record the figures."""
    subprocess.run([sys.executable, "demo/footage.py", "demo/footage"], cwd=ROOT, check=True)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as name:
        rows = {film: run_stage(SOURCES / f"{film}.mp4", Path(name, film)) for film in FILMS}
        figures |= measure_cost(rows, Path(name, "without"))
        found = measure_generated(rows, Path(name))
    for group, lengths in found.items():
        for length, results in lengths.items():
            figures[f"{group}_{length}_frames"] = sum(results) / len(results)
    everything = [r for lengths in found.values() for results in lengths.values() for r in results]
    figures |= {"kinds": sum(map(len, GROUPS.values())), "generated": len(everything)}
    figures["all"] = sum(everything) / len(everything)
    units = dict.fromkeys(figures, "share found: no mixed frame in a usable scene") | UNITS
    record("wipes", {key: round(value, 3) for key, value in figures.items()}, units, NOTE)


UNITS = {
    "kinds": "kinds of FFmpeg's xfade",
    "generated": "generated transitions",
    "film_seconds": "s of real footage",
    "clips_without_detector": "clips of 81 frames that the films give",
    "clips_with_detector": "clips",
    "starts_lost": "share of the frames at which a clip could start",
    "detector_share": "of the stage's CPU seconds",
}
NOTE = "Shots of the demo's sources, two of which are live action; default settings."


def run_stage(film: Path, out: Path, **settings: object) -> list[SceneRow]:
    """Return the rows of the stage scenes."""
    inputs = scenes.SceneInputs(
        unit=film.stem, show="film", style=Style.CARTOON, video=file_ref(film)
    )
    output = scenes.run(inputs, SceneSettings.model_validate(settings), out)
    return list(cast(Sequence[SceneRow], output.rows))


def measure_cost(rows: dict[str, list[SceneRow]], out: Path) -> dict[str, float]:
    """Compare clips with and without the detector; time it on the longest film."""
    without = {}
    detectors = tuple(d for d in SceneSettings().detectors if d != "wipes")
    spent = 0.0

    def timed(*arguments: Any) -> object:
        nonlocal spent
        began = time.process_time()
        try:
            return detect_wipes(*arguments)
        finally:
            spent += time.process_time() - began

    for film in FILMS:
        without[film] = run_stage(SOURCES / f"{film}.mp4", out / film, detectors=detectors)
    began = time.process_time()
    with patch.object(analysis, "detect_wipes", timed):
        run_stage(SOURCES / f"{FILMS[0]}.mp4", out / "timed")
    seconds = sum(float(_span(row).seconds) for film in FILMS for row in without[film])
    starts, clips = (
        [
            sum(count(row) for film in FILMS for row in tables.usable(some[film]))
            for some in (without, rows)
        ]
        for count in (_count_starts, _count_clips)
    )
    return {
        "film_seconds": seconds,
        "clips_without_detector": clips[0],
        "clips_with_detector": clips[1],
        "starts_lost": 1 - starts[1] / starts[0],
        "detector_share": spent / (time.process_time() - began),
    }


def _span(row: SceneRow) -> Span:
    unit = Fraction(row["time_base_num"], row["time_base_den"])
    return Span(row["start_pts"], row["end_pts"], unit)


def _count_clips(row: SceneRow) -> int:
    return len(
        clip_start_times(_span(row), margin=exact_seconds(ClipSettings().scene_margin_seconds))
    )


def _count_starts(row: SceneRow) -> int:
    """Return at how many frames of a scene a clip could start."""
    span = _span(row)
    free = span.seconds - clip_duration() - 2 * exact_seconds(ClipSettings().scene_margin_seconds)
    return max(0, int(free / span.seconds * row["frames"]))


def measure_generated(
    rows: dict[str, list[SceneRow]], folder: Path
) -> dict[str, dict[int, list[bool]]]:
    """Return for each group and length whether each transition is found."""
    found: dict[str, dict[int, list[bool]]] = {}
    pool = [
        (film, row)
        for film in FILMS
        for row in tables.usable(rows[film])
        if row["frames"] >= SHOT_FRAMES + 10
    ]
    chance = random.Random(5)
    live = [entry for entry in pool if entry[0] != FILMS[0]]
    drawn = [entry for entry in pool if entry[0] == FILMS[0]]
    for number in range(PAIRS):
        one, other = chance.choice(drawn), chance.choice(drawn if number % 2 else live)
        shots = _read_shot(*one), _read_shot(*other)
        for group, kinds in GROUPS.items():
            for length in LENGTHS:
                results = found.setdefault(group, {}).setdefault(length, [])
                for kind in kinds:
                    results.append(_is_found(folder, *shots, kind, length))
                    if not results[-1]:
                        print("missed:", number, kind, length)
    return found


def _read_shot(film: str, row: SceneRow) -> Images:
    """Return frames from the middle of a scene: uint8 RGB [frames, height, width, 3]."""
    span = _span(row)
    start = span.start * span.time_base + span.seconds * (row["frames"] - SHOT_FRAMES) / (
        2 * row["frames"]
    )
    width, height = SIZE
    content = subprocess.run(
        [find_ffmpeg(), "-v", "error", "-ss", f"{float(start):.4f}", "-i",
         str(SOURCES / f"{film}.mp4"), "-frames:v", str(SHOT_FRAMES), "-vf",
         f"scale={width}:{height}", "-fps_mode", "passthrough", "-pix_fmt", "rgb24", "-f",
         "rawvideo", "-"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout  # fmt: skip
    return np.frombuffer(content, np.uint8).reshape(SHOT_FRAMES, height, width, 3)


def _is_found(folder: Path, one: Images, other: Images, kind: str, length: int) -> bool:
    """Return whether no mixed frame is in a usable scene."""
    wipe = join_shots(folder, one, other, kind, length)
    rows = run_stage(write_images(folder / "wipe.mp4", wipe.images), folder / "wipe")
    used = np.zeros(len(wipe.images), bool)
    for row in tables.usable(rows):
        unit = Fraction(row["time_base_num"], row["time_base_den"]) * 24
        used[round(row["start_pts"] * unit) : round(row["end_pts"] * unit)] = True
    return not (wipe.mixed & used).any()


def write_images(path: Path, images: Images) -> Path:
    """Write an H.264 file of 24 frames per second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=24, options={"crf": "18", "preset": "ultrafast"}
        )
        stream.height, stream.width = images.shape[1:3]
        stream.pix_fmt = "yuv420p"
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 24)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


if __name__ == "__main__":
    main()
