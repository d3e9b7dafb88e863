"""What rendering a composite costs beside ffmpeg's own ``overlay`` filter.

``python perf/composites.py``: 832 x 480, 81 frames, from the demo's footage (``demo/footage.py``),
with the same masks as PNG files for both and the same encoder settings (x264, one thread). Ours is
all that the stage does for a composite: decoding, edges, linear light, encoding, reading the result
back and drawing the sheet. ffmpeg's is decoding both clips and the masks, ``alphamerge``,
``overlay`` and encoding. The two take turns; medians of ``ROUNDS`` pairs of runs,
ratios within each pair.

Three figures: a whole one (a tenth of the frame), a close-up (four tenths), and the whole one
scaled and put between pixels (beside ffmpeg's ``scale``; its overlay knows whole pixels only).
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.domain.library import Style
from mimix_core.domain.timeline import CLIP_FRAMES
from mimix_core.media import (
    ClipWriter,
    FrameResizer,
    Rect,
    find_ffmpeg,
    open_video,
    plan_crop_resize,
)
from mimix_core.media.masks import write_masks
from mimix_core.stages.composites.compositing import PasteOptions
from mimix_core.stages.composites.pairing import BackgroundClip, CutoutCandidate, PairSampler
from mimix_core.stages.composites.placement_search import (
    ClipGeometry,
    LocatedCharacter,
    analyze_clip,
)
from mimix_core.stages.composites.render_composite import (
    CompositeFiles,
    EncodingOptions,
    render_composite,
)
from mimix_core.stages.composites.scale_translate import FrameSize, ScaleTranslate
from perf.record import ROOT, record

SIZE = FrameSize(832, 480)
ROUNDS = 5
CRF, PRESET = 16, "fast"
SOURCE, SCENE = "bbb-meadow", "portrait-tears"
FIGURES = {
    "whole": (0.36, 0.13, 0.29, ScaleTranslate(1.0, -120.0, 12.0)),
    "close_up": (0.70, 0.26, 0.60, ScaleTranslate(1.0, 0.0, 0.0)),
    "resampled": (0.36, 0.13, 0.29, ScaleTranslate(0.9, -60.5, 30.25)),
}
"""Middle (share of the width), half width and half height (shares of the frame) of an ellipse, and
where it goes."""


@dataclass(frozen=True)
class Cost:
    wall: float
    cpu: float


def main() -> None:
    subprocess.run([sys.executable, "demo/footage.py", "demo/footage"], cwd=ROOT, check=True)
    cv2.setNumThreads(1)
    figures: dict[str, float] = {}
    units: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as name:
        folder = Path(name)
        for clip in (SOURCE, SCENE):
            _write_clip(ROOT / f"demo/footage/episodes/{clip}.mp4", folder / f"{clip}.mp4")
        for figure in FIGURES:
            ours, theirs, ratio = _compare(folder, figure)
            for name_, cost in (("ours", ours), ("ffmpeg", theirs)):
                figures[f"{figure}_{name_}_seconds"] = round(cost.wall, 3)
                figures[f"{figure}_{name_}_cpu_seconds"] = round(cost.cpu, 3)
                units[f"{figure}_{name_}_seconds"] = "s wall, median"
                units[f"{figure}_{name_}_cpu_seconds"] = "s processor, median"
            figures[f"{figure}_ratio"] = round(ratio.wall, 3)
            figures[f"{figure}_cpu_ratio"] = round(ratio.cpu, 3)
            units[f"{figure}_ratio"] = "ours / ffmpeg's overlay, wall"
            units[f"{figure}_cpu_ratio"] = "ours / ffmpeg's overlay, processor"
        standing = ClipGeometry(
            folder / f"{SOURCE}.mp4",
            SIZE,
            (LocatedCharacter(np.tile([190.0, 120.0, 440.0, 460.0], (CLIP_FRAMES, 1))),),
        )
        camera = statistics.median(
            _timed(lambda: analyze_clip(standing)).cpu for _ in range(ROUNDS)
        )
    planned = statistics.median(_timed(_plan).cpu for _ in range(3))
    figures = {
        "ratio_to_ffmpeg_overlay": max(figures[f"{name}_ratio"] for name in FIGURES),
        "cpu_ratio_to_ffmpeg_overlay": max(figures[f"{name}_cpu_ratio"] for name in FIGURES),
        "camera_cpu_seconds": round(camera, 3),
        "plan_cpu_seconds": round(planned, 3),
        **figures,
    }
    units |= {
        "ratio_to_ffmpeg_overlay": "wall, the worst of the figures (bar 1.6)",
        "cpu_ratio_to_ffmpeg_overlay": "processor, the worst of the figures",
        "camera_cpu_seconds": "s processor, once a clip: how its camera moves, where its ground is",
        "plan_cpu_seconds": "s processor: 5,800 pairs of 20,000 cutouts and 52,000 clips",
    }
    note = f"Medians of {ROUNDS} pairs of runs, the two taking turns; 832 x 480, 81 frames."
    print(record("composites", figures, units, note).read_text())


def _plan() -> None:
    """The paper's 52,000 clips and a tenth of composites."""
    candidates = [
        CutoutCandidate(f"cutout-{n}", f"clip-{n}", f"character {n % 11}", list(Style)[n % 11 % 2])
        for n in range(20_000)
    ]
    backgrounds = [BackgroundClip(f"clip-{n}", list(Style)[n % 2]) for n in range(52_000)]
    if len(PairSampler(candidates, backgrounds, seed=0).next_pairs(5_800)) != 5_800:
        raise SystemExit("the plan is too short")


