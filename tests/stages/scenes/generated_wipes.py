"""Wipes, slides and irises made by FFmpeg's xfade, with the frames that mix two shots."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mimix_core.media import find_ffmpeg
from mimix_core.stages.scenes.frame_distances import FrameDistances, Transition
from mimix_core.stages.scenes.gradual_transitions import (
    detect_low_contrast_cuts,
    detect_transitions,
    drop_false_cuts,
)
from mimix_core.stages.scenes.wipes import detect_wipes
from tests.stages.scenes.transitions import Images, shot

WIPES = ("wipeleft", "wiperight", "wipeup", "wipedown", "wipetl", "radial", "diagtl", "diagbr")
SOFT_WIPES = ("smoothleft", "smoothup", "hlslice", "vuslice", "horzopen", "vertclose", "pixelize")
IRISES = ("circleopen", "circleclose", "rectcrop", "circlecrop")
SLIDES = ("slideleft", "slideright", "slideup", "slidedown", "coverleft", "revealright")
KINDS = WIPES + SOFT_WIPES + IRISES + SLIDES
GROUPS = {"wipes": WIPES, "soft_wipes": SOFT_WIPES, "irises": IRISES, "slides": SLIDES}

_MAX_LEVELS = 6
"""Frames of FFmpeg's output that differ by no more from a shot's own are unmixed."""


@dataclass(frozen=True)
class Wipe:
    """``images``: 2 x 70 frames less the overlap. ``mixed``: which of them show both shots."""

    images: Images
    mixed: np.ndarray


def make_wipe(folder: Path, kind: str, frames: int, pan: float, seed: int) -> Wipe:
    """Wipe from one generated shot to another within ``frames`` frames."""
    one, other = (shot(seed + k, 70, speed=pan * (1 - 2 * k)) for k in (0, 1))
    return join_shots(folder, one, other, kind, frames)


def join_shots(folder: Path, one: Images, other: Images, kind: str, frames: int) -> Wipe:
    """Join two shots, uint8 RGB [frames, height, width, 3], by a transition of FFmpeg's xfade."""
    height, width = one.shape[1:3]
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "24"]
    inputs: list[str] = []
    for number, images in enumerate((one, other)):
        path = folder / f"{number}.raw"
        path.write_bytes(images.tobytes())
        inputs += [*raw, "-i", str(path)]
    offset = len(one) - frames
    graph = (
        f"[0]settb=1/24[a];[1]settb=1/24[b];[a][b]xfade={kind}:duration={frames / 24}"
        f":offset={offset / 24},format=rgb24"
    )
    result = subprocess.run(
        [find_ffmpeg(), "-v", "error", *inputs, "-filter_complex", graph, "-f", "rawvideo", "-"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    images = np.frombuffer(result, np.uint8).reshape(-1, height, width, 3)
    pure = np.zeros(len(images), bool)
    for number, own in enumerate((one, other)):
        for k, image in enumerate(own):
            at = k + offset * number
            if at < len(images):
                difference = np.abs(image.astype(np.int16) - images[at])
                pure[at] |= bool(difference.max() <= _MAX_LEVELS)
    return Wipe(images, ~pure)


def find_transitions(distances: FrameDistances) -> list[Transition]:
    """Return what the detectors of dissolves and of wipes find with the default settings."""
    cuts = drop_false_cuts(distances, detect_low_contrast_cuts(distances))
    gradual = detect_transitions(distances, 0.35, 1.0)
    return detect_wipes(distances, cuts, gradual) + gradual


def covered_frames(transitions: Iterable[Transition], frames: int) -> np.ndarray:
    covered = np.zeros(frames, bool)
    for transition in transitions:
        covered[transition.start : transition.end] = True
    return covered
