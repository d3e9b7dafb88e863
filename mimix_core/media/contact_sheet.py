"""Contact sheet: the middle frame of each video, arranged in rows, as one small JPEG.

``python -m mimix_core.media.contact_sheet VIDEO...`` writes it to stdout. Like all decoding, this
runs in a separate process, where a bad file can crash only the contact sheet.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mimix_core.engine.worker import prefer_oom_kill
from mimix_core.media import open_video

COLUMNS = 6
WIDTH = 160
"""Width of one thumbnail, pixels."""

GAP = 4
QUALITY = 70


def build_contact_sheet(videos: Sequence[Path]) -> bytes:
    """Build a JPEG of the middle frames, ``COLUMNS`` per row. Raises UnreadableVideo."""
    thumbnails = [_middle_frame(video) for video in videos]
    columns = min(COLUMNS, len(thumbnails))
    height = max(thumbnail.height for thumbnail in thumbnails)
    rows = -(-len(thumbnails) // columns)
    size = (columns * (WIDTH + GAP) - GAP, rows * (height + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    for index, thumbnail in enumerate(thumbnails):
        row, column = divmod(index, columns)
        sheet.paste(thumbnail, (column * (WIDTH + GAP), row * (height + GAP)))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def _middle_frame(path: Path) -> Image.Image:
    with open_video(path, threads=1) as video:
        frames = list(video.frames())
        image = Image.fromarray(frames[len(frames) // 2].to_ndarray(format="rgb24"))
    return image.resize((WIDTH, max(1, round(image.height * WIDTH / image.width))))


if __name__ == "__main__":
    prefer_oom_kill()
    sys.stdout.buffer.write(build_contact_sheet([Path(name) for name in sys.argv[1:]]))
