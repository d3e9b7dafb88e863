"""Figures of the characters in the clips that a model was trained on: what a bank is built from."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.images import RgbImage

Alpha = NDArray[np.uint8]

_SOLID = 128
_SOFTEST = 0.55
"""Share of its size to which a pasted frame is reduced at most: generated videos are softer."""


@dataclass(frozen=True)
class TrainingFrame:
    """One frame of a clip, with the masks of its figures.

    ``alphas``: by character, uint8 [height, width]. ``complete``: all characters of the caption
    have a mask, so that what no mask covers is background. ``pasted``: made from two clips.
    """

    clip_id: str
    style: str
    frame: int
    image_HWC: RgbImage
    alphas: Mapping[str, Alpha]
    complete: bool
    styles: Mapping[str, str] = field(default_factory=dict)
    pasted: bool = False


def mask_box(alpha_HW: Alpha) -> tuple[int, int, int, int] | None:
    """Return the box of what is at least half covered, in pixels; None if nothing is."""
    solid = alpha_HW >= _SOLID
    if not solid.any():
        return None
    xs, ys = (np.flatnonzero(solid.any(axis=axis)) for axis in (0, 1))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def relight(image_HWC: RgbImage, exposure: float) -> RgbImage:
    """Return the image as if its scene were lit ``exposure`` times as brightly, in sRGB values."""
    lit: RgbImage = np.clip(np.rint(image_HWC * exposure), 0, 255).astype(np.uint8)
    return lit


def paste_figures(frames: Sequence[TrainingFrame], seed: int) -> Iterator[TrainingFrame]:
    """Paste each figure of the frames into a frame of another clip, of another style if there is.

    Who somebody is must not depend on where he is, and clips show a character in the scenes of
    its own show alone. Half of the results are softened.
    """
    rng = random.Random(seed)
    for frame in frames:
        elsewhere = [one for one in frames if one.clip_id != frame.clip_id and one.complete]
        others = [one for one in elsewhere if one.style != frame.style] or elsewhere
        for name, alpha_HW in frame.alphas.items():
            soft = rng.uniform(_SOFTEST, 1) if rng.random() < 0.5 else 1.0
            if others and mask_box(alpha_HW) is not None:
                yield _paste(frame, name, alpha_HW, rng.choice(others), soft)


def _paste(
    frame: TrainingFrame, name: str, alpha_HW: Alpha, scene: TrainingFrame, soft: float
) -> TrainingFrame:
    height, width = scene.image_HWC.shape[:2]
    figure_HWC = cv2.resize(frame.image_HWC, (width, height), interpolation=cv2.INTER_AREA)
    resized_HW = cv2.resize(alpha_HW, (width, height), interpolation=cv2.INTER_AREA)
    cover_HW1 = resized_HW[..., None].astype(np.float32) / 255
    mixed = scene.image_HWC * (1 - cover_HW1) + figure_HWC * cover_HW1
    image_HWC = np.rint(mixed).astype(np.uint8)
    if soft < 1:
        small = (max(1, round(width * soft)), max(1, round(height * soft)))
        image_HWC = cv2.resize(image_HWC, small, interpolation=cv2.INTER_AREA).astype(np.uint8)
        enlarged = cv2.resize(image_HWC, (width, height), interpolation=cv2.INTER_LINEAR)
        image_HWC = enlarged.astype(np.uint8)
    visible = {
        other: np.rint(alpha * (1 - cover_HW1[..., 0])).astype(np.uint8)
        for other, alpha in scene.alphas.items()
        if other != name
    }
    return TrainingFrame(
        clip_id=frame.clip_id,
        style=scene.style,
        frame=frame.frame,
        image_HWC=image_HWC,
        alphas={name: resized_HW.astype(np.uint8), **visible},
        complete=scene.complete and name not in scene.alphas,
        styles={**scene.styles, **frame.styles},
        pasted=True,
    )
