"""Wipes, irises and slides are transitions; moving objects and steady cameras are not."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from mimix_core import tables
from tests.e2e.test_dissolves import draw_camera_motion
from tests.stages.scenes.generated_wipes import (
    IRISES,
    KINDS,
    SLIDES,
    SOFT_WIPES,
    WIPES,
    covered_frames,
    find_transitions,
    make_wipe,
)
from tests.stages.scenes.scenes_runner import rows_of
from tests.stages.scenes.test_looks import measure_images
from tests.stages.scenes.transitions import Reel, shot


@pytest.mark.parametrize("kind", ["wipeleft", "wipedown", "radial", "circleopen", "slideleft"])
def test_no_mixed_frame_of_a_wipe_is_outside_of_its_transition(tmp_path: Path, kind: str) -> None:
    wipe = make_wipe(tmp_path, kind, 24, 0, 1)
    assert wipe.mixed.sum() >= 14
    covered = covered_frames(find_transitions(measure_images(wipe.images)), len(wipe.images))
    assert not (wipe.mixed & ~covered).any()
    assert covered.sum() <= wipe.mixed.sum() + 45


def passing_figure(width: int, speed: int) -> Iterator[np.ndarray]:
    """A figure of ``width`` pixels and the full height crosses a still scene."""
    background = shot(8, 1, speed=0)[0]
    for k in range(100):
        image = background.copy()
        left = speed * (k - 20)
        image[:, max(0, left) : max(0, left + width)] = (190, 60, 40)
        yield image


@pytest.mark.parametrize("width", [30, 90])
def test_a_figure_that_passes_by_is_not_a_wipe(width: int) -> None:
    assert find_transitions(measure_images(passing_figure(width, 6))) == []


@pytest.mark.parametrize("kind", ["pan", "zoom", "shake"])
def test_a_moving_camera_is_not_a_wipe(kind: str) -> None:
    images = (cv2.resize(i, (192, 108)) for i in draw_camera_motion(1, kind, 2.0))
    assert find_transitions(measure_images(images)) == []


@pytest.mark.parametrize("direction", [0, 1])
def test_a_pan_over_a_repeating_background_is_not_a_wipe(direction: int) -> None:
    """Every part of it comes back at the other side, as in cheap cartoons."""
    blocks = np.random.default_rng(149).integers(0, 256, (6, 10, 3), np.uint8)
    background = blocks.repeat(16, 0).repeat(16, 1)
    images = [np.roll(background, 2 * number, axis=direction) for number in range(149)]
    assert find_transitions(measure_images(images)) == []


def used_frames(path: Path, frames: int) -> np.ndarray:
    """Return which frames of a video at 24 frames per second are in usable scenes, by default."""
    used = np.zeros(frames, bool)
    for row in tables.usable(rows_of(path, path.parent)):
        unit = Fraction(row["time_base_num"], row["time_base_den"]) * 24
        used[round(row["start_pts"] * unit) : round(row["end_pts"] * unit)] = True
    return used


def test_five_kinds_of_wipes_leave_no_mixed_frame_in_a_scene_by_default(tmp_path: Path) -> None:
    reel, mixed = Reel(), []
    for number, kind in enumerate(("wipeleft", "vuslice", "circleopen", "slideup", "squeezeh")):
        wipe = make_wipe(tmp_path, kind, 18, 0.5, 11 + 2 * number)
        reel.cut(wipe.images)
        mixed += list(wipe.mixed)
    used = used_frames(reel.write(tmp_path / "v.mp4"), len(mixed))
    assert sum(mixed) >= 60
    assert not (np.array(mixed) & used).any()
    assert used.sum() >= 0.6 * len(mixed)


@pytest.mark.e2e
def test_most_kinds_of_wipes_are_found_at_every_length(tmp_path: Path) -> None:
    found = {
        (kind, frames, pan): not (wipe.mixed & ~covered).any()
        for kind in KINDS
        for frames in (12, 24, 40)
        for pan in (0, 1)
        for wipe in (make_wipe(tmp_path, kind, frames, pan, 1 + 2 * int(pan)),)
        for covered in (
            covered_frames(find_transitions(measure_images(wipe.images)), len(wipe.images)),
        )
    }
    for name, kinds in (
        ("wipes", WIPES),
        ("soft wipes", SOFT_WIPES),
        ("irises", IRISES),
        ("slides", SLIDES),
    ):
        for pan in (0, 1):
            some = [value for key, value in found.items() if key[0] in kinds and key[2] == pan]
            print(f"{name}, pan {pan}: {sum(some)}/{len(some)}")
    still = [value for key, value in found.items() if key[2] == 0]
    assert sum(still) >= 0.8 * len(still), found


def test_fast_wipes_that_are_found_as_cuts_are_found_to_their_ends(tmp_path: Path) -> None:
    reel, mixed = Reel(), []
    for number, kind in enumerate(("rectcrop", "circlecrop", "slidedown")):
        wipe = make_wipe(tmp_path, kind, 12, 0, 21 + 2 * number)
        reel.cut(wipe.images)
        mixed += list(wipe.mixed)
    used = used_frames(reel.write(tmp_path / "v.mp4"), len(mixed))
    assert sum(mixed) >= 30
    assert not (np.array(mixed) & used).any()
    assert used.sum() >= 0.6 * len(mixed)
