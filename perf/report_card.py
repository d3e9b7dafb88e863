"""How long a report card of 100 videos takes, over a dataset of 52,000 clips and 5,200 composites.

``python perf/report_card.py`` writes 100 generated videos of several characters (81 frames of
832 x 480, the size that Wan generates), their scores, and a dataset whose files are 24 real clips
under as many names as there are samples, and makes the card on two cores: tables, traces, charts,
page, copies, and the stills, which are all that is decoded. Then the page is opened in Chromium.
"""

from __future__ import annotations

import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.benchmark.promptsets import MIXING_100
from mimix_core.benchmark.report_card.card_inputs import CardInputs
from mimix_core.benchmark.report_card.card_page import write_report_card
from mimix_core.domain.prompts import VideoPrompt, read_prompt_file
from mimix_core.engine import progress
from mimix_core.media import ClipWriter
from mimix_core.settings import ClipSettings
from mimix_core.tables import CharacterScoreRow, DatasetRow
from perf.record import record
from tests.benchmark.report_card.factories import prompt, sample, score
from tests.deployments.browser import browsing

VIDEOS, CLIPS, COMPOSITES = 100, 52_000, 5_200
WIDTH, HEIGHT, FRAMES = 832, 480, 81
CAST = read_prompt_file(MIXING_100).cast
NAMES = tuple(origin.name for origin in CAST)
STYLES = {origin.name: origin.style.value for origin in CAST}
VERBS = ("runs", "looks around", "opens a door", "laughs", "falls over", "sits down", "waves")
PLACES = ("a kitchen", "the street", "a classroom", "the forest", "a shop", "the roof")
IDENTITIES = ("right", "right", "right", "swapped", "mixed", "absent")
ROUNDS = 3


def main() -> None:
    """Measure, and record."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as name:
        folder = Path(name)
        inputs = make_inputs(folder, random.Random(0))
        rounds = [measure(inputs, folder / "card") for _ in range(ROUNDS)]
        figures = {
            key: round(statistics.median(one[key] for one in rounds), 2) for key in rounds[0]
        }
        page = folder / "card" / "index.html"
        files = [path for path in page.parent.rglob("*") if path.is_file()]
        figures["page_kb"] = round(page.stat().st_size / 1000)
        figures["folder_mb"] = round(sum(path.stat().st_size for path in files) / 1e6)
        figures["stills"] = len(list((page.parent / "stills").iterdir()))
        figures["peak_rss_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)
        figures["open_ms"] = round(open_page(page, folder))
    units = {
        "total_seconds": "s for the whole card of 100 videos on two cores, decoding included",
        "stills_seconds": "s of these for the stills: decoding, scaling, WebP",
        "beyond_stills_seconds": "s for everything else (bar 180)",
        "page_kb": "kB of the page",
        "folder_mb": "MB of the folder, with copies of videos and clips",
        "stills": "pictures",
        "peak_rss_mb": "MB resident, the peak, with the tables in memory",
        "open_ms": "ms from navigation to the load event in Chromium",
    }
    print(json.dumps(figures, indent=1))
    note = f"{VIDEOS} videos of {WIDTH}x{HEIGHT}, {CLIPS:,} clips, {COMPOSITES:,} composites."
    record("report_card", figures, units, note)


def measure(inputs: CardInputs, out: Path) -> dict[str, float]:
    """Write the card once."""
    stills: list[float] = []
    started = time.perf_counter()
    with progress.progress_listener(lambda *_: stills.append(time.perf_counter())):
        written = write_report_card(inputs, out)
    total = time.perf_counter() - started
    if written.videos != VIDEOS:
        raise RuntimeError(f"{written.videos} videos are in the card, expected {VIDEOS}")
    decoding = stills[-1] - stills[0]
    return {
        "total_seconds": total,
        "stills_seconds": decoding,
        "beyond_stills_seconds": total - decoding,
    }


def make_inputs(folder: Path, rng: random.Random) -> CardInputs:
    """Write videos, and rows of scores and of the dataset."""
    sources = [write_clip(folder / "sources" / f"{number}.mp4", number) for number in range(24)]
    pairs = list(combinations(NAMES, 2))
    prompts: list[VideoPrompt] = []
    for number in range(VIDEOS):
        names = list(pairs[number % len(pairs)])
        if number % 5 == 4:
            names.append(rng.choice([name for name in NAMES if name not in names]))
        style = ("cartoon", "realistic")[number // len(pairs) % 2]
        prompts.append(prompt(f"p{number:03}", names, style))
    videos = {one.id: link(sources, folder / "videos" / f"{one.id}.mp4", rng) for one in prompts}
    store = folder / "store"
    dataset = list(dataset_rows(rng))
    for row in dataset:
        link(sources, store / row["video"], rng)
    scores = [row for one in prompts for row in score_rows(one, rng)]
    return CardInputs(
        "ours", videos, tuple(prompts), CAST, tuple(scores), tuple(dataset), {}, store
    )


def write_clip(path: Path, seed: int) -> Path:
    """Write a clip of moving blocks with grain, of the quality of clips."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    blocks = rng.integers(0, 255, (HEIGHT // 32, WIDTH // 32, 3)).repeat(32, 0).repeat(32, 1)
    grainy = (blocks + rng.normal(0, 4, (HEIGHT, WIDTH, 1))).clip(0, 255).astype(np.uint8)
    with ClipWriter(path, WIDTH, HEIGHT, crf=ClipSettings().crf, preset="fast") as writer:
        for number in range(FRAMES):
            writer.write_rgb(np.roll(grainy, 3 * number, axis=1))
    return path


