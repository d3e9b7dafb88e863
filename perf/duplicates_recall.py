"""How many duplicates the index of the search finds, against the search of all pairs.

``python perf/duplicates_recall.py`` builds a library out of a film of ten minutes ("Big Buck
Bunny", of the demo's footage): windows of it, cropped, slowed down or sped up, half of them
mirrored, each as a clip of its own episode, and copies of some (later, cropped a little, darker or
brighter, with noise). Then it searches this library twice: as one block, in which all pairs are
searched, and with the search as it is. Most windows overlap earlier ones, so it is harder than a
real library.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import av
import numpy as np
from numpy.typing import NDArray

from mimix_core.media import fingerprint
from mimix_core.media.fingerprint import CHROMA, LUMA
from mimix_core.settings import DuplicateSettings
from mimix_core.stages.duplicates import duplicate_search
from mimix_core.stages.duplicates.fingerprinted_clips import FingerprintedClips
from perf.record import ROOT, record

FILM = ROOT / "demo" / "footage" / "sources" / "bbb.mp4"
SIZE = (160, 90)
THUMBNAILS = 21
PACES = range(3, 10)
"""Frames of the film from one thumbnail to the next; 6 are its own pace."""

COPY_DELAY = 60
"""Frames by which a copy starts later, at most."""


@dataclass(frozen=True)
class Window:
    """A part of the film: frames, and the crop as shares of the frame, from its upper left."""

    first: int
    pace: int
    left: float
    top: float
    width: float
    mirrored: bool


def main() -> None:
    """Measure, and record the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=12_000)
    parser.add_argument("--copies", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    subprocess.run([sys.executable, "demo/footage.py", "demo/footage"], cwd=ROOT, check=True)
    clips = build_library(
        arguments.windows, arguments.copies, np.random.default_rng(arguments.seed)
    )
    copies = np.arange(arguments.windows, arguments.windows + arguments.copies)
    figures: dict[str, float] = {"windows": arguments.windows, "copies": arguments.copies}
    with mock.patch.object(duplicate_search, "EXACT_CLIPS", len(clips.ids)):
        exact, figures["cpu_seconds_exact"] = search(clips)
    found, figures["cpu_seconds"] = search(clips)
    figures |= {
        "duplicates_exact": int((~exact).sum()),
        "copies_exact": int((~exact[copies]).sum()),
        "missed": int((~exact & found).sum()),
        "added": int((exact & ~found).sum()),
        "copies_found": int((~found[copies]).sum()),
        "recall": round(float((~exact & ~found).sum() / (~exact).sum()), 5),
    }
    units = {
        "windows": "clips, windows of one film",
        "copies": "clips, copies of windows",
        "duplicates_exact": "duplicates, all pairs searched",
        "copies_exact": "of the copies, all pairs searched",
        "missed": "of the duplicates pass",
        "added": "clips are duplicates of one of these",
        "copies_found": "of the copies",
        "recall": "share of the duplicates found",
        "cpu_seconds_exact": "s of CPU, all pairs searched",
        "cpu_seconds": "s of CPU",
    }
    record("duplicates_recall", figures, units, f"Seed {arguments.seed}.")


def search(clips: FingerprintedClips) -> tuple[NDArray[np.bool_], float]:
    """Return which clips pass, and the seconds of CPU."""
    busy = time.process_time()
    unique, _ = duplicate_search.find_duplicates(clips, DuplicateSettings())
    seconds = round(time.process_time() - busy, 1)
    print(f"{(~unique).sum()} duplicates, {seconds} s", flush=True)
    return unique, seconds


def build_library(windows: int, copies: int, random: np.random.Generator) -> FingerprintedClips:
    """Return the clips of all windows, then those of the copies."""
    planes = read_film()
    frames = len(planes[0])
    sums = [_integral(plane) for plane in planes]
    chosen = [random_window(frames, random) for _ in range(windows)]
    thumbs = [cut(sums, window) for window in chosen]
    for number in random.choice(windows, copies, replace=False):
        thumbs.append(spoil(cut(sums, vary(chosen[number], frames, random)), random))
    count = windows + copies
    return FingerprintedClips(
        [f"clip{number:06d}" for number in range(count)],
        [f"episode{number:06d}" for number in range(count)],
        np.arange(count),
        np.tile([0, 1], (count, 1)),
        np.stack(thumbs),
        np.arange(count),
        np.zeros(count, bool),
    )


def read_film() -> list[NDArray[np.uint8]]:
    """Decode the film: luma and chroma planes, each uint8 [frames, height, width]."""
    found: list[list[NDArray[np.uint8]]] = [[], [], []]
    with av.open(str(FILM)) as container:
        for frame in container.decode(video=0):
            small = frame.reformat(*SIZE, format="yuv420p", interpolation="AREA")
            for planes, plane in zip(found, small.planes, strict=True):
                rows = np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)
                planes.append(rows[:, : plane.width].copy())
    return [np.stack(planes) for planes in found]