def _write_clip(episode: Path, target: Path) -> None:
    with (
        open_video(episode) as video,
        ClipWriter(target, SIZE.width, SIZE.height, crf=CRF, preset=PRESET) as writer,
    ):
        geometry = video.info.geometry
        shaper = FrameResizer(
            video.info,
            plan_crop_resize(
                Rect(0, 0, geometry.width, geometry.height), SIZE.width, SIZE.height, "crop"
            ),
        )
        for frame in islice(video.frames(), CLIP_FRAMES):
            writer.write(shaper(frame))


def _compare(folder: Path, figure: str) -> tuple[Cost, Cost, Cost]:
    """Medians of ours, of ffmpeg's, and of the ratios of runs that follow one another."""
    *ellipse, move = FIGURES[figure]
    alphas_NHW = _alphas(*ellipse)
    files = CompositeFiles(
        folder / f"{SOURCE}.mp4", folder / f"{figure}.parquet", folder / f"{SCENE}.mp4"
    )
    write_masks(files.masks, alphas_NHW)
    pngs = folder / figure
    pngs.mkdir()
    for n, alpha_HW in enumerate(alphas_NHW):
        cv2.imwrite(str(pngs / f"{n:03}.png"), alpha_HW, [cv2.IMWRITE_PNG_COMPRESSION, 1])
    video, sheet = folder / "ours.mp4", folder / "ours.jpg"
    path = (move,) * CLIP_FRAMES
    command = _overlay(files, pngs, move, folder / "theirs.mp4")

    def ours() -> None:
        render_composite(files, path, PasteOptions(), EncodingOptions(CRF, PRESET), video, sheet)

    def theirs() -> None:
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)

    ours()
    theirs()
    costs = [(_timed(ours), _timed(theirs)) for _ in range(ROUNDS)]
    ratios = [Cost(one.wall / two.wall, one.cpu / two.cpu) for one, two in costs]
    return _median([one for one, _ in costs]), _median([two for _, two in costs]), _median(ratios)


def _alphas(middle: float, half_width: float, half_height: float) -> NDArray[np.uint8]:
    """An ellipse that sways, with an edge as a matting filter leaves it."""
    alphas = np.zeros((CLIP_FRAMES, SIZE.height, SIZE.width), np.uint8)
    for n, alpha_HW in enumerate(alphas):
        centre = (
            round(middle * SIZE.width + 20 * np.sin(n / 8)),
            round(SIZE.height * max(0.5, 1.02 - half_height)),
        )
        axes = (round(half_width * SIZE.width), round(half_height * SIZE.height))
        cv2.ellipse(alpha_HW, centre, axes, 0, 0, 360, 255, cv2.FILLED)
        alphas[n] = cv2.GaussianBlur(alpha_HW, (0, 0), sigmaX=1)
    return alphas


def _overlay(files: CompositeFiles, pngs: Path, move: ScaleTranslate, target: Path) -> list[str]:
    width, height = round(SIZE.width * move.scale), round(SIZE.height * move.scale)
    size = "" if move.is_integer_shift else f",scale={width}:{height}:flags=bicubic"
    graph = f"[0][1]alphamerge{size}[figure];[2][figure]overlay={int(move.x)}:{int(move.y)}"
    encoder = ["-c:v", "libx264", "-crf", str(CRF), "-preset", PRESET, "-threads", "1"]
    return [
        *(find_ffmpeg(), "-y", "-loglevel", "error"),
        *("-i", str(files.source)),
        *("-framerate", "16", "-i", f"{pngs}/%03d.png"),
        *("-i", str(files.background)),
        *("-filter_complex", graph, *encoder, str(target)),
    ]


def _timed(work: Callable[[], object]) -> Cost:
    before, started = _cpu(), time.perf_counter()
    work()
    return Cost(time.perf_counter() - started, _cpu() - before)


def _cpu() -> float:
    """Processor seconds of this process and of the children that have ended."""
    own = os.times()
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.user + own.system + children.ru_utime + children.ru_stime


def _median(costs: list[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
    )


if __name__ == "__main__":
    main()
