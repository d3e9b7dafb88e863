from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.stages.composites.camera_motion import CameraMotion
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
from mimix_core.stages.composites.silhouettes import Silhouette, silhouette_of_boxes

SIZE = FrameSize(832, 480)
FRAMES = 81
BODY = boxes_array([[300, 150, 420, 420]] * FRAMES)
WISHES = PlacementConstraints(min_height=0.35, max_height=0.85, max_occlusion=0.3)
WHOLE = boxes_array([[0, 0, 832, 480]])


def boxes(*sides: int) -> Boxes:
    return boxes_array([list(sides)] * FRAMES)


def static_camera(frames: int) -> CameraMotion:
    return CameraMotion((IDENTITY,) * frames)


def panning_camera(x: float, y: float = 0.0, zoom: float = 1.0) -> CameraMotion:
    """A camera that moves the picture by x, y over the clip."""
    steps = np.linspace(0, 1, FRAMES)
    return CameraMotion(
        tuple(ScaleTranslate(float(zoom**s), float(x * s), float(y * s)) for s in steps)
    )


def make_scene(*own: Boxes, camera: CameraMotion | None = None, **more: Any) -> BackgroundGeometry:
    """A background with its own characters, of which only boxes are known."""
    values = {"silhouettes": [silhouette_of_boxes(boxes_N4, SIZE) for boxes_N4 in own], **more}
    return BackgroundGeometry(SIZE, camera or static_camera(FRAMES), own, **values)


def place_cutout(
    body: Boxes = BODY,
    border: tuple[str, ...] = (),
    *,
    camera: CameraMotion | None = None,
    scene: BackgroundGeometry | None = None,
    silhouette: Silhouette | None = None,
    chance: float = 0.5,
    **wishes: Any,
) -> Placement:
    return find_placement(
        CutoutGeometry(
            body,
            frozenset(border),
            SIZE,
            camera or static_camera(FRAMES),
            silhouette or silhouette_of_boxes(body, SIZE),
        ),
        scene or make_scene(),
        PlacementConstraints(**{**WISHES.__dict__, **wishes}),
        lambda _: chance,
    )


@given(
    st.integers(0, 600),
    st.integers(0, 300),
    st.integers(30, 230),
    st.integers(30, 180),
    st.floats(0, 0.999),
)
def test_a_complete_character_is_placed_inside_the_frame_at_an_allowed_height(
    x: int, y: int, width: int, height: int, chance: float
) -> None:
    body = boxes(x, y, x + width, y + height)
    if 1.5 * height < 0.35 * 480:
        with pytest.raises(PlacementError, match="too small"):
            place_cutout(body, chance=chance)
        return
    found = place_cutout(body, chance=chance)
    left, top, right, bottom = transform_boxes(body, found.path)[0]
    assert 0.35 * 480 - 1 <= bottom - top <= 0.85 * 480 + 1
    assert left >= -1
    assert top >= -1
    assert right <= 832 + 1
    assert bottom <= 480 + 1
    assert len(set(found.path)) == 1
    assert found.covered == 0


@given(st.floats(0.15, 0.999))
def test_near_the_original_size_nothing_is_resampled(chance: float) -> None:
    assert place_cutout(boxes(300, 100, 420, 420), chance=chance).path[0].is_integer_shift


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.99])
def test_cut_off_sides_are_aligned_with_the_frame(chance: float) -> None:
    found = place_cutout(boxes(500, 200, 832, 480), ("right", "bottom"), chance=chance).path[0]
    assert found.x + round(832 * found.scale) == 832
    assert found.y + round(480 * found.scale) == 480
    assert place_cutout(boxes(0, 200, 300, 480), ("left", "bottom")).path[0].x == 0


def test_a_close_up_stays_a_close_up() -> None:
    found = place_cutout(boxes(300, 0, 832, 480), ("top", "right", "bottom"))
    assert set(found.path) == {IDENTITY}


def test_the_scenes_own_characters_are_not_covered_when_there_is_room() -> None:
    scene = make_scene(boxes(300, 0, 832, 480))
    for chance in (0.1, 0.5, 0.9):
        found = place_cutout(scene=scene, chance=chance)
        assert transform_boxes(BODY, found.path)[:, 2].max() <= 300
        assert found.covered == 0
    free = {place_cutout(chance=chance).path[0].x for chance in (0.1, 0.5, 0.9)}
    assert len(free) == 3


def test_a_cutout_that_would_hide_a_character_is_rejected() -> None:
    crowd = make_scene(boxes(0, 200, 832, 480))
    with pytest.raises(PlacementError, match="hides"):
        place_cutout(boxes(200, 60, 620, 470), scene=crowd, max_occlusion=0.2)
    assert place_cutout(boxes(200, 60, 620, 470), scene=crowd, max_occlusion=1.0).covered > 0.2


