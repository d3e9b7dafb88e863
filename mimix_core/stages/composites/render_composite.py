"""Render one composite: decode each source once, encode, and verify the result."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.media import ClipWriter, verify_clip
from mimix_core.media.masks import read_masks
from mimix_core.stages.composites.alpha import smooth_alpha
from mimix_core.stages.composites.compositing import PasteOptions, composite_frames, match_exposure
from mimix_core.stages.composites.preview_sheet import write_preview_sheet
from mimix_core.stages.composites.scale_translate import ScaleTranslate
from mimix_core.stages.composites.yuv_frames import (
    ColorConverter,
    YuvPlanes,
    read_yuv_frames,
    to_video_frame,
)

_ENCODER_QUEUE = 4
"""Maximum number of frames pending for the encoder."""


@dataclass(frozen=True)
class CompositeFiles:
    """Input files of a composite: two clips, and the masks of the cutout."""

    source: Path
    masks: Path
    background: Path


@dataclass(frozen=True)
class EncodingOptions:
    """Encoder settings of the result."""

    crf: int
    preset: str


def render_composite(
    files: CompositeFiles,
    path: tuple[ScaleTranslate, ...],
    options: PasteOptions,
    encoding: EncodingOptions,
    video: Path,
    sheet: Path,
    rate: Fraction = CLIP_RATE,
) -> None:
    """Write a composite video of ``rate`` frames per second and its preview sheet.

    ``options.gain`` multiplies the gain that matches the background's exposure. Raises
    BadInput, UnreadableVideo, EncodeFailed, VerificationFailed and ValueError; no video remains
    after an error.
    """
    source, background = read_yuv_frames(files.source), read_yuv_frames(files.background)
    alphas_NHW = read_masks(files.masks)
    if not len(source) == len(background) == len(alphas_NHW) == len(path):
        raise ValueError(
            f"{len(source)} frames, {len(alphas_NHW)} masks, {len(background)} background "
            f"frames and {len(path)} transforms: the counts must be equal"
        )
    if source[0].size != alphas_NHW.shape[:0:-1]:
        raise ValueError(f"masks of {alphas_NHW.shape[:0:-1]} do not fit {source[0].size}")
    options = replace(options, gain=options.gain * match_exposure(source, alphas_NHW, background))
    middle = len(background) // 2
    frames = composite_frames(source, alphas_NHW, background, path, options)
    result = _encode(frames, background[0].size, encoding, rate, video, return_frame=middle)
    converter = ColorConverter()
    try:
        verify_clip(video, *background[0].size, frames=len(background), rate=rate)
        write_preview_sheet(
            sheet,
            converter.to_rgb(source[middle]),
            smooth_alpha(alphas_NHW, middle),
            converter.to_rgb(background[middle]),
            converter.to_rgb(result),
        )
    except Exception:
        video.unlink()
        raise


def _encode(
    frames: Iterable[YuvPlanes],
    size: tuple[int, int],
    encoding: EncodingOptions,
    rate: Fraction,
    video: Path,
    *,
    return_frame: int,
) -> YuvPlanes:
    """Encode ``frames``, each while the next is computed; return frame ``return_frame``."""
    pending: deque[Future[None]] = deque()
    selected: YuvPlanes | None = None
    with (
        ClipWriter(video, *size, crf=encoding.crf, preset=encoding.preset, rate=rate) as writer,
        ThreadPoolExecutor(1) as encoder,
    ):
        for n, planes in enumerate(frames):
            if n == return_frame:
                selected = planes
            pending.append(encoder.submit(writer.write, to_video_frame(planes)))
            if len(pending) > _ENCODER_QUEUE:
                pending.popleft().result()
        while pending:
            pending.popleft().result()
    if selected is None:
        raise ValueError(f"there is no frame {return_frame}")
    return selected
