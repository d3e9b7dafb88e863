"""A contact sheet: the frame in the middle of each of some videos, in rows, as one small JPEG.

``python -m mimix_core.media.contact_sheet VIDEO...`` writes it to stdout. In a process of its own,
as all that decodes: one file can then end no more than the sheet.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from mimix_core.engine.worker import die_first
from mimix_core.media import open_video

COLUMNS = 6
WIDTH = 160
"""Of one picture, in pixels."""

GAP = 4
QUALITY = 70


def contact_sheet(videos: Sequence[Path]) -> bytes:
    """JPEG of the middle frames, ``COLUMNS`` in a row. Raises UnreadableVideo."""
    pictures = [_middle(video) for video in videos]
    columns = min(COLUMNS, len(pictures))
    height = max(picture.height for picture in pictures)
    rows = -(-len(pictures) // columns)
    size = (columns * (WIDTH + GAP) - GAP, rows * (height + GAP) - GAP)
    sheet = Image.new("RGB", size, "white")
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        sheet.paste(picture, (column * (WIDTH + GAP), row * (height + GAP)))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue()


def _middle(path: Path) -> Image.Image:
    with open_video(path, threads=1) as video:
        frames = list(video.frames())
        image = Image.fromarray(frames[len(frames) // 2].to_ndarray(format="rgb24"))
    return image.resize((WIDTH, max(1, round(image.height * WIDTH / image.width))))


if __name__ == "__main__":
    die_first()
    sys.stdout.buffer.write(contact_sheet([Path(name) for name in sys.argv[1:]]))
