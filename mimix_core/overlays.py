"""The overlay rectangle of an episode: where subtitles and credits stand, and what is kept.

Text boxes are found in the bottom band of frames sampled evenly over the episode. Subtitles change
their words but not their place, so text counts only where it stands in a large enough share of the
frames; a sign in a scene does not. Source: paper, section 3.3 (bottom text overlays are cropped).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mimix_core import ids, progress, tables
from mimix_core.keys import Immaterial
from mimix_core.media import (
    Geometry,
    NoVideoStream,
    Rect,
    UnreadableVideo,
    sample_evenly,
    shown_rgb,
)
from mimix_core.refs import FileRef, Frozen
from mimix_core.settings import OverlaySettings
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import Reason, Row

Box = tuple[int, int, int, int]
"""x0, y0, x1, y1 in pixels as shown; x1 and y1 just outside."""

Detector = Callable[[NDArray[np.uint8]], list[Box]]
"""Text boxes of a picture, uint8 RGB [height, width, 3]."""

FRAME_FILE = "frame.jpg"

_MAX_LINE_HEIGHT = 0.12
"""Of the picture's height: a taller box is no line of subtitles but something in the picture."""

_DETECTION_WIDTH = 640
"""The band is looked at in this width: the same lines as at 1280 in a seventh of the time."""

_THREADS = 2


class OverlayInputs(Frozen):
    """One episode."""

    unit: Annotated[str, Immaterial()]
    show: str
    video: FileRef


@dataclass(frozen=True)
class Sample:
    """A sampled frame and the lines of text in its bottom band."""

    pts: int
    image: NDArray[np.uint8]
    lines: Sequence[Box]


class DetectorFailed(Exception):
    """The text detector broke: nothing is known about overlays."""


def run(inputs: OverlayInputs, settings: OverlaySettings, out: Path) -> StageReport:
    """One row: the rectangle to keep, or why there is none."""
    detect: Detector = _no_text if settings.backend == "none" else _rapidocr
    return StageReport([_row(inputs, settings, out, detect)], rows_in=1)


STAGE = Stage(
    name="overlays",
    version=1,
    inputs=OverlayInputs,
    settings=OverlaySettings,
    table=tables.OVERLAYS,
    run=run,
)


def _row(inputs: OverlayInputs, settings: OverlaySettings, out: Path, detect: Detector) -> Row:
    empty = _values(inputs, settings, [], [], Rect(0, 0, 0, 0), (0, 0))
    try:
        geometry, samples = _sample(inputs.video.path, settings, detect)
    except NoVideoStream as error:
        return tables.failed(Reason.NO_VIDEO_STREAM, error.what, **empty)
    except UnreadableVideo as error:
        return tables.failed(Reason.UNREADABLE_VIDEO, error.what, **empty)
    except DetectorFailed as error:
        return tables.failed(Reason.DETECTOR_FAILED, str(error), **empty)
    overlays = standing_text(
        [sample.lines for sample in samples], geometry.height, settings.min_share
    )
    keep = kept(geometry, overlays, settings.margin)
    values = _values(inputs, settings, samples, overlays, keep, (geometry.width, geometry.height))
    _save_frame(out / FRAME_FILE, samples, overlays)
    loss = 1 - keep.height / geometry.height
    if loss > settings.max_height_loss:
        detail = f"the text reaches {loss:.0%} up, {settings.max_height_loss:.0%} may be cut"
        return tables.rejected(Reason.CROP_TOO_DEEP, detail, **values)
    return tables.ok(**values)


