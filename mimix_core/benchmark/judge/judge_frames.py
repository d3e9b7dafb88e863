"""Build the images that a judge is shown: sampled video frames and reference sheets."""

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
from mimix_core.media.images import JpegOptions, encode_jpeg, load_reference_jpeg


def sample_video_jpegs(
    path: Path, fps: Fraction, options: JpegOptions, max_seconds: Fraction
) -> list[bytes]:
    """Encode the frames displayed at 0, 1/fps, 2/fps, ... seconds of a video as JPEGs.

    A frame is displayed until the next one begins, the last one at its own time only: 81 frames at
    16 fps yield 41 at 8 fps. Raises UnreadableVideo, and TooLargeVideo when the video is longer
    than ``max_seconds``.
    """
    jpegs: list[bytes] = []
    with open_video(path, threads=1) as video:
        for frame, count in _sample_frames(video.frames(), video.info.time_base, fps, max_seconds):
            jpegs += [encode_jpeg(to_display_rgb(frame, video.info), options)] * count
    return jpegs


def _sample_frames(
    frames: Iterator[Any], time_base: Fraction, fps: Fraction, max_seconds: Fraction
) -> Iterator[tuple[Any, int]]:
    """Yield each frame displayed at any time k / fps, and at how many such times (exact)."""
    last: Any = None
    start = emitted = 0
    for frame in frames:
        if last is None:
            start = frame.pts
        seconds = (frame.pts - start) * time_base
        if seconds > max_seconds:
            raise TooLargeVideo(f"longer than {float(max_seconds):g} seconds")
        # Sample times before this frame's own belong to the previous frame.
        until = math.ceil(seconds * fps)
        if last is not None and until > emitted:
            yield last, until - emitted
            emitted = until
        last = frame
    if last is not None and ((last.pts - start) * time_base * fps).denominator == 1:
        yield last, 1


def build_reference_sheet(member: CastMember, options: JpegOptions) -> bytes | None:
    """Tile all reference images of a character into one JPEG; None when there are none.

    Several images form a grid of equal cells on white. Raises BadInput for an invalid image.
    """
    if not member.references:
        return None
    if len(member.references) == 1:
        return load_reference_jpeg(member.references[0].path, options)
    columns = math.ceil(math.sqrt(len(member.references)))
    rows = math.ceil(len(member.references) / columns)
    cell = options.max_side // columns
    sheet_HWC = np.full((rows * cell, columns * cell, 3), 255, np.uint8)
    for number, reference in enumerate(member.references):
        # Quality 100 here: the finished sheet is compressed once, at the requested quality.
        jpeg = load_reference_jpeg(reference.path, JpegOptions(cell, 100))
        bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert bgr is not None  # it was encoded a line ago
        height, width = bgr.shape[:2]
        top = number // columns * cell + (cell - height) // 2
        left = number % columns * cell + (cell - width) // 2
        sheet_HWC[top : top + height, left : left + width] = bgr[:, :, ::-1]
    return encode_jpeg(sheet_HWC, options)
