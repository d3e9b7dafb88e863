"""How many copies within a frame, and as a picture-in-picture, are found to be duplicates.

``python perf/framed_copies.py`` cuts clips out of the shots of the demo's footage, makes copies of
them (later by 0.4 s, shrunk, re-encoded), and searches these for duplicates with the default
settings.
Then it compares the clips themselves with each other, as of different episodes: none of them is a
copy of another.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import av
import numpy as np

from mimix_core import tables
from mimix_core.media import find_ffmpeg, fingerprint
from mimix_core.settings import DuplicateSettings
from mimix_core.stages.duplicates.duplicate_search import find_duplicates
from mimix_core.stages.duplicates.fingerprinted_clips import FingerprintedClips
from perf.record import ROOT, record
from perf.wipes import FILMS, run_stage, write_images
from tests.stages.duplicates.framed_copies import BORDERS, show_within
from tests.stages.scenes.transitions import Images

SOURCES = ROOT / "demo" / "footage" / "sources"
SIZE = (416, 240)
FRAMES, RATE = 81, 16
COPY_DELAY = 0.4
"""Seconds by which a copy begins later."""

SHARES = {"framed": (0.9, 0.8, 0.7, 0.6, 0.5), "pictures": (0.5, 0.4, 0.33, 0.25)}
"""Widths of copies within frames, and of small pictures over others, as shares of the frame's."""


def main() -> None:
    """Measure, and record the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=16, help="Clips that are copied.")
    count = parser.parse_args().clips
    subprocess.run([sys.executable, "demo/footage.py", "demo/footage"], cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as name:
        folder = Path(name)
        clips = cut_clips(
            {
                film: tables.usable(run_stage(SOURCES / f"{film}.mp4", folder / film))
                for film in FILMS
            }
        )
        figures = measure(clips, count, folder)
    units = dict.fromkeys(figures, "share found") | {
        "clips": "clips of different shots",
        "alarms_framed": "of these taken for duplicates",
        "alarms": "without the search for frames",
    }
    record(
        "framed_copies",
        figures,
        units,
        "Copies re-encoded, 0.4 s later.",
    )


def cut_clips(rows: dict[str, Iterator[tables.SceneRow]]) -> list[tuple[str, float]]:
    """Return a film and a time in seconds for each shot that holds a clip and its copy."""
    clips = []
    for film, scenes in rows.items():
        for row in scenes:
            unit = Fraction(row["time_base_num"], row["time_base_den"])
            start, end = row["start_pts"] * unit, row["end_pts"] * unit
            if end - start >= Fraction(FRAMES, RATE):
                clips.append((film, float(start)))
    return clips


def measure(clips: Sequence[tuple[str, float]], count: int, folder: Path) -> dict[str, float]:
    """Return the share found for each kind and size, and the false alarms."""
    originals = [encode(read_clip(*clip), folder) for clip in clips]
    chance = random.Random(3)
    chosen = chance.sample(range(len(clips)), min(count, len(clips)))
    found: dict[str, list[bool]] = {}
    for number in chosen:
        film, start = clips[number]
        copy = read_clip(film, start + COPY_DELAY)
        around = (number + len(clips) // 2) % len(clips)
        other = read_clip(*clips[around])
        # Without the clip that it is shown over: that one is found, too.
        searched = [(n, prints) for n, prints in enumerate(originals) if n != around]
        for key, images in make_copies(copy, other, number):
            prints = encode(images, folder)
            twin = find_twin(searched, prints)
            found.setdefault(key, []).append(twin == number)
            if twin != number:
                print(f"{key}: {film} at {start:.2f} s, found {twin}", flush=True)
    figures = {key: sum(some) / len(some) for key, some in found.items()}
    figures["clips"] = len(clips)
    for name, whole_clips in (
        ("alarms_framed", originals),
        ("alarms", [(whole, b"") for whole, _ in originals]),
    ):
        unique, _ = find_duplicates(as_clips(whole_clips), DuplicateSettings())
        figures[name] = int((~unique).sum())
    return figures


def make_copies(copy: Images, other: Images, seed: int) -> Iterator[tuple[str, Images]]:
    """Yield copies of a clip by their kind: within borders, over another clip, and under one."""
    chance = random.Random(seed)
    for share in SHARES["framed"]:
        for border in BORDERS:
            position = chance.choice(((0.5, 0.5), (0.5, 0.4), (0.3, 0.5), (0.9, 0.85)))
            background = BORDERS[border](other, seed)
            yield f"{border}_{share:.2f}", show_within(background, copy, share, position)
    for share in SHARES["pictures"]:
        corner = chance.choice(((0.06, 0.06), (0.94, 0.06), (0.06, 0.94), (0.94, 0.94)))
        yield f"picture_in_picture_{share:.2f}", show_within(other, copy, share, corner)
        yield f"under_a_picture_{share:.2f}", show_within(copy, other, share, corner)


def read_clip(film: str, start: float) -> Images:
    """Return a clip's frames, uint8 RGB [81, height, width, 3]; the last one is repeated."""
    width, height = SIZE
    content = subprocess.run(
        [find_ffmpeg(), "-v", "error", "-ss", f"{start:.4f}", "-i", str(SOURCES / f"{film}.mp4"),
         "-vf", f"fps={RATE},scale={width}:{height}", "-frames:v", str(FRAMES), "-pix_fmt",
         "rgb24", "-f", "rawvideo", "-"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout  # fmt: skip
    images = np.frombuffer(content, np.uint8).reshape(-1, height, width, 3)
    return images[np.minimum(np.arange(FRAMES), len(images) - 1)]


def encode(images: Images, folder: Path) -> tuple[bytes, bytes]:
    """Encode a clip; return the fingerprints of its frames and of an inset."""
    builder = fingerprint.FingerprintBuilder()
    with av.open(str(write_images(folder / "clip.mp4", images))) as container:
        for number, frame in enumerate(container.decode(video=0)):
            builder.add(number, frame)
    return builder.finish(), builder.finish_inset()


def find_twin(
    originals: Sequence[tuple[int, tuple[bytes, bytes]]], copy: tuple[bytes, bytes]
) -> int | None:
    """Return the number of the clip that ``copy`` is a duplicate of."""
    clips = as_clips([*(prints for _, prints in originals), copy])
    unique, matches = find_duplicates(clips, DuplicateSettings())
    last = len(originals)
    return None if unique[last] else originals[matches[last].index][0]


def as_clips(prints: Sequence[tuple[bytes, bytes]]) -> FingerprintedClips:
    """Return clips of one episode each."""
    views = [(number, view) for number, pair in enumerate(prints) for view in pair if view]
    index = np.array([number for number, _ in views])
    return FingerprintedClips(
        [f"c{number}" for number in range(len(prints))],
        [f"e{number}" for number in range(len(prints))],
        np.arange(len(prints)),
        np.zeros((len(prints), 2), np.int64),
        fingerprint.parse_fingerprints([view for _, view in views]),
        index,
        np.concatenate([[False], index[1:] == index[:-1]]),
    )


if __name__ == "__main__":
    main()
