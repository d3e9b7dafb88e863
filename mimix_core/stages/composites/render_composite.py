"""One composite's files: each source decoded once, one encode, and the proof that it reads back."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from mimix_core.media import ClipWriter, prove_clip
from mimix_core.media.masks import read_masks
from mimix_core.stages.composites.alpha import steady
from mimix_core.stages.composites.compositing import Look, composite, matched
from mimix_core.stages.composites.preview_sheet import write_sheet
from mimix_core.stages.composites.scale_translate import Move
from mimix_core.stages.composites.yuv_frames import Colours, Planes, frame_of, read_planes

_AHEAD = 4
"""Frames that may wait for the encoder."""


@dataclass(frozen=True)
class Files:
    """What a composite is made from: two clips, and the masks of the cutout."""

    source: Path
    masks: Path
    scene: Path


@dataclass(frozen=True)
class Encoding:
    """How the result is written."""

    crf: int
    preset: str


def make(
    files: Files,
    path: tuple[Move, ...],
    look: Look,
    encoding: Encoding,
    video: Path,
    sheet: Path,
) -> None:
    """Write the composite and its sheet.

    ``look.gain`` comes on top of what brings the figure nearer to the scene's brightness. Raises
    BadInput, UnreadableVideo, EncodeFailed, ProofFailed and ValueError. Leaves no video then.
    """
    source, scene = read_planes(files.source), read_planes(files.scene)
    alphas_NHW = read_masks(files.masks)
    if not len(source) == len(scene) == len(alphas_NHW) == len(path):
        raise ValueError(
            f"{len(source)} frames, {len(alphas_NHW)} masks, {len(scene)} frames of the scene and "
            f"{len(path)} places do not go together"
        )
    if source[0].size != alphas_NHW.shape[:0:-1]:
        raise ValueError(f"masks of {alphas_NHW.shape[:0:-1]} do not fit {source[0].size}")
    look = replace(look, gain=look.gain * matched(source, alphas_NHW, scene))
    middle = len(scene) // 2
    frames = composite(source, alphas_NHW, scene, path, look)
    shown = _encode(frames, scene[0].size, encoding, video, keep=middle)
    colours = Colours()
    try:
        prove_clip(video, *scene[0].size, frames=len(scene))
        write_sheet(
            sheet,
            colours.rgb(source[middle]),
            steady(alphas_NHW, middle),
            colours.rgb(scene[middle]),
            colours.rgb(shown),
        )
    except Exception:
        video.unlink()
        raise


def _encode(
    frames: Iterable[Planes], size: tuple[int, int], encoding: Encoding, video: Path, *, keep: int
) -> Planes:
    """Write ``frames``, each encoded while the next is made; gives the one numbered ``keep``."""
    waiting: deque[Future[None]] = deque()
    kept: Planes | None = None
    with (
        ClipWriter(video, *size, crf=encoding.crf, preset=encoding.preset) as writer,
        ThreadPoolExecutor(1) as encoder,
    ):
        for n, planes in enumerate(frames):
            if n == keep:
                kept = planes
            waiting.append(encoder.submit(writer.write, frame_of(planes)))
            if len(waiting) > _AHEAD:
                waiting.popleft().result()
        while waiting:
            waiting.popleft().result()
    if kept is None:
        raise ValueError(f"there is no frame {keep}")
    return kept
