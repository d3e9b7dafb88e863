"""Draw prompts side by side over the arms as one moving picture, for a README.

python -m miniature.study.picture VIDEOS.json PICTURE.webp PROMPT [PROMPT ...] --arms ARM [ARM ...]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from mimix_core.media.decode import read_rgb
from miniature.scenes import FRAMES, HEIGHT, WIDTH
from miniature.study.prompts import study_prompts
from miniature.study.scoring import VideoRow

_SCALE = 2
_GAP, _LABEL = 6, 22
_INK, _SOFT, _PAPER = (30, 30, 34), (100, 100, 110), (255, 255, 255)
_FRAME_MILLISECONDS = 1000 // 16

Frames = NDArray[np.uint8]


def draw_picture(
    videos: Sequence[Sequence[Frames]], columns: Sequence[str], lines: Sequence[str]
) -> list[Image.Image]:
    """Arrange videos_THWC in lines and columns with their texts; return a picture a frame."""
    cell_width, cell_height = WIDTH * _SCALE + _GAP, HEIGHT * _SCALE + _LABEL + _GAP
    size = (cell_width * len(columns) + _GAP, cell_height * len(lines) + _LABEL + _GAP)
    font = ImageFont.load_default(13)
    pictures = []
    for frame in range(FRAMES):
        picture = Image.new("RGB", size, _PAPER)
        draw = ImageDraw.Draw(picture)
        for column, title in enumerate(columns):
            draw.text((_GAP + column * cell_width, 4), title, _INK, font=font)
        for line, text in enumerate(lines):
            top = _LABEL + line * cell_height
            draw.text((_GAP, top + 3), text, _SOFT, font=font)
            for column, video_THWC in enumerate(videos[line]):
                large = cv2.resize(
                    video_THWC[frame], None, fx=_SCALE, fy=_SCALE, interpolation=cv2.INTER_CUBIC
                )
                place = (_GAP + column * cell_width, top + _LABEL)
                picture.paste(Image.fromarray(large), place)
        pictures.append(picture)
    return pictures


def main() -> None:
    """Draw the picture that the command line describes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("videos", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("prompts", nargs="+")
    parser.add_argument("--arms", nargs="+", required=True)
    options = parser.parse_args()
    rows: list[VideoRow] = json.loads(options.videos.read_text())
    first = min(row["seed"] for row in rows)
    files = {
        (row["prompt_id"], row["arm"]): Path(row["file"]) for row in rows if row["seed"] == first
    }
    texts = {prompt.id: prompt.as_prompt().render() for prompt in study_prompts()}
    pictures = draw_picture(
        [[read_rgb(files[name, arm]) for arm in options.arms] for name in options.prompts],
        options.arms,
        [texts[name] for name in options.prompts],
    )
    pictures[0].save(
        options.picture,
        save_all=True,
        append_images=pictures[1:],
        duration=_FRAME_MILLISECONDS,
        loop=0,
        quality=70,
        method=6,
    )


if __name__ == "__main__":
    main()
