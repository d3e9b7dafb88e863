"""The source picture of a clip, in which its crop can be moved."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

SOURCE_WIDTH = 960
"""Greatest width of a source picture, in pixels."""


def crop_problems(item: Mapping[str, Any], crop: tuple[int, int, int, int]) -> list[str]:
    """List why a clip cannot be cut from there.

    ``item``: the clip as the page shows it. Its crop has the aspect ratio of clips, so that it can
    be moved, but not be given another size.
    """
    if not item.get("crop") or not item.get("source"):
        return ["this item has no crop"]
    x, y, width, height = crop
    source_width, source_height = item["source"]
    problems = []
    if [width, height] != item["crop"][2:]:
        size = f"{item['crop'][2]}x{item['crop'][3]}"
        problems.append(f"the crop is {size} pixels and can only be moved")
    if x % 2 or y % 2:
        problems.append("the crop must begin at even pixels")
    if x + width > source_width or y + height > source_height:
        problems.append(
            f"the crop must lie within the {source_width}x{source_height} pixels of the source"
        )
    return problems


def source_moment(item: Mapping[str, Any]) -> Fraction:
    """Return the middle of a clip, in seconds from the first frame of its episode."""
    return Fraction(item["start"]) + Fraction(item["frames"]) / Fraction(item["rate"]) / 2


def render_source_frame(video: Path, seconds: Fraction, target: Path) -> None:
    """Write the frame of an episode that is shown at a time as WebP. Raises UnreadableVideo."""
    from PIL import Image

    from mimix_core.engine.atomic_io import atomic_write_bytes
    from mimix_core.media import open_video, to_display_rgb
    from mimix_core.studio.webp_images import encode_webp

    with open_video(video, threads=1) as opened:
        wanted = opened.first_frame.pts + seconds / opened.info.time_base
        shown = opened.first_frame
        for frame in opened.frames_from(int(wanted)):
            if frame.pts > wanted:
                break
            shown = frame
        image = Image.fromarray(to_display_rgb(shown, opened.info))
    if image.width > SOURCE_WIDTH:
        height = max(1, round(image.height * SOURCE_WIDTH / image.width))
        image = image.resize((SOURCE_WIDTH, height), Image.Resampling.BILINEAR)
    atomic_write_bytes(target, encode_webp(image), durable=False)