@given(st.integers(0, 700), st.integers(64, 300), st.floats(0.0, 0.99))
def test_covered_is_the_actual_occlusion(left: int, width: int, chance: float) -> None:
    own = boxes(left, 100, min(left + width, 832), 460)
    scene = make_scene(own)
    try:
        found = place_cutout(scene=scene, chance=chance)
    except PlacementError:
        return
    x0, y0, x1, y1 = transform_boxes(BODY, found.path)[0]
    shared = max(0, min(x1, own[0, 2]) - max(x0, own[0, 0])) * max(0, min(y1, 460) - max(y0, 100))
    assert found.covered == pytest.approx(shared / ((own[0, 2] - own[0, 0]) * 360), abs=0.08)
    assert found.covered <= WISHES.max_occlusion


def test_size_and_ground_follow_the_backgrounds_characters() -> None:
    small = make_scene(boxes(600, 250, 650, 340))
    found = transform_boxes(BODY, place_cutout(scene=small).path)[0]
    alone = transform_boxes(BODY, place_cutout().path)[0]
    assert found[3] - found[1] < alone[3] - alone[1]
    assert found[3] == pytest.approx(340, abs=1)


def test_without_visible_ground_the_feet_are_below_the_frame() -> None:
    close = make_scene(boxes(500, 0, 832, 480))
    _, top, _, bottom = transform_boxes(BODY, place_cutout(scene=close).path)[0]
    assert 480 < bottom < 480 + 0.1 * (bottom - top)
    # One who stands beside somebody cut off shows where the ground is.
    both = make_scene(boxes(700, 0, 832, 480), boxes(600, 250, 650, 440))
    assert transform_boxes(BODY, place_cutout(scene=both).path)[0][3] == pytest.approx(440, abs=1)


def test_a_figure_follows_a_panning_background() -> None:
    camera = panning_camera(-150, 10)
    found = place_cutout(scene=make_scene(camera=camera))
    where = transform_boxes(BODY, found.path)
    shifted = np.array([[move.x, move.y] for move in camera.path])
    assert where[:, :2] - where[0, :2] == pytest.approx(shifted - shifted[0], abs=1e-6)


def test_the_sources_pan_is_removed_from_the_path() -> None:
    # The camera follows somebody who walks to the right: in its picture he stays where he is.
    found = place_cutout(camera=panning_camera(-200))
    where = transform_boxes(BODY, found.path)
    assert where[-1, 0] - where[0, 0] == pytest.approx(200)
    assert where[:, 0].min() >= 0
    assert where[:, 2].max() <= 832


def test_the_same_pan_in_both_is_no_motion_between_them() -> None:
    found = place_cutout(
        camera=panning_camera(-300, 20), scene=make_scene(camera=panning_camera(-300, 20))
    )
    assert np.ptp(transform_boxes(BODY, found.path), axis=0) == pytest.approx(np.zeros(4), abs=1e-6)


def test_a_figure_that_walks_out_of_a_static_background_is_rejected() -> None:
    with pytest.raises(PlacementError, match="leaves"):
        place_cutout(camera=panning_camera(-2500))


def test_zooming_in_on_a_scene_enlarges_the_figure() -> None:
    found = place_cutout(scene=make_scene(camera=panning_camera(-40, -20, zoom=1.1)))
    heights = np.diff(transform_boxes(BODY, found.path)[:, [1, 3]], axis=1)
    assert heights[-1] / heights[0] == pytest.approx(1.1)


@pytest.mark.parametrize("border", [("bottom",), ("left", "bottom"), ("top", "bottom"), ("right",)])
def test_no_camera_moves_a_cut_off_side_from_its_border(border: tuple[str, ...]) -> None:
    body = boxes_array(
        [
            [
                0 if "left" in border else 350,
                0 if "top" in border else 120,
                832 if "right" in border else 500,
                480 if "bottom" in border else 400,
            ]
        ]
        * FRAMES
    )
    try:
        found = place_cutout(
            body,
            border,
            camera=panning_camera(60, 30, 1.2),
            scene=make_scene(camera=panning_camera(80, 50, 0.9)),
        )
    except PlacementError:
        pytest.fail("there is a place")
    where = transform_boxes(body, found.path)
    assert len({move.scale for move in found.path}) == 1
    for side, name in enumerate(("left", "top", "right", "bottom")):
        if name in border:
            assert where[:, side] == pytest.approx(np.full(FRAMES, WHOLE[0, side]), abs=1)


def test_an_empty_cutout_cannot_be_placed() -> None:
    with pytest.raises(ValueError, match="empty"):
        place_cutout(boxes(0, 0, 0, 0))
