"""Try a locator on a few frames of an episode, before anything is run on all of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
from PIL import Image, ImageDraw

from mimix_core.media import open_container, open_video, to_display_rgb
from mimix_core.media.images import RgbImage
from mimix_core.stages.cutouts.locate.box_annotations import BoxAnnotationLocator, interpolate_box
from mimix_core.stages.cutouts.locate.box_track import FrameMatch
from mimix_core.stages.cutouts.locate.reference_bank import ReferenceDistances

_ACCEPTED, _REJECTED = (60, 200, 90), (230, 140, 40)
_COLUMNS = 3
_WIDTH = 416
"""Width of one frame on the sheet, pixels."""


class FrameInspector(Protocol):
    """A locator that compares with references, and can be asked about a single frame."""

    def inspect_frame(self, frame_HWC: RgbImage) -> list[FrameMatch]: ...

    def reference_distances(self) -> ReferenceDistances: ...


@dataclass(frozen=True)
class InspectedFrame:
    """A frame with its time in seconds since the first frame, and what the locator makes of it."""

    seconds: float
    image_HWC: RgbImage
    matches: Sequence[FrameMatch]


def sample_frames(path: Path, count: int, height: int) -> Iterator[tuple[Fraction, RgbImage]]:
    """Yield evenly spaced frames as displayed, with their times in seconds; each is sought.

    Larger frames are reduced to ``height``, the size at which clips are located. Raises
    UnreadableVideo.
    """
    with open_container(path) as container:
        duration = Fraction(container.duration or 0, 1_000_000)
    with open_video(path) as video:
        time_base = video.info.time_base
        first = next(iter(video.frames()), None)
        if first is None:
            return
        for index in range(count):
            seconds = duration * (2 * index + 1) / (2 * count)
            target = first.pts + int(seconds / time_base)
            frame = next((one for one in video.frames_from(target) if one.pts >= target), None)
            if frame is not None:
                image = _reduce(to_display_rgb(frame, video.info), height)
                yield (frame.pts - first.pts) * time_base, image


def inspect_episode(
    path: Path, locator: FrameInspector | BoxAnnotationLocator, count: int, height: int
) -> list[InspectedFrame]:
    """Sample frames and let a locator look at each of them."""
    inspected = []
    for seconds, image in sample_frames(path, count, height):
        if isinstance(locator, BoxAnnotationLocator):
            matches = annotated_boxes(locator, seconds, image)
        else:
            matches = locator.inspect_frame(image)
        inspected.append(InspectedFrame(float(seconds), image, matches))
    return inspected


def draw_sheet(frames: Sequence[InspectedFrame], path: Path) -> None:
    """Write all frames with their boxes, names and values as one JPEG."""
    tiles = [_draw_frame(frame) for frame in frames]
    columns = min(_COLUMNS, len(tiles))
    rows = -(-len(tiles) // columns)
    height = max(tile.height for tile in tiles)
    sheet = Image.new("RGB", (columns * _WIDTH, rows * height), "white")
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        sheet.paste(tile, (column * _WIDTH, row * height))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path, "JPEG", quality=85)


def annotated_boxes(
    locator: BoxAnnotationLocator, seconds: Fraction, image: RgbImage
) -> list[FrameMatch]:
    """Return the boxes that a boxes file gives one frame, in the frame's pixels."""
    height, width = image.shape[:2]
    matches = []
    for name, keyframes in locator.keyframes.items():
        box = interpolate_box(keyframes, seconds)
        if box is not None:
            x0, y0, x1, y1 = box
            matches.append(
                FrameMatch(name, (x0 * width, y0 * height, x1 * width, y1 * height), 1.0, "1.00")
            )
    return matches


def _reduce(image: RgbImage, height: int) -> RgbImage:
    if image.shape[0] <= height:
        return image
    width = round(image.shape[1] * height / image.shape[0])
    reduced: RgbImage = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA).astype(
        np.uint8
    )
    return reduced


def _draw_frame(frame: InspectedFrame) -> Image.Image:
    height, width = frame.image_HWC.shape[:2]
    scale = _WIDTH / width
    image = Image.fromarray(frame.image_HWC).resize((_WIDTH, max(1, round(height * scale))))
    draw = ImageDraw.Draw(image)
    for match in frame.matches:
        color = _REJECTED if match.problem else _ACCEPTED
        x0, y0, x1, y1 = (side * scale for side in match.box)
        draw.rectangle((x0, y0, x1, y1), outline=color, width=2 if match.problem else 3)
        _draw_label(draw, (x0 + 3, max(0, y0)), f"{match.character} {match.shown}", color)
    _draw_label(draw, (2, image.height - 14), f"{frame.seconds:.1f} s", (255, 255, 255))
    return image


def _draw_label(
    draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, color: tuple[int, int, int]
) -> None:
    draw.rectangle(draw.textbbox(at, text), fill=(0, 0, 0))
    draw.text(at, text, fill=color)
