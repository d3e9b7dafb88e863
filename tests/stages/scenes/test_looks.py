"""Cuts in footage without color, in tinted and faded footage, and of the same layout."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

import av
import numpy as np
import pytest

from mimix_core.stages.scenes.color_share import measure_color_share
from mimix_core.stages.scenes.frame_distances import FrameDistanceBuilder, FrameDistances
from mimix_core.stages.scenes.frame_downscale import FrameDownscaler
from mimix_core.stages.scenes.gradual_transitions import drop_false_cuts
from tests.stages.scenes.scenes_runner import rows_of
from tests.stages.scenes.transitions import Images, Reel, shot


def measure_images(images: Iterable[np.ndarray]) -> FrameDistances:
    builder, downscale = FrameDistanceBuilder(), None
    for image in images:
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
        frame = frame.reformat(format="yuv420p")
        downscale = downscale or FrameDownscaler(frame, height=180, full_range=False)
        builder.add(downscale(frame).thumbnail)
    return builder.finish()


LENGTHS = (30, 24, 41, 30, 26, 33)


def grey(images: Images) -> Images:
    luma = images @ np.array([0.299, 0.587, 0.114])
    return np.repeat(luma[..., None], 3, axis=3).astype(np.uint8)


def sepia(images: Images) -> Images:
    return (grey(images) * np.array([1.0, 0.86, 0.66])).astype(np.uint8)


def faded(images: Images) -> Images:
    return (0.85 * grey(images) + 0.15 * images).astype(np.uint8)


def scanned(images: Images) -> Images:
    """Black and white with the noise of a color scan."""
    noise = np.random.default_rng(1).normal(0, 3, images.shape)
    return (grey(images) + noise).clip(0, 255).astype(np.uint8)


def half_in_color(images: Images) -> Images:
    return np.concatenate([images[: len(images) // 2], grey(images[len(images) // 2 :])])


@pytest.mark.parametrize("look", [grey, sepia, faded, scanned, half_in_color])
def test_content_detectors_find_cuts_without_color(
    tmp_path: Path, look: Callable[[Images], Images]
) -> None:
    reel = Reel()
    for number, length in enumerate(LENGTHS):
        reel.cut(shot(60 + number, length, contrast=0.55))
    reel.images = list(look(np.stack(reel.images)))
    rows = rows_of(reel.write(tmp_path / "v.mp4"), tmp_path, detectors=["adaptive", "content"])
    assert [row["frames"] for row in rows] == list(LENGTHS)


def test_the_color_share_ignores_a_tint_and_counts_colors() -> None:
    images = shot(3, 1)
    shares = [
        measure_color_share(measure_images(look(images)).thumbnails[0])
        for look in (grey, sepia, faded, lambda same: same)
    ]
    assert shares[0] == shares[1] == 0
    assert shares[2] < 0.5 < shares[3]


def test_a_cut_between_shots_with_the_same_bright_sky_is_kept() -> None:
    """Bright above and dark below in both shots: most of the contrast is common to them."""
    random = np.random.default_rng(4)
    pictures = []
    for _ in range(2):
        detail = np.kron(random.integers(-14, 15, (18, 32, 1)), np.ones((6, 6, 3), int))
        layout = np.where(np.arange(108)[:, None, None] < 54, 205, 45)
        pictures += [(layout + detail).astype(np.uint8)] * 4
    distances = measure_images(pictures)
    share = distances.distance(3, 4) / (distances.variances[3] + distances.variances[4])
    assert share < 0.1
    assert drop_false_cuts(distances, [4]) == [4]
    # A drawing that changes a little after a hold is no cut.
    moved = pictures[0].copy()
    moved[40:70, 80:110] = 128
    distances = measure_images([*pictures[:4], *[moved] * 4])
    assert drop_false_cuts(distances, [4]) == []