def _integral(planes: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Return sums over all pixels above and to the left, int32 [frames, height + 1, width + 1]."""
    padded = np.zeros((len(planes), planes.shape[1] + 1, planes.shape[2] + 1), np.int32)
    padded[:, 1:, 1:] = planes
    np.cumsum(padded, axis=1, out=padded)
    return np.cumsum(padded, axis=2, out=padded)


def random_window(frames: int, random: np.random.Generator) -> Window:
    pace = int(random.choice(PACES))
    width = random.uniform(0.35, 1)
    return Window(
        first=int(random.integers(0, frames - pace * (THUMBNAILS - 1))),
        pace=pace,
        left=random.uniform(0, 1 - width),
        top=random.uniform(0, 1 - width),
        width=width,
        mirrored=bool(random.random() < 0.5),
    )


def vary(window: Window, frames: int, random: np.random.Generator) -> Window:
    """Return the window up to 2.5 s later, cropped by up to 4 %; mirrored as likely as not."""
    last = frames - 1 - window.pace * (THUMBNAILS - 1)
    width = window.width * random.uniform(0.96, 1)
    room = window.width - width
    return Window(
        first=min(window.first + int(random.integers(0, COPY_DELAY + 1)), last),
        pace=window.pace,
        left=window.left + random.uniform(0, room),
        top=window.top + random.uniform(0, room),
        width=width,
        mirrored=bool(random.random() < 0.5),
    )


def cut(sums: list[NDArray[np.int32]], window: Window) -> NDArray[np.uint8]:
    """Return the thumbnails of a window, uint8 [THUMBNAILS, values]."""
    frames = window.first + window.pace * np.arange(THUMBNAILS)
    parts = [
        _cell_means(plane[frames], window, cells).reshape(THUMBNAILS, -1)
        for plane, cells in zip(sums, (LUMA, CHROMA, CHROMA), strict=True)
    ]
    thumbs = np.concatenate(parts, axis=1)
    return fingerprint.mirror_thumbnails(thumbs) if window.mirrored else thumbs


def _cell_means(sums: NDArray[np.int32], window: Window, cells: int) -> NDArray[np.uint8]:
    """Return means over a grid of ``cells`` x ``cells`` of the crop [frames, cells, cells]."""
    height, width = sums.shape[1] - 1, sums.shape[2] - 1
    grid = np.arange(cells + 1) / cells * window.width
    rows = np.rint((window.top + grid) * height).astype(int)
    columns = np.rint((window.left + grid) * width).astype(int)
    corners = sums[:, rows][:, :, columns]
    totals = np.diff(np.diff(corners, axis=1), axis=2)
    counts = np.outer(np.diff(rows), np.diff(columns))
    return np.rint(totals / counts).astype(np.uint8)


def spoil(thumbs: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Change the gamma of the luma, and add noise."""
    values = thumbs.astype(float)
    luma = slice(0, LUMA * LUMA)
    values[:, luma] = 255 * (values[:, luma] / 255) ** random.uniform(0.75, 1.3)
    noisy = values + random.normal(0, 2, values.shape)
    return np.rint(noisy).clip(0, 255).astype(np.uint8)


if __name__ == "__main__":
    main()
