"""A flash within a shot does not end its scene; a white frame between two shots does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimix_core.stages.scenes.flashes import join_flashes
from mimix_core.stages.scenes.frame_distances import Segment
from tests.stages.scenes.test_looks import measure_images
from tests.stages.scenes.test_scenes import rows_of
from tests.stages.scenes.transitions import Reel, shot


@pytest.mark.parametrize(("decay", "speed"), [(1, 0), (1, 1), (1, 2), (3, 0), (8, 0)])
def test_a_flash_does_not_end_its_scene(tmp_path: Path, decay: int, speed: int) -> None:
    """White at once, then back in ``decay`` frames; two flashes in one shot, between two cuts."""
    images = shot(31, 100, speed=speed)
    for at in (30, 64):
        for k in range(decay):
            share = 1 - k / decay
            images[at + k] = (images[at + k] * (1 - share) + 255 * share).astype(np.uint8)
    reel = Reel().cut(shot(30, 40)).cut(images).cut(shot(32, 40))
    rows = rows_of(reel.write(tmp_path / "v.mp4"), tmp_path)
    assert [row["frames"] for row in rows] == [40, 100, 40]


def test_a_white_frame_between_two_shots_and_a_black_one_within_a_shot_end_scenes() -> None:
    shots = shot(41, 60)
    shots[30] = 0
    distances = measure_images(shots)
    parts = [Segment(0, 30, False), Segment(30, 31, False), Segment(31, 60, False)]
    assert join_flashes(distances, parts) == parts
    mixed = np.concatenate([shot(42, 30), np.full((1, *shots.shape[1:]), 255, np.uint8)])
    distances = measure_images(np.concatenate([mixed, shot(43, 29)]))
    assert join_flashes(distances, parts) == parts
