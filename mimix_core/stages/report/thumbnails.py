"""Create the small still and animated WebP images that are embedded in the page."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from mimix_core.errors import BadInput
from mimix_core.media.decode import open_video
from mimix_core.media.masks import read_masks

WEBP_QUALITY = 66
WEBP_METHOD = 2
"""WebP options of Pillow; they determine the bytes of the page."""

OUTLINE_COLOR = (255, 64, 129)


@dataclass(frozen=True)
class EmbeddedImage:
    """An image as data URI. ``still`` replaces an animation when motion is unwanted."""

    src: str
    width: int
    height: int
    still: str = ""


def spaced_indices(total: int, count: int) -> list[int]:
    """Return ``count`` indices into ``total`` items, evenly spaced (rounded) from first to last.

    Returns all indices when there are fewer items, and the middle one for a count of 1.
    """
    if total <= count:
        return list(range(total))
    if count == 1:
        return [total // 2]
    return [round(k * (total - 1) / (count - 1)) for k in range(count)]


def read_thumbnail_frames(path: Path, indices: Sequence[int], width: int) -> list[Image.Image]:
    """Read the frames with these increasing indices, scaled to ``width`` (RGB).

    Raises UnreadableVideo for an invalid file, and BadInput when it has too few frames.
    """
    wanted = set(indices)
    images: list[Image.Image] = []
    with open_video(path, threads=1) as video:
        matrix = {"bt709": "ITU709", "bt2020": "bt2020"}.get(video.info.matrix, "ITU601")
        for index, frame in enumerate(video.frames()):
            if index in wanted:
                scaled = frame.reformat(
                    width=width,
                    height=scaled_height(frame.width, frame.height, width),
                    format="rgb24",
                    src_colorspace=matrix,
                    dst_colorspace=matrix,
                    src_color_range="JPEG" if video.info.full_range else "MPEG",
                    dst_color_range="JPEG",
                    interpolation="BICUBIC",
                )
                images.append(Image.fromarray(scaled.to_ndarray()))
            if len(images) == len(wanted):
                break
    if len(images) != len(wanted):
        raise BadInput(
            f"has no frame {max(wanted)}",
            where=path.name,
            fix="Run the stage that writes it again.",
        )
    return images


def scaled_height(width: int, height: int, new_width: int) -> int:
    """Return the height that preserves the aspect ratio."""
    return max(1, round(height * new_width / width))


def read_still(path: Path, width: int) -> Image.Image:
    """Load an image file, scaled to ``width`` (RGB)."""
    with Image.open(path) as image:
        size = (width, scaled_height(image.width, image.height, width))
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def embed_image(image: Image.Image) -> EmbeddedImage:
    """Embed a still image."""
    return EmbeddedImage(_webp_data_uri([image]), image.width, image.height)


def embed_animation(images: Sequence[Image.Image], seconds: float) -> EmbeddedImage:
    """Embed a looping animation of ``seconds``, with its middle frame as still."""
    milliseconds = max(20, round(1000 * seconds / len(images)))
    return EmbeddedImage(
        _webp_data_uri(images, milliseconds),
        images[0].width,
        images[0].height,
        still=_webp_data_uri([images[len(images) // 2]]),
    )


def _webp_data_uri(images: Sequence[Image.Image], milliseconds: int = 0) -> str:
    buffer = io.BytesIO()
    if len(images) == 1:
        images[0].save(buffer, "WEBP", quality=WEBP_QUALITY, method=WEBP_METHOD)
    else:
        images[0].save(
            buffer,
            "WEBP",
            quality=WEBP_QUALITY,
            method=WEBP_METHOD,
            save_all=True,
            append_images=list(images[1:]),
            duration=milliseconds,
            loop=0,
        )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def read_alpha_frames(
    path: Path, indices: Sequence[int], size: tuple[int, int]
) -> list[Image.Image]:
    """Read the masks (L, 0..255) of these frames, scaled to ``size``. Raises BadInput."""
    alpha_NHW = read_masks(path)
    return [
        Image.fromarray(alpha_NHW[index]).resize(size, Image.Resampling.BILINEAR)
        for index in indices
    ]


def apply_alpha(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Return the image (RGBA) with the mask as alpha channel."""
    result = image.convert("RGBA")
    result.putalpha(mask)
    return result


def draw_box(image: Image.Image, box: Sequence[float]) -> Image.Image:
    """Draw a box (x0, y0, x1, y1 in pixels) into the frame, unless the box is empty."""
    x0, y0, x1, y1 = box
    if x1 <= x0 or y1 <= y0:
        return image
    result = image.copy()
    ImageDraw.Draw(result).rectangle((x0, y0, x1, y1), outline=OUTLINE_COLOR, width=2)
    return result


def draw_outline(image: Image.Image, mask: Image.Image) -> Image.Image:
    """Dim the frame outside the mask, and draw the mask's edge."""
    inside = mask.point(lambda value: 255 if value >= 128 else 0)
    edge = ImageChops.difference(
        inside.filter(ImageFilter.MaxFilter(5)), inside.filter(ImageFilter.MinFilter(3))
    )
    dimmed = Image.blend(image, Image.new("RGB", image.size, (20, 20, 28)), 0.45)
    result = Image.composite(image, dimmed, inside)
    result.paste(OUTLINE_COLOR, mask=edge)
    return result


def bounding_box(masks: Sequence[Image.Image], margin: int = 6) -> tuple[int, int, int, int]:
    """Return left, upper, right, lower (pixels) of the union of all masks plus a margin."""
    width, height = masks[0].size
    total = np.zeros((height, width), dtype=bool)
    for mask in masks:
        total |= np.asarray(mask) >= 16
    rows, columns = np.flatnonzero(total.any(axis=1)), np.flatnonzero(total.any(axis=0))
    if not len(rows):
        return (0, 0, width, height)
    return (
        max(0, int(columns[0]) - margin),
        max(0, int(rows[0]) - margin),
        min(width, int(columns[-1]) + 1 + margin),
        min(height, int(rows[-1]) + 1 + margin),
    )
