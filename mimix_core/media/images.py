"""Pictures that models look at: reference images, and small JPEGs as they are sent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as Picture
from PIL import ImageOps

from mimix_core.errors import BadInput
from mimix_core.media import UnreadableVideo, open_video, shown_rgb

Image = NDArray[np.uint8]

WHITE, GREY = (255, 255, 255), (128, 128, 128)


@dataclass(frozen=True)
class PictureSize:
    """Longer side in pixels (smaller pictures stay as they are), and JPEG quality 1..100."""

    side: int
    quality: int


def evenly(frames: int, count: int) -> list[int]:
    """``count`` frame numbers from the first to the last, evenly; all when there are no more.

    A single one is the middle.
    """
    count = min(count, frames)
    if count == 1:
        return [frames // 2]
    return [number * (frames - 1) // (count - 1) for number in range(count)]


def clip_jpegs(path: Path, frames: int, count: int, size: PictureSize) -> list[bytes]:
    """``count`` of a clip's ``frames`` frames as JPEGs, in order; decoded once.

    Raises UnreadableVideo, also when the clip has fewer frames than that.
    """
    wanted = evenly(frames, count)
    found: list[bytes] = []
    with open_video(path, threads=1) as video:
        for number, frame in enumerate(video.frames()):
            if number == wanted[len(found)]:
                found.append(encode(shown_rgb(frame, video.info), size))
                if len(found) == len(wanted):
                    return found
    raise UnreadableVideo(f"ends before frame {wanted[len(found)]}", where=path.name)


def reference_rgb(path: Path, paper: tuple[int, int, int]) -> Image:
    """A reference image as a person sees it, uint8 RGB [height, width, 3], on ``paper``.

    Raises BadInput when it is no image.
    """
    try:
        with Picture.open(path) as picture:
            shown = ImageOps.exif_transpose(picture).convert("RGBA")
    except (OSError, Picture.DecompressionBombError) as error:
        raise BadInput(
            f"is not a readable image ({error})",
            where=str(path),
            fix="Give a PNG or JPEG, or take it out of the character's references.",
        ) from error
    below = Picture.new("RGBA", shown.size, (*paper, 255))
    return np.asarray(Picture.alpha_composite(below, shown).convert("RGB"))


def reference_jpeg(path: Path, size: PictureSize) -> bytes:
    """A reference image as a JPEG, transparent parts white. Raises BadInput when it is no image."""
    return encode(reference_rgb(path, WHITE), size)


def encode(image_HWC: Image, size: PictureSize) -> bytes:
    """An RGB picture as a JPEG of at most that size."""
    height, width = image_HWC.shape[:2]
    scale = size.side / max(height, width)
    if scale < 1:
        shape = (max(1, round(width * scale)), max(1, round(height * scale)))
        image_HWC = cv2.resize(np.ascontiguousarray(image_HWC), shape, interpolation=cv2.INTER_AREA)
    bgr = np.ascontiguousarray(image_HWC[:, :, ::-1])
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, size.quality])
    if not done:
        raise ValueError(f"a picture of {width}x{height} could not be encoded")
    return bytes(data)


def blank_jpeg(width: int, height: int, size: PictureSize) -> bytes:
    """A grey picture of a clip's size: costs as many tokens as any other."""
    return encode(np.full((height, width, 3), 128, np.uint8), size)
