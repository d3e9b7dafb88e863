"""A flash or short fade within a shot does not end its scene; one between two shots does."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from mimix_core.stages.scenes.flashes import find_flashes
from mimix_core.stages.scenes.frame_distances import Segment
from tests.stages.scenes.generated_flashes import (
    BLACK,
    CAMERAS,
    LOOKS,
    WHITE,
    FlashCase,
    draw_shot,
    fade_through,
    flash_between,
    flash_within,
    is_whole,
    lost_cuts,
)
from tests.stages.scenes.scenes_runner import rows_of
from tests.stages.scenes.test_looks import measure_images
from tests.stages.scenes.transitions import Images, Reel, shot


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


def test_a_white_frame_between_two_shots_and_a_black_one_within_a_shot_end_scenes(
    tmp_path: Path,
) -> None:
    images = shot(41, 60)
    images[30] = 0
    mixed = np.concatenate([shot(42, 30), np.full((1, *images.shape[1:]), 255, np.uint8)])
    for number, reel in enumerate((images, np.concatenate([mixed, shot(43, 29)]))):
        parts = [Segment(0, 30, False), Segment(30, 31, False), Segment(31, 60, False)]
        assert find_flashes(measure_images(reel), parts) == []
        rows = rows_of(Reel().cut(reel).write(tmp_path / f"{number}.mp4"), tmp_path)
        assert [row["frames"] for row in rows] == [30, 1, 29]


def test_a_short_insert_of_another_shot_is_no_flash() -> None:
    for seed in range(4):
        images, other = shot(51 + seed, 60, speed=1), shot(71 + seed, 60, level=190)
        images[24:32] = other[24:32]
        parts = [Segment(0, 24, False), Segment(24, 32, False), Segment(32, 60, False)]
        assert find_flashes(measure_images(images), parts) == []


@pytest.mark.parametrize(("look", "frames"), [("white", 1), ("partial", 6), ("black_fade", 6)])
def test_a_flash_is_found_at_its_frames_while_the_camera_pans(look: str, frames: int) -> None:
    parts = [draw_shot("pan", length, 0.012, 3 + length) for length in (34, 72, 35)]
    case = flash_within("", parts, look, frames)
    start = 34 + (72 - frames) // 2
    parts = [Segment(0, start, False), Segment(start, len(case.images), False)]
    (found,) = find_flashes(measure_images(case.images), parts)
    assert (found.start, found.end) == (start, start + frames)
    assert find_flashes(measure_images(case.images), [Segment(0, len(case.images), False)]) == []


def rows_of_case(images: Images, folder: Path) -> list:
    return rows_of(Reel().cut(images).write(folder / "case.mp4"), folder)


@pytest.mark.parametrize(
    ("look", "frames", "camera", "speed"),
    [("white", 12, "pan", 0.008), ("lightning", 3, "shake", 0.01), ("fade", 6, "tilt", 0.01),
     ("black_fade", 6, "zoom", 0.004), ("decaying", 6, "pan", 0.008)],
)  # fmt: skip
def test_a_flash_does_not_end_the_scene_of_a_moving_camera(
    tmp_path: Path, look: str, frames: int, camera: str, speed: float
) -> None:
    parts = [
        draw_shot(camera, length, speed, 30 + number) for number, length in enumerate((34, 72, 34))
    ]
    case = flash_within("", parts, look, frames)
    assert is_whole(case.shots[1], rows_of_case(case.plain, tmp_path))
    assert is_whole(case.shots[1], rows_of_case(case.images, tmp_path))


@pytest.mark.e2e
def test_most_flashes_do_not_end_a_scene_and_no_cut_behind_one_is_lost(tmp_path: Path) -> None:
    chance = random.Random(7)
    wrong: list[str] = []
    lost: list[str] = []
    counted = 0

    def draw(length: int) -> Images:
        camera, speed = chance.choice(CAMERAS), chance.choice((0.004, 0.01, 0.018))
        return draw_shot(camera, length, speed, chance.randrange(1 << 20))

    def check(case: FlashCase) -> None:
        nonlocal counted
        rows = rows_of_case(case.images, tmp_path)
        if len(case.shots) == 2:
            if lost_cuts(case, rows):
                lost.append(case.name)
        elif is_whole(case.shots[1], rows):
            counted += 1
        elif is_whole(case.shots[1], rows_of_case(case.plain, tmp_path)):
            counted += 1
            wrong.append(case.name)

    for number, look in enumerate(4 * tuple(LOOKS)):
        frames = chance.choice((3, 5, 9, 12))
        name = f"{number} {look} {frames}"
        check(flash_within(name, [draw(34), draw(72), draw(34)], look, frames))
        check(flash_between(name, [draw(60), draw(60)], look, frames))
    for number in range(12):
        check(fade_through(f"{number} fade", [draw(60), draw(60)], (WHITE, BLACK)[number % 2], 4))
    print(f"{len(wrong)} of {counted} cut wrongly: {wrong}")
    assert lost == []
    assert counted >= 25 and len(wrong) <= 0.15 * counted, wrong
