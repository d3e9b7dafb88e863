"""Pictures of a page: small WebPs, moving and still, that the page carries inside itself."""

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

QUALITY = 66
EFFORT = 2
"""WebP's quality and method; both with the frames decide the bytes."""

OUTLINE = (255, 64, 129)


@dataclass(frozen=True)
class Picture:
    """A picture as data URIs. ``still`` stands for a moving one where motion is unwanted."""

    src: str
    width: int
    height: int
    still: str = ""


def spread(total: int, wanted: int) -> list[int]:
    """``wanted`` indices, first and last among them, evenly over ``range(total)``."""
    if total <= wanted:
        return list(range(total))
    if wanted == 1:
        return [total // 2]
    return [round(k * (total - 1) / (wanted - 1)) for k in range(wanted)]


def frames(path: Path, indices: Sequence[int], width: int) -> list[Image.Image]:
    """The frames with these rising indices, scaled to ``width`` (RGB).

    Raises UnreadableVideo when the file is no video, and BadInput when it has fewer frames.
    """
    wanted = set(indices)
    found: list[Image.Image] = []
    with open_video(path, threads=1) as video:
        matrix = {"bt709": "ITU709", "bt2020": "bt2020"}.get(video.info.matrix, "ITU601")
        for index, frame in enumerate(video.frames()):
            if index in wanted:
                image = frame.reformat(
                    width=width,
                    height=scaled(frame.width, frame.height, width),
                    format="rgb24",
                    src_colorspace=matrix,
                    dst_colorspace=matrix,
                    src_color_range="JPEG" if video.info.full_range else "MPEG",
                    dst_color_range="JPEG",
                    interpolation="BICUBIC",
                )
                found.append(Image.fromarray(image.to_ndarray()))
            if len(found) == len(wanted):
                break
    if len(found) != len(wanted):
        raise BadInput(
            f"has no frame {max(wanted)}",
            where=path.name,
            fix="Run the stage that makes it again.",
        )
    return found


def scaled(width: int, height: int, new_width: int) -> int:
    """The height that keeps the shape."""
    return max(1, round(height * new_width / width))


def still(path: Path, width: int) -> Image.Image:
    """A picture file, scaled to ``width`` (RGB)."""
    with Image.open(path) as image:
        size = (width, scaled(image.width, image.height, width))
        return image.convert("RGB").resize(size, Image.Resampling.LANCZOS)


def embed(image: Image.Image) -> Picture:
    """A still picture for the page."""
    return Picture(_webp([image]), image.width, image.height)


def embed_moving(images: Sequence[Image.Image], seconds: float) -> Picture:
    """A looping picture of ``seconds`` for the page, with its middle frame for stillness."""
    milliseconds = max(20, round(1000 * seconds / len(images)))
    return Picture(
        _webp(images, milliseconds),
        images[0].width,
        images[0].height,
        still=_webp([images[len(images) // 2]]),
    )


def _webp(images: Sequence[Image.Image], milliseconds: int = 0) -> str:
    buffer = io.BytesIO()
    if len(images) == 1:
        images[0].save(buffer, "WEBP", quality=QUALITY, method=EFFORT)
    else:
        images[0].save(
            buffer,
            "WEBP",
            quality=QUALITY,
            method=EFFORT,
            save_all=True,
            append_images=list(images[1:]),
            duration=milliseconds,
            loop=0,
        )
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def masks(path: Path, indices: Sequence[int], size: tuple[int, int]) -> list[Image.Image]:
    """The masks (L, 0..255) of these frames, scaled to ``size``. Raises BadInput."""
    alpha_NHW = read_masks(path)
    return [
        Image.fromarray(alpha_NHW[index]).resize(size, Image.Resampling.BILINEAR)
        for index in indices
    ]


def cut_out(image: Image.Image, mask: Image.Image) -> Image.Image:
    """What lies under the mask, on nothing (RGBA)."""
    result = image.convert("RGBA")
    result.putalpha(mask)
    return result


def boxed(image: Image.Image, box: Sequence[float]) -> Image.Image:
    """The frame with a box (x0, y0, x1, y1, pixels) drawn, unless the box is empty."""
    x0, y0, x1, y1 = box
    if x1 <= x0 or y1 <= y0:
        return image
    result = image.copy()
    ImageDraw.Draw(result).rectangle((x0, y0, x1, y1), outline=OUTLINE, width=2)
    return result


def outlined(image: Image.Image, mask: Image.Image) -> Image.Image:
    """The frame, dimmed outside the mask, with the mask's edge drawn."""
    inside = mask.point(lambda value: 255 if value >= 128 else 0)
    edge = ImageChops.difference(
        inside.filter(ImageFilter.MaxFilter(5)), inside.filter(ImageFilter.MinFilter(3))
    )
    dimmed = Image.blend(image, Image.new("RGB", image.size, (20, 20, 28)), 0.45)
    result = Image.composite(image, dimmed, inside)
    result.paste(OUTLINE, mask=edge)
    return result


def tight_box(masks_of_frames: Sequence[Image.Image], margin: int = 6) -> tuple[int, int, int, int]:
    """Left, upper, right, lower of what all masks together cover, in pixels."""
    width, height = masks_of_frames[0].size
    total = np.zeros((height, width), dtype=bool)
    for mask in masks_of_frames:
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
