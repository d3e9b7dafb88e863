"""What a judge is shown: a video's frames at a steady rate, and reference sheets."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mimix_core.benchmark.judge.judge_inputs import CastMember
from mimix_core.media import TooLargeVideo, open_video, to_display_rgb
from mimix_core.media.images import PictureSize, encode, reference_jpeg


def video_jpegs(
    path: Path, fps: Fraction, size: PictureSize, longest_seconds: Fraction
) -> list[bytes]:
    """The frames shown at 0, 1/fps, 2/fps, ... seconds of a video, as JPEGs.

    A frame is shown until the next one begins; the last one is shown at its own time only, so that
    81 frames of 16 a second give 41 at 8. Raises UnreadableVideo, and TooLargeVideo for one that is
    longer than ``longest_seconds``.
    """
    found: list[bytes] = []
    with open_video(path, threads=1) as video:
        for frame, count in _held(video.frames(), video.info.time_base, fps, longest_seconds):
            found += [encode(to_display_rgb(frame, video.info), size)] * count
    return found


def _held(
    frames: Iterator[Any], time_base: Fraction, fps: Fraction, longest_seconds: Fraction
) -> Iterator[tuple[Any, int]]:
    """Each frame that is shown at any k / fps, and at how many of them; integer times only."""
    last: Any = None
    start = taken = 0
    for frame in frames:
        if last is None:
            start = frame.pts
        seconds = (frame.pts - start) * time_base
        if seconds > longest_seconds:
            raise TooLargeVideo(f"longer than {float(longest_seconds):g} seconds")
        # Times k / fps before this frame's own belong to the one before it.
        until = math.ceil(seconds * fps)
        if last is not None and until > taken:
            yield last, until - taken
            taken = until
        last = frame
    if last is not None and ((last.pts - start) * time_base * fps).denominator == 1:
        yield last, 1


def sheet_jpeg(member: CastMember, size: PictureSize) -> bytes | None:
    """All reference images of a character on one picture; None when there are none.

    Several stand in a grid of equal cells on white. Raises BadInput for one that is no image.
    """
    if not member.references:
        return None
    if len(member.references) == 1:
        return reference_jpeg(member.references[0].path, size)
    columns = math.ceil(math.sqrt(len(member.references)))
    rows = math.ceil(len(member.references) / columns)
    cell = size.side // columns
    sheet_HWC = np.full((rows * cell, columns * cell, 3), 255, np.uint8)
    for number, reference in enumerate(member.references):
        # Not shrunk nor coarsely coded twice: the sheet is encoded as a whole.
        jpeg = reference_jpeg(reference.path, PictureSize(cell, 100))
        bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None  # it was encoded a line ago
        height, width = bgr.shape[:2]
        top = number // columns * cell + (cell - height) // 2
        left = number % columns * cell + (cell - width) // 2
        sheet_HWC[top : top + height, left : left + width] = bgr[:, :, ::-1]
    return encode(sheet_HWC, size)
