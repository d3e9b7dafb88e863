"""Detection rate of dissolves by their length and by the motion of both shots.

``pytest -m e2e -s tests/e2e/test_dissolves.py`` prints the table of docs/decisions/0007.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import av
import cv2
import numpy as np
import pytest

from mimix_core.settings import SceneSettings
from mimix_core.stages.scenes.frame_distances import FrameDistanceBuilder, Transition
from mimix_core.stages.scenes.frame_downscale import FrameDownscaler
from mimix_core.stages.scenes.gradual_transitions import detect_transitions
from tests.episode_plan import EpisodePlan, texture
from tests.media_factory import SIZE

PANS = (0, 1, 2, 3)
"""Pixels per frame, at ``SIZE``; 0: soft still backdrops and a faint bar."""
LENGTHS = (6, 12, 18, 24, 36, 48)
SEEDS = range(100, 106)
CONTEXT = 54


@dataclass(frozen=True)
class DissolveCounts:
    """Counts for one kind of dissolve.

    ``complete``: dissolves detected completely. ``leaked``: blended frames that were not detected.
    ``extra``: pure frames inside detected transitions.
    """

    reels: int
    complete: int
    leaked: int
    extra: int


def detect_in_images(images: Iterable[np.ndarray]) -> list[Transition]:
    builder = FrameDistanceBuilder()
    downscale: FrameDownscaler | None = None
    for image in images:
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        downscale = downscale or FrameDownscaler(frame, height=180, full_range=False)
        builder.add(downscale(frame).thumbnail)
    settings = SceneSettings()
    return detect_transitions(
        builder.finish(), settings.dissolve_max_residual, settings.dissolve_max_contrast_residual
    )


def count_dissolves(pan: int, length: int) -> DissolveCounts:
    complete = leaked = extra = 0
    for seed in SEEDS:
        plan = EpisodePlan("dissolve", 4, 2 * CONTEXT, length, pan, seed)
        first = plan.step * (seed // 2 % 3) + CONTEXT
        instants = range(first, first + 2 * CONTEXT + length)
        covered = {
            instants[k]
            for transition in detect_in_images(plan.draw(instant) for instant in instants)
            for k in range(transition.start, transition.end)
        }
        mixed = {instant for instant in instants if not plan.is_pure(instant)}
        assert len(mixed) > length / 2
        complete += mixed <= covered
        leaked += len(mixed - covered)
        extra += len(covered - mixed)
    return DissolveCounts(len(SEEDS), complete, leaked, extra)


@pytest.mark.e2e
def test_dissolves_are_detected_for_every_length_and_motion() -> None:
    table = {(pan, length): count_dissolves(pan, length) for pan in PANS for length in LENGTHS}
    print("\n| pan | " + " | ".join(f"{length} frames" for length in LENGTHS) + " |")
    for pan in PANS:
        cells = (table[pan, length] for length in LENGTHS)
        texts = [
            f"{counts.complete}/{counts.reels}, {counts.extra / counts.reels:.0f}"
            for counts in cells
        ]
        print(f"| {pan} | " + " | ".join(texts) + " |")
    reels, complete = (
        sum(getattr(counts, name) for counts in table.values()) for name in ("reels", "complete")
    )
    assert complete >= 0.97 * reels, table
    assert sum(counts.extra for counts in table.values()) <= 45 * reels


def draw_camera_motion(seed: int, kind: str, speed: float) -> Iterator[np.ndarray]:
    """Draw 160 frames of one shot with a panning, zooming or shaking camera."""
    background = texture(seed, seed % 2, 4 * SIZE[0])
    centre = np.float32([2 * SIZE[0], SIZE[1] / 2])
    shake = np.random.default_rng(seed).normal(0, speed, (160, 2)).cumsum(0)
    for k in range(160):
        scale, shift = 1.2, np.zeros(2)
        if kind == "pan":
            shift = np.array([speed * (k - 80), 0])
        elif kind == "zoom":
            scale = 1.2 * (1 + speed / 400) ** k
        elif kind == "shake":
            shift = shake[k] - shake.mean(0)
        x, y = centre + shift
        matrix = np.float32(
            [[scale, 0, SIZE[0] / 2 - scale * x], [0, scale, SIZE[1] / 2 - scale * y]]
        )
        yield cv2.warpAffine(background, matrix, SIZE, borderMode=cv2.BORDER_REFLECT)


@pytest.mark.e2e
def test_camera_motion_is_not_a_transition() -> None:
    lost = {
        (kind, speed, seed): sum(
            transition.end - transition.start
            for transition in detect_in_images(draw_camera_motion(seed, kind, speed))
        )
        for kind in ("pan", "zoom", "shake")
        for speed in (0.5, 1.0, 2.0, 3.0, 4.0)
        for seed in range(4)
    }
    print({name: frames for name, frames in lost.items() if frames})
    assert sum(lost.values()) <= 0.02 * 160 * len(lost), lost