def link(sources: list[Path], path: Path, rng: random.Random) -> Path:
    """Give one of the clips another name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.hardlink_to(rng.choice(sources))
    return path


def dataset_rows(rng: random.Random) -> Iterator[DatasetRow]:
    """Yield clips of one or two characters of a style, and composites of two styles."""
    for number in range(CLIPS + COMPOSITES):
        composite = number >= CLIPS
        style = rng.choice(("cartoon", "realistic"))
        own = [name for name in NAMES if STYLES[name] == style]
        others = [name for name in NAMES if STYLES[name] != style]
        names = rng.sample(own, 1 + number % 2)
        if composite:
            names = [names[0], rng.choice(others)]
        acts = " ".join(f"[Character: {name}], {rng.choice(VERBS)}." for name in names)
        yield sample(
            f"sample-{number:06}",
            names,
            f"{acts} {rng.choice(PLACES)}. [scene-style:{style}]",
            "composite" if composite else "original",
            style=style,
            frames=FRAMES,
            video=f"{number % 100:02}/sample-{number:06}.mp4",
        )


def score_rows(asked: VideoPrompt, rng: random.Random) -> Iterator[CharacterScoreRow]:
    """Yield scores with every kind of fault."""
    for name in asked.characters:
        identity = rng.choice(IDENTITIES)
        other = rng.choice([one for one in NAMES if one != name])
        yield score(
            asked.id,
            name,
            identity,
            style=STYLES[name],
            scene_style=asked.style.value,
            looks_like=other if identity in ("swapped", "mixed") else "",
            in_own_style=None if identity == "absent" else rng.random() < 0.7,
            frames=[10, 30, 50, 70],
            boxes=[[0.1, 0.2, 0.4, 0.9]] * 4,
            nearest_clip="" if identity == "absent" else f"sample-{rng.randrange(CLIPS):06}",
            nearest_frame=rng.randrange(FRAMES),
            copy_similarity=0.4,
            copied=False,
        )


def open_page(page: Path, folder: Path) -> float:
    """Open the page in a browser; returns milliseconds to its load event."""
    with browsing(folder, webgl=False) as tab:
        tab.open(page.as_uri())
        tab.wait_until("performance.getEntriesByType('navigation')[0]?.loadEventEnd > 0")
        return float(tab.value("performance.getEntriesByType('navigation')[0].loadEventEnd"))


if __name__ == "__main__":
    main()
