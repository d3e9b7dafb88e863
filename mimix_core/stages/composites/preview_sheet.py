"""Write a preview image of a composite: source, mask, background and result."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from mimix_core.stages.composites.linear_light import Images

_QUALITY = 88
_GAP = 16
_OUTLINE = (255, 0, 255)


def write_preview_sheet(
    path: Path, source_HWC: Images, alpha_HW: Images, background_HWC: Images, result_HWC: Images
) -> None:
    """Write a JPEG of one frame: source, source with the mask's outline, background, result.

    Each at the background's full size, so edges can be judged. Raises ValueError.
    """
    outlined = source_HWC.copy()
    contours, _ = cv2.findContours(
        (alpha_HW >= 128).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
    )
    cv2.drawContours(outlined, contours, -1, _OUTLINE, 2)
    height, width = background_HWC.shape[:2]
    tiles = [
        image
        if image.shape == background_HWC.shape
        else cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
        for image in (source_HWC, outlined, background_HWC, result_HWC)
    ]
    # JPEG mixes neighboring blocks: without a gap, one tile's outline would tint the next.
    sheet = np.zeros((2 * height + _GAP, 2 * width + _GAP, 3), np.uint8)
    for n, tile in enumerate(tiles):
        top, left = (height + _GAP) * (n // 2), (width + _GAP) * (n % 2)
        sheet[top : top + height, left : left + width] = tile
    written, jpeg = cv2.imencode(
        ".jpg", cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    )
    if not written:
        raise ValueError(f"{path.name} cannot be written as JPEG")
    path.write_bytes(jpeg.tobytes())
