"""Image input for models: frame sampling, reference images, and small JPEGs for requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageOps, UnidentifiedImageError

from mimix_core.errors import BadInput
from mimix_core.media import UnreadableVideo, open_video, to_display_rgb

RgbImage = NDArray[np.uint8]

IMAGE_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "PPM")
"""Formats of reference images. EPS is not among them: reading it runs a PostScript program."""

MAX_IMAGE_PIXELS = 64_000_000

WHITE, GRAY = (255, 255, 255), (128, 128, 128)


@dataclass(frozen=True)
class JpegOptions:
    """Maximum length of the longer side in pixels (without upscaling), and JPEG quality 1..100."""

    max_side: int
    quality: int


def evenly_spaced_indices(total: int, count: int) -> list[int]:
    """Return ``count`` evenly spaced indices into ``total`` items, including first and last.

    Returns all indices when there are fewer items, and the middle one for a count of 1.
    """
    count = min(count, total)
    if count == 1:
        return [total // 2]
    return [step * (total - 1) // (count - 1) for step in range(count)]


def encode_clip_jpegs(path: Path, frames: int, count: int, options: JpegOptions) -> list[bytes]:
    """Encode ``count`` evenly spaced frames of a clip of ``frames`` frames as JPEGs, in order.

    Raises UnreadableVideo, also when the clip has fewer frames than stated.
    """
    wanted = evenly_spaced_indices(frames, count)
    jpegs: list[bytes] = []
    with open_video(path, threads=1) as video:
        for number, frame in enumerate(video.frames()):
            if number == wanted[len(jpegs)]:
                jpegs.append(encode_jpeg(to_display_rgb(frame, video.info), options))
                if len(jpegs) == len(wanted):
                    return jpegs
    raise UnreadableVideo(f"ends before frame {wanted[len(jpegs)]}", where=path.name)


def load_reference_image(path: Path, background: tuple[int, int, int]) -> RgbImage:
    """Load a reference image as displayed, uint8 RGB [height, width, 3].

    Transparent parts show the ``background`` color. Raises BadInput when it is not an image in one
    of IMAGE_FORMATS, or has more than MAX_IMAGE_PIXELS.
    """
    fix = "Provide a PNG or JPEG, or remove it from the character's references."
    try:
        with PillowImage.open(path, formats=IMAGE_FORMATS) as file:
            # The header is enough to know the size: nothing was decoded yet.
            width, height = file.size
            if width * height > MAX_IMAGE_PIXELS:
                raise BadInput(
                    f"has {width}x{height} pixels, the limit is {MAX_IMAGE_PIXELS // 1_000_000} "
                    "million",
                    where=str(path),
                    fix="Scale it down.",
                )
            ImageOps.exif_transpose(file, in_place=True)
            image = file.convert("RGBA" if file.has_transparency_data else "RGB")
    except UnidentifiedImageError as error:
        raise BadInput(
            f"is not an image in a supported format ({', '.join(IMAGE_FORMATS)})",
            where=str(path),
            fix=fix,
        ) from error
    except (
        *(OSError, ValueError, SyntaxError, EOFError, MemoryError),
        PillowImage.DecompressionBombError,
    ) as error:
        raise BadInput(f"is not a readable image ({error})", where=str(path), fix=fix) from error
    if image.mode == "RGBA":
        canvas = PillowImage.new("RGBA", image.size, (*background, 255))
        # One name for all: each of these has 256 MB at the largest size.
        image = PillowImage.alpha_composite(canvas, image)
        del canvas
        image = image.convert("RGB")
    return np.asarray(image)


def load_reference_jpeg(path: Path, options: JpegOptions) -> bytes:
    """Load a reference image as JPEG bytes on white. Raises BadInput when it is not an image."""
    return encode_jpeg(load_reference_image(path, WHITE), options)


def encode_jpeg(image_HWC: RgbImage, options: JpegOptions) -> bytes:
    """Encode an RGB image as a JPEG, downscaled to at most ``max_side``."""
    height, width = image_HWC.shape[:2]
    scale = options.max_side / max(height, width)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        image_HWC = cv2.resize(np.ascontiguousarray(image_HWC), size, interpolation=cv2.INTER_AREA)
    bgr = np.ascontiguousarray(image_HWC[:, :, ::-1])
    encoded, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, options.quality])
    if not encoded:
        raise ValueError(f"an image of {width}x{height} could not be encoded as JPEG")
    return bytes(data)


def encode_gray_jpeg(width: int, height: int, options: JpegOptions) -> bytes:
    """Encode a gray image of a clip's size, which costs as many tokens as any other."""
    return encode_jpeg(np.full((height, width, 3), 128, np.uint8), options)