def standing_text(lines: Sequence[Sequence[Box]], height: int, min_share: float) -> list[list[Box]]:
    """Of the lines of text in each sampled frame, those that belong to an overlay.

    A line counts when most of its rows carry text in at least ``min_share`` of the frames, and
    when it stands right above a line that counts (the upper line of a two-line subtitle is rarer
    than the lower one).
    """
    carrying = np.zeros(height, np.int64)
    for boxes in lines:
        rows = np.zeros(height, bool)
        for _, top, _, bottom in boxes:
            rows[top:bottom] = True
        carrying += rows
    # One frame alone is no overlay, however small the share asked for.
    steady = carrying >= max(2, ceil(min_share * len(lines)))
    found = []
    for boxes in lines:
        counted: list[Box] = []
        for box in sorted(boxes, key=lambda box: -box[3]):
            _, top, _, bottom = box
            above = any(abs(other[1] - bottom) <= (bottom - top) // 2 for other in counted)
            if above or steady[top:bottom].mean() >= 0.5:
                counted.append(box)
        found.append(sorted(counted))
    return found


def kept(geometry: Geometry, overlays: Sequence[Sequence[Box]], margin: float) -> Rect:
    """Everything above the highest overlay, less ``margin`` of the height; even sizes."""
    tops = [box[1] for boxes in overlays for box in boxes]
    height = geometry.height
    if tops:
        height = max(2, min(tops) - ceil(margin * geometry.height))
    return Rect(0, 0, geometry.width // 2 * 2, height // 2 * 2)


def _sample(
    path: Path, settings: OverlaySettings, detect: Detector
) -> tuple[Geometry, list[Sample]]:
    samples: list[Sample] = []
    geometry = None
    for info, frame in sample_evenly(path, settings.sampled_frames, threads=_THREADS):
        geometry = info.geometry
        image = shown_rgb(frame, info)
        top = round(geometry.height * (1 - settings.bottom_band))
        try:
            boxes = detect(np.ascontiguousarray(image[top:]))
        except Exception as error:
            raise DetectorFailed(f"{type(error).__name__} at PTS {frame.pts}: {error}") from error
        lines = [
            (x0, y0 + top, x1, y1 + top)
            for x0, y0, x1, y1 in boxes
            if y1 - y0 <= _MAX_LINE_HEIGHT * geometry.height and x1 - x0 >= y1 - y0
        ]
        samples.append(Sample(frame.pts, image, lines))
        progress.advance(len(samples), settings.sampled_frames, "frames looked at")
    if geometry is None:
        raise UnreadableVideo("not one frame could be sampled", where=path.name)
    return geometry, samples


def _save_frame(path: Path, samples: Sequence[Sample], overlays: Sequence[Sequence[Box]]) -> None:
    """The sampled frame with most overlay lines (else the middle one), for the report."""
    counts = [len(boxes) for boxes in overlays]
    chosen = counts.index(max(counts)) if max(counts) else len(samples) // 2
    Image.fromarray(samples[chosen].image).save(path, quality=85)


def _values(
    inputs: OverlayInputs,
    settings: OverlaySettings,
    samples: Sequence[Sample],
    overlays: Sequence[Sequence[Box]],
    keep: Rect,
    size: tuple[int, int],
) -> Row:
    return {
        "episode_id": ids.episode_id(inputs.show, inputs.video.sha256),
        "backend": settings.backend,
        "width": size[0],
        "height": size[1],
        "sampled_pts": [sample.pts for sample in samples],
        "boxes": [
            {"pts": sample.pts, "box": list(box)}
            for sample, boxes in zip(samples, overlays, strict=True)
            for box in boxes
        ],
        "crop_x": keep.x,
        "crop_y": keep.y,
        "crop_width": keep.width,
        "crop_height": keep.height,
        "frame_file": FRAME_FILE if samples else "",
    }


def _no_text(image: NDArray[np.uint8]) -> list[Box]:
    return []


def _rapidocr(image: NDArray[np.uint8]) -> list[Box]:
    height, width = image.shape[:2]
    found = _rapidocr_engine()(
        np.ascontiguousarray(image[:, :, ::-1]), use_det=True, use_cls=False, use_rec=False
    )
    boxes = []
    for corners in found.boxes if found.boxes is not None else ():
        xs, ys = corners[:, 0], corners[:, 1]
        x0, y0 = max(0, int(xs.min())), max(0, int(ys.min()))
        x1, y1 = min(width, ceil(xs.max())), min(height, ceil(ys.max()))
        if x1 > x0 and y1 > y0:
            boxes.append((x0, y0, x1, y1))
    return boxes


@cache
def _rapidocr_engine() -> Any:
    """PP-OCR's text detector; its weights are part of the package."""
    from rapidocr import RapidOCR

    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "EngineConfig.onnxruntime.intra_op_num_threads": _THREADS,
            "EngineConfig.onnxruntime.inter_op_num_threads": 1,
            "Det.limit_type": "max",
            "Det.limit_side_len": _DETECTION_WIDTH,
        }
    )
