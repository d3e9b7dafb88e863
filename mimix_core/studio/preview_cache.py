"""Make the small images of the studio once per video or masks file, in processes of their own.

They are named by the digest of what they show, and so remain valid for as long as they exist. A
video that crashes the decoder costs only its own preview.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from fractions import Fraction
from pathlib import Path
from threading import Lock, Thread

from mimix_core.studio.clip_source import render_source_frame
from mimix_core.studio.index_file import FOLDER
from mimix_core.studio.webp_images import encode_webp

SPRITE_FRAMES = 8
SPRITE_WIDTH = 240
"""A sprite has this many frames of a video side by side, each this many pixels wide."""

MASK_COLUMNS = 9
MASK_WIDTH = 240
"""A mask sheet has the masks of all frames in rows of this many, each this many pixels wide."""


def render_sprite(video: Path, frames: int, target: Path) -> None:
    """Write frames of a video side by side as one WebP. Raises UnreadableVideo."""
    from PIL import Image

    from mimix_core.engine.atomic_io import atomic_write_bytes
    from mimix_core.media import UnreadableVideo, open_video
    from mimix_core.media.images import evenly_spaced_indices

    wanted = evenly_spaced_indices(frames, SPRITE_FRAMES)
    sheet = None
    with open_video(video, threads=1) as opened:
        for number, frame in enumerate(opened.frames()):
            if number not in wanted:
                continue
            height = max(1, round(frame.height * SPRITE_WIDTH / frame.width))
            scaled = frame.reformat(width=SPRITE_WIDTH, height=height, format="rgb24")
            if sheet is None:
                sheet = Image.new("RGB", (SPRITE_WIDTH * SPRITE_FRAMES, height))
            image = Image.fromarray(scaled.to_ndarray())
            for index in (index for index, one in enumerate(wanted) if one == number):
                sheet.paste(image, (SPRITE_WIDTH * index, 0))
            if number == wanted[-1]:
                break
    if sheet is None:
        raise UnreadableVideo("has no frames", where=video.name)
    atomic_write_bytes(target, encode_webp(sheet), durable=False)


def render_mask_sheet(masks: Path, target: Path) -> None:
    """Write the masks of all frames as the alpha channel of one WebP. Raises BadInput."""
    from PIL import Image

    from mimix_core.engine.atomic_io import atomic_write_bytes
    from mimix_core.media.masks import read_masks

    alpha_NHW = read_masks(masks)
    count, height, width = alpha_NHW.shape
    size = (MASK_WIDTH, max(1, round(height * MASK_WIDTH / width)))
    rows = -(-count // MASK_COLUMNS)
    sheet = Image.new("L", (MASK_COLUMNS * size[0], rows * size[1]))
    for index, alpha in enumerate(alpha_NHW):
        row, column = divmod(index, MASK_COLUMNS)
        tile = Image.fromarray(alpha).resize(size, Image.Resampling.BILINEAR)
        sheet.paste(tile, (column * size[0], row * size[1]))
    black = Image.new("RGBA", sheet.size, (0, 0, 0, 0))
    black.putalpha(sheet)
    atomic_write_bytes(target, encode_webp(black), durable=False)


def _start_worker() -> None:
    """Set a process up: it ends with the server, however that ends, and not by Ctrl+C."""
    from mimix_core.engine.worker import prefer_oom_kill

    prefer_oom_kill()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()


def _end_with_parent(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


class PreviewCache:
    """The previews in a folder; those that are missing are made when they are asked for."""

    def __init__(self, workspace: Path, workers: int = 2) -> None:
        self.folder = workspace / FOLDER / "previews"
        self._workers = workers
        self._lock = Lock()
        self._pool: ProcessPoolExecutor | None = None
        self._pending: dict[Path, Future[None]] = {}

    def sprite(self, digest: str, video: Path, frames: int) -> tuple[Path, Future[None] | None]:
        """Return where a video's sprite is, and what to wait for until it is there."""
        target = self._path(digest, "sprite")
        return target, self._request(target, render_sprite, video, frames, target)

    def mask_sheet(self, digest: str, masks: Path) -> tuple[Path, Future[None] | None]:
        """Return where the sheet of a masks file is, and what to wait for until it is there."""
        target = self._path(digest, "masks")
        return target, self._request(target, render_mask_sheet, masks, target)

    def source_frame(
        self, digest: str, video: Path, moment: Fraction
    ) -> tuple[Path, Future[None] | None]:
        """Return where the source picture of a clip is, and what to wait for until it is there."""
        target = self._path(digest, "source")
        return target, self._request(target, render_source_frame, video, moment, target)

    def close(self) -> None:
        """End the processes, after the previews that they are making; waiting ones are dropped."""
        with self._lock:
            if self._pool is not None:
                self._pool.shutdown(wait=True, cancel_futures=True)
                self._pool = None

    def _path(self, digest: str, role: str) -> Path:
        return self.folder / digest[:2] / f"{digest}.{role}-1.webp"

    def _request(self, target: Path, function: object, *values: object) -> Future[None] | None:
        if target.exists():
            return None
        with self._lock:
            pending = self._pending.get(target)
            if pending is not None:
                return pending
            future = self._submit(function, *values)
            self._pending[target] = future
        future.add_done_callback(lambda _: self._forget(target))
        return future

    def _submit(self, function: object, *values: object) -> Future[None]:
        for attempt in (1, 2):
            if self._pool is None:
                context = multiprocessing.get_context("spawn")
                self._pool = ProcessPoolExecutor(self._workers, context, _start_worker)
            try:
                return self._pool.submit(function, *values)  # type: ignore[arg-type]
            except BrokenProcessPool:
                # An earlier video has crashed its process.
                self._pool = None
                if attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def _forget(self, target: Path) -> None:
        with self._lock:
            self._pending.pop(target, None)
