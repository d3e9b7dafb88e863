"""Draw a grid of coordinates on frames of an episode, to read boxes from for a boxes file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from mimix_core.media import open_video, to_display_rgb
from mimix_core.media.images import RgbImage
from mimix_core.stages.cutouts.locate.box_track import FrameMatch

_WIDTH = 1280
"""Width of a picture, pixels."""

_STEPS = 20
"""Lines of the grid in each direction; every second one has its coordinate."""

_TENTH, _BETWEEN = (255, 255, 255, 190), (255, 255, 255, 80)
_SHADOW = (0, 0, 0, 110)
_BOX = (60, 200, 90, 255)


def read_frames_every(
    path: Path, start: Fraction, end: Fraction | None, interval: Fraction
) -> Iterator[tuple[Fraction, RgbImage]]:
    """Yield the first frame of each interval as displayed, with its time in the episode, seconds.

    The times begin at ``start`` and stay below ``end``; None: the episode's end. The frames between
    are decoded, once. Raises UnreadableVideo.
    """
    with open_video(path) as video:
        time_base = video.info.time_base
        origin = video.first_frame.pts
        wanted = start
        for frame in video.frames_from(origin + int(start / time_base)):
            seconds = (frame.pts - origin) * time_base
            if end is not None and seconds >= end:
                return
            if seconds >= wanted:
                yield seconds, to_display_rgb(frame, video.info)
                wanted += interval * ((seconds - wanted) // interval + 1)


def draw_grid(image_HWC: RgbImage, caption: str, boxes: Sequence[FrameMatch] = ()) -> Image.Image:
    """Draw lines at every twentieth of a frame's width and height, and their coordinates.

    ``boxes``: in pixels of the frame, drawn with their characters' names. ``caption``: written in
    the picture's lower left corner.
    """
    height, width = image_HWC.shape[:2]
    scale = _WIDTH / width
    picture = Image.fromarray(image_HWC).resize((_WIDTH, max(1, round(height * scale))))
    lines = Image.new("RGBA", picture.size)
    draw = ImageDraw.Draw(lines)
    for step in range(1, _STEPS):
        color = _BETWEEN if step % 2 else _TENTH
        x, y = (round(side * step / _STEPS) for side in picture.size)
        draw.line((x + 1, 0, x + 1, picture.height), fill=_SHADOW)
        draw.line((0, y + 1, picture.width, y + 1), fill=_SHADOW)
        draw.line((x, 0, x, picture.height), fill=color)
        draw.line((0, y, picture.width, y), fill=color)
    for step in range(2, _STEPS, 2):
        x, y = (round(side * step / _STEPS) for side in picture.size)
        text = f"{step / _STEPS:.1f}"
        for at in ((x + 3, 2), (x + 3, picture.height // 2 + 3), (3, y + 3)):
            _draw_text(draw, at, text)
    for match in boxes:
        x0, y0, x1, y1 = (side * scale for side in match.box)
        draw.rectangle((x0, y0, x1, y1), outline=_BOX, width=3)
        _draw_text(draw, (x0 + 5, y0 + 5), match.character)
    _draw_text(draw, (3, picture.height - 22), caption)
    return Image.alpha_composite(picture.convert("RGBA"), lines).convert("RGB")


def _draw_text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str) -> None:
    font = ImageFont.load_default(16)
    draw.rectangle(draw.textbbox(at, text, font=font), fill=(0, 0, 0, 200))
    draw.text(at, text, fill=(255, 255, 255, 255), font=font)
