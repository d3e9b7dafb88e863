"""Put videos, training samples and small stills next to the page; each file comes once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from PIL import Image, ImageDraw

from mimix_core.benchmark.report_card.pair_scores import PairVideo
from mimix_core.errors import BadInput
from mimix_core.media import UnreadableVideo, open_video, to_display_rgb
from mimix_core.tables import CharacterScoreRow

VIDEOS, TRAINING, STILLS = "videos", "training", "stills"
FOLDERS = (VIDEOS, TRAINING, STILLS)

STILL_WIDTH = 320
BOX_COLORS = ((230, 60, 160), (20, 140, 220))
"""Of the boxes of a pair's first and second character; the style sheet has the same."""

_WEBP = {"quality": 72, "method": 2}


@dataclass(frozen=True)
class StillRequest:
    """A frame to show: its index, and a box (shares of the frame) in a color for each figure."""

    video: Path
    frame: int
    boxes: tuple[tuple[int, tuple[float, ...]], ...] = ()


@dataclass
class CardFiles:
    """The files next to a page in ``out``; methods return addresses relative to the page.

    Stills are decoded by ``write_stills``, all at once.
    """

    out: Path
    _copied: dict[Path, str] = field(default_factory=dict)
    _stills: dict[StillRequest, str] = field(default_factory=dict)

    def copy(self, source: Path, folder: str) -> str:
        """Copy a file and return its address. Raises BadInput if it is not there."""
        if source not in self._copied:
            if not source.is_file():
                raise BadInput(
                    "is not there any more",
                    where=str(source),
                    fix="Run mimix run again: what is missing is made anew.",
                )
            name = f"{folder}/{source.name}"
            if (self.out / name).exists():
                name = f"{folder}/{len(self._copied)}-{source.name}"
            (self.out / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, self.out / name)
            self._copied[source] = quote(name)
        return self._copied[source]

    def still(self, request: StillRequest) -> str:
        """Ask for a still, and return the address that it will have."""
        return self._stills.setdefault(request, f"{STILLS}/{len(self._stills):04}.webp")

    def write_stills(self, on_progress: Callable[[int, int], None]) -> dict[str, int]:
        """Decode and write all stills, each video once.

        Returns the height of each still by address; one of a video that cannot be read has none.
        """
        (self.out / STILLS).mkdir(parents=True, exist_ok=True)
        by_video: dict[Path, list[StillRequest]] = {}
        for request in self._stills:
            by_video.setdefault(request.video, []).append(request)
        heights: dict[str, int] = {}
        on_progress(0, len(by_video))
        with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
            found = pool.map(self._write_stills_of, by_video, by_video.values())
            for number, written in enumerate(found, start=1):
                on_progress(number, len(by_video))
                heights |= written
        return heights

    def _write_stills_of(self, video: Path, requests: Sequence[StillRequest]) -> dict[str, int]:
        try:
            images = _read_frames(video, {request.frame for request in requests})
        except UnreadableVideo:
            return {}
        heights = {}
        for request in requests:
            address = self._stills[request]
            heights[address] = _write_still(images[request.frame], request, self.out / address)
        return heights


def video_still(pair: PairVideo, video: Path) -> StillRequest:
    """Choose the frame that shows most of the two characters, near the middle, with their boxes."""
    first, second = pair.scores
    frames = first["frames"]
    if not frames:
        raise ValueError(f"{pair.prompt.id}: no frames were sampled")
    middle = len(frames) // 2

    def visible(number: int) -> int:
        return sum(bool(_box(row, number)) for row in (first, second))

    best = max(range(len(frames)), key=lambda number: (visible(number), -abs(number - middle)))
    boxes = tuple(
        (color, box) for color, row in enumerate((first, second)) if (box := _box(row, best))
    )
    return StillRequest(video, frames[best], boxes)


def _box(row: CharacterScoreRow, number: int) -> tuple[float, ...]:
    return tuple(row["boxes"][number]) if number < len(row["boxes"]) else ()


def _write_still(image: Image.Image, request: StillRequest, path: Path) -> int:
    """Write a still with its boxes; returns its height."""
    height = max(1, round(image.height * STILL_WIDTH / image.width))
    image = image.resize((STILL_WIDTH, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for color, (x0, y0, x1, y1) in request.boxes:
        corners = (x0 * STILL_WIDTH, y0 * height, x1 * STILL_WIDTH - 1, y1 * height - 1)
        draw.rectangle(corners, outline=BOX_COLORS[color], width=3)
    image.save(path, "WEBP", **_WEBP)
    return height


def _read_frames(path: Path, indices: Collection[int]) -> dict[int, Image.Image]:
    """Read the frames with these indices. Raises UnreadableVideo, also if one is missing."""
    images: dict[int, Image.Image] = {}
    with open_video(path, threads=1) as video:
        for number, frame in enumerate(video.frames()):
            if number in indices:
                images[number] = Image.fromarray(to_display_rgb(frame, video.info))
                if len(images) == len(indices):
                    return images
    raise UnreadableVideo(f"ends before frame {max(indices)}", where=path.name)
