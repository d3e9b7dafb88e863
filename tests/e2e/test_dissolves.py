"""How many dissolves are seen, by their length and by how fast both shots move.

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
from mimix_core.stages.scenes.frame_distances import Blend, Thumbs
from mimix_core.stages.scenes.frame_downscale import Reducer
from mimix_core.stages.scenes.gradual_transitions import find_blends
from tests.hard_cases import Plan, texture
from tests.media_factory import SIZE

PANS = (0, 1, 2, 3)
"""Pixels a frame, of ``SIZE``; 0: soft still backdrops and a faint bar."""
LENGTHS = (6, 12, 18, 24, 36, 48)
SEEDS = range(100, 106)
AROUND = 54


@dataclass(frozen=True)
class Seen:
    """Of one kind of dissolve: how many there were and how many were found whole; the mixed frames
    that were not found, and the pure ones that were, in all.
    """

    reels: int
    whole: int
    leaked: int
    extra: int


def found_in(images: Iterable[np.ndarray]) -> list[Blend]:
    thumbs = Thumbs()
    reduce: Reducer | None = None
    for image in images:
        frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        reduce = reduce or Reducer(frame, height=180, full_range=False)
        thumbs.add(reduce(frame).thumb)
    settings = SceneSettings()
    return find_blends(thumbs.finish(), settings.dissolve_max_residual, settings.dissolve_max_contrast_residual)


def seen(pan: int, length: int) -> Seen:
    whole = leaked = extra = 0
    for seed in SEEDS:
        plan = Plan("dissolve", 4, 2 * AROUND, length, pan, seed)
        first = plan.step * (seed // 2 % 3) + AROUND
        instants = range(first, first + 2 * AROUND + length)
        covered = {
            instants[k]
            for blend in found_in(plan.draw(instant) for instant in instants)
            for k in range(blend.start, blend.end)
        }
        mixed = {instant for instant in instants if not plan.pure(instant)}
        assert len(mixed) > length / 2
        whole += mixed <= covered
        leaked += len(mixed - covered)
        extra += len(covered - mixed)
    return Seen(len(SEEDS), whole, leaked, extra)


@pytest.mark.e2e
def test_dissolves_are_seen_whatever_their_length_and_motion() -> None:
    table = {(pan, length): seen(pan, length) for pan in PANS for length in LENGTHS}
    print("\n| pan | " + " | ".join(f"{length} frames" for length in LENGTHS) + " |")
    for pan in PANS:
        cells = (table[pan, length] for length in LENGTHS)
        texts = [f"{one.whole}/{one.reels}, {one.extra / one.reels:.0f}" for one in cells]
        print(f"| {pan} | " + " | ".join(texts) + " |")
    reels, whole = (
        sum(getattr(one, name) for one in table.values()) for name in ("reels", "whole")
    )
    assert whole >= 0.97 * reels, table
    assert sum(one.extra for one in table.values()) <= 45 * reels


def moving(seed: int, kind: str, speed: float) -> Iterator[np.ndarray]:
    """160 pictures of one shot: a pan, a tilt, a zoom, or a hand that shakes."""
    wide = texture(seed, seed % 2, 4 * SIZE[0])
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
        yield cv2.warpAffine(wide, matrix, SIZE, borderMode=cv2.BORDER_REFLECT)


@pytest.mark.e2e
def test_moving_cameras_are_no_transitions() -> None:
    lost = {
        (kind, speed, seed): sum(
            blend.end - blend.start for blend in found_in(moving(seed, kind, speed))
        )
        for kind in ("pan", "zoom", "shake")
        for speed in (0.5, 1.0, 2.0, 3.0, 4.0)
        for seed in range(4)
    }
    print({name: frames for name, frames in lost.items() if frames})
    assert sum(lost.values()) <= 0.02 * 160 * len(lost), lost
