"""Drawn scenes of which it is known where the ground is, and who hides whom."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mimix_core.media.masks import write_masks
from mimix_core.stages.composites.camera_motion import CameraMotion
from mimix_core.stages.composites.ground import map_ground
from mimix_core.stages.composites.placement import (
    BackgroundGeometry,
    CutoutGeometry,
    Placement,
    PlacementConstraints,
    PlacementError,
    find_placement,
)
from mimix_core.stages.composites.scale_translate import (
    IDENTITY,
    Boxes,
    FrameSize,
    ScaleTranslate,
    boxes_array,
    transform_boxes,
)
from mimix_core.stages.composites.silhouettes import (
    PastedSilhouette,
    load_silhouette,
    silhouette_of_boxes,
)
from mimix_core.stages.composites.yuv_frames import ColorConverter, YuvPlanes
from mimix_core.tables import Reason

SIZE = FrameSize(416, 240)
FRAMES = 33
HORIZON, SHORE = 110, 190
"""Row at which the ground begins, and column at which it ends."""

HOST = (60, 90, 100, 200)
GUEST = (180, 60, 230, 190)
STATIC = CameraMotion((IDENTITY,) * FRAMES)
Image = NDArray[np.uint8]


def texture(
    color: tuple[int, int, int], contrast: float, *, seed: int, waves: bool = False
) -> Image:
    """A surface with grain of a few pixels; waves are wide and flat."""
    numbers = np.random.default_rng(seed).normal(0, 1, (SIZE.height, SIZE.width))
    blur = (9.0, 1.2) if waves else (0.8, 2.0)
    grain = cv2.GaussianBlur(numbers, (0, 0), sigmaX=blur[0], sigmaY=blur[1])
    grain = contrast * grain / grain.std()
    return (np.array(color) + grain[..., None]).clip(0, 255).astype(np.uint8)


SURFACES = {
    "grass": texture((70, 130, 50), 18, seed=1),
    "sea": texture((40, 90, 150), 9, seed=2, waves=True),
    "sand": texture((210, 185, 140), 8, seed=3),
    "pavement": texture((120, 118, 115), 10, seed=4),
    "grey meadow": texture((95, 95, 95), 20, seed=5),
    "grey sea": texture((150, 150, 150), 3, seed=6, waves=True),
    "snow": texture((232, 236, 242), 4, seed=7),
    "lake": texture((30, 60, 70), 5, seed=8, waves=True),
    "lawn at night": texture((22, 40, 20), 6, seed=9),
    "river at night": texture((14, 20, 48), 3, seed=10, waves=True),
}
SKY = texture((150, 190, 235), 2, seed=11, waves=True)


def scene(ground: str, other: str, *, shore: int = SHORE) -> Image:
    image = SKY.copy()
    image[HORIZON:] = SURFACES[other][HORIZON:]
    image[HORIZON:, :shore] = SURFACES[ground][HORIZON:, :shore]
    return image


def track(*sides: float) -> Boxes:
    return boxes_array([list(sides)] * FRAMES)


def background(image: Image, *hosts: Boxes, camera: CameraMotion = STATIC) -> BackgroundGeometry:
    """A clip of the image as the camera shows it, with its characters painted over it."""
    frames = []
    shown: dict[tuple[float, ...], YuvPlanes] = {}
    for n, move in enumerate(camera.path):
        key = (move.x, *(float(side) for host in hosts for side in host[n]))
        if key not in shown:
            frame = np.roll(image, round(move.x), axis=1)
            for x0, y0, x1, y1 in (host[n].astype(int) for host in hosts):
                frame[y0:y1, x0:x1] = (200, 90, 40)
            shown[key] = ColorConverter().to_planes(frame)
        frames.append(shown[key])
    return BackgroundGeometry(
        SIZE,
        camera,
        hosts,
        [silhouette_of_boxes(host, SIZE) for host in hosts],
        map_ground(frames, hosts, SIZE),
    )


def place(
    where: BackgroundGeometry, guest: Boxes | None = None, *, chance: float = 0.5, **more: Any
) -> Placement:
    guest = track(*GUEST) if guest is None else guest
    limits = {"min_height": 0.3, "max_height": 0.85, "max_occlusion": 0.3, "min_ground": 0.5}
    return find_placement(
        CutoutGeometry(guest, frozenset(), SIZE, STATIC, silhouette_of_boxes(guest, SIZE)),
        where,
        PlacementConstraints(**limits | more),
        lambda _: chance,
    )


def feet(found: Placement, guest: Boxes | None = None) -> Boxes:
    return transform_boxes(track(*GUEST) if guest is None else guest, found.path)


CHANCES = [0.02, 0.3, 0.55, 0.8, 0.97]


@pytest.mark.parametrize(
    ("ground", "other"),
    [
        ("grass", "sea"),
        ("sand", "sea"),
        ("pavement", "grass"),
        ("grey meadow", "grey sea"),
        ("snow", "lake"),
        ("lawn at night", "river at night"),
    ],
)
def test_nobody_stands_in_the_sea(ground: str, other: str) -> None:
    where = background(scene(ground, other), track(*HOST))
    for chance in CHANCES:
        found = place(where, chance=chance)
        x0, _, x1, y1 = feet(found)[0]
        assert (x0 + x1) / 2 < SHORE
        assert y1 > HORIZON
        assert found.ground is not None
        assert found.ground >= 0.9, "better places are preferred"
    # Without the test of the ground some would.
    wet = [feet(place(where, chance=chance, min_ground=0))[0] for chance in CHANCES]
    assert any(x0 > SHORE for x0, *_ in wet)


def test_where_the_ground_is_everywhere_any_place_will_do() -> None:
    where = background(scene("grass", "grass"), track(*HOST))
    middles = [feet(place(where, chance=chance))[0][[0, 2]].mean() for chance in CHANCES]
    assert max(middles) - min(middles) > 100


def test_an_island_for_one_has_no_room_for_a_guest() -> None:
    image = scene("grass", "sea", shore=104)
    image[HORIZON:, :56] = SURFACES["sea"][HORIZON:, :56]
    where = background(image, track(*HOST))
    # There it would hide the host, and elsewhere it would stand in the sea.
    with pytest.raises(PlacementError, match="hides"):
        place(where, min_ground=0.9, max_occlusion=0.2)
    # Somebody wider than the island has no place at all.
    with pytest.raises(PlacementError, match="looks like the ground") as refused:
        place(where, track(100, 60, 240, 190), min_ground=0.9, max_occlusion=1.0)
    assert refused.value.reason is Reason.NO_GROUND


def test_a_scene_without_anybody_standing_has_no_known_ground() -> None:
    with pytest.raises(PlacementError, match="no character") as refused:
        place(background(scene("grass", "sea")))
    assert refused.value.reason is Reason.NO_GROUND
    assert place(background(scene("grass", "sea")), min_ground=0).ground is None


def test_the_sky_under_a_bird_is_not_a_ground() -> None:
    with pytest.raises(PlacementError) as refused:
        place(background(scene("sea", "sea"), track(150, 15, 210, 85)))
    assert refused.value.reason is Reason.NO_GROUND
    # Beside somebody who stands, the bird does not count.
    both = background(scene("grass", "sea"), track(150, 20, 190, 60), track(*HOST))
    assert all(feet(place(both, chance=chance))[0, 0] < SHORE for chance in CHANCES)


def test_before_a_plain_backdrop_any_place_will_do() -> None:
    found = place(background(SURFACES["pavement"], track(*HOST)))
    assert found.ground == 1.0


def test_a_guest_that_walks_never_enters_the_sea() -> None:
    walk = track(*GUEST)
    walk[:, [0, 2]] += np.linspace(-40, 40, FRAMES)[:, None]
    where = background(scene("grass", "sea", shore=260), track(*HOST))
    for chance in CHANCES:
        found = place(where, walk, chance=chance)
        assert feet(found, walk)[:, [0, 2]].mean(axis=1).max() < 260


def test_a_guest_that_jumps_is_measured_where_it_lands() -> None:
    jump = track(*GUEST)
    jump[12:20, [1, 3]] -= 40
    where = background(scene("grass", "sea"), track(*HOST))
    for chance in CHANCES:
        assert feet(place(where, jump, chance=chance), jump)[0, 0] < SHORE


def test_the_ground_moves_with_the_camera() -> None:
    moves = [ScaleTranslate(1.0, float(-2 * n), 0.0) for n in range(FRAMES)]
    pan = CameraMotion(tuple(moves))
    host = transform_boxes(track(120, 90, 160, 200), moves)
    where = background(scene("grass", "sea", shore=300), host, camera=pan)
    for chance in CHANCES:
        found = place(where, chance=chance)
        middles = feet(found)[:, [0, 2]].mean(axis=1)
        assert (middles - [move.x for move in moves]).max() < 300


def test_somebody_cut_off_needs_no_ground() -> None:
    guest = track(150, 60, 230, 240)
    found = find_placement(
        CutoutGeometry(
            guest, frozenset({"bottom"}), SIZE, STATIC, silhouette_of_boxes(guest, SIZE)
        ),
        background(scene("grass", "sea")),
        PlacementConstraints(0.3, 0.85, 0.3, 0.5),
        lambda _: 0.5,
    )
    assert found.ground is None


def figures(tmp_path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A host like an L, which moves, and a guest like an ellipse: full masks of all frames."""
    host = np.zeros((FRAMES, SIZE.height, SIZE.width), np.uint8)
    guest = np.zeros_like(host)
    for n in range(FRAMES):
        host[n, 40:200, 100 + n : 130 + n] = 255
        host[n, 170:200, 100 + n : 300 + n] = 255
        cv2.ellipse(guest[n], (200, 120), (30, 60), 0, 0, 360, 255, cv2.FILLED)
    for name, masks in (("host", host), ("guest", guest)):
        write_masks(tmp_path / f"{name}.parquet", masks)
    return host, guest


@pytest.mark.parametrize(
    "move",
    [
        ScaleTranslate(1.0, 20.0, -30.0),
        ScaleTranslate(1.0, -70.0, 0.0),
        ScaleTranslate(0.6, 10.0, 90.0),
        ScaleTranslate(1.4, -180.0, 20.0),
    ],
)
def test_covered_is_the_share_of_the_mask_and_not_of_the_box(
    tmp_path: Path, move: ScaleTranslate
) -> None:
    host, guest = figures(tmp_path)
    pasted = PastedSilhouette(
        load_silhouette(tmp_path / "guest.parquet", FRAMES, SIZE), (move,) * FRAMES, SIZE
    )
    matrix = np.array([[move.scale, 0, move.x], [0, move.scale, move.y]])
    size = (SIZE.width, SIZE.height)
    on_host = [
        (cv2.warpAffine(guest[n], matrix, size) >= 128)[host[n] > 0].mean() for n in range(FRAMES)
    ]
    found = pasted.covered_share(load_silhouette(tmp_path / "host.parquet", FRAMES, SIZE))
    assert found == pytest.approx(np.mean(on_host), abs=0.02)
    seen = (cv2.warpAffine(guest[0], matrix, size) >= 128).sum() / move.scale**2
    assert pasted.visible_shares()[0] == pytest.approx(seen / (guest[0] > 0).sum(), abs=0.03)


def test_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    figures(tmp_path)
    with pytest.raises(ValueError, match="do not fit"):
        load_silhouette(tmp_path / "host.parquet", FRAMES, FrameSize(64, 48))
