from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mimix_core.stages.composites.camera_motion import CameraMotion, estimate_camera_motion
from mimix_core.stages.composites.scale_translate import IDENTITY, boxes_array

GrayImage = NDArray[np.uint8]
FRAMES = 24
WIDTH, HEIGHT = 416, 240


@cache
def wall(seed: int = 0) -> NDArray[np.float32]:
    """A textured wall, larger than any frame."""
    noise = np.random.default_rng(seed).normal(size=(700, 1200)).astype(np.float32)
    soft = cv2.GaussianBlur(noise, (0, 0), sigmaX=5)
    return (128 + 50 * soft / soft.std()).clip(0, 255).astype(np.float32)


def render_camera(window: Callable[[int], tuple[float, float, float]]) -> list[GrayImage]:
    """Render frames whose top left corner is at x, y of the wall, enlarged by zoom."""
    picture = wall()
    frames = []
    for n in range(FRAMES):
        x, y, zoom = window(n)
        matrix = np.array([[zoom, 0, -zoom * x], [0, zoom, -zoom * y]])
        frames.append(cv2.warpAffine(picture, matrix, (WIDTH, HEIGHT)).astype(np.uint8))
    return frames


def test_a_pan_is_estimated_to_a_pixel() -> None:
    camera = estimate_camera_motion(render_camera(lambda n: (100 + 7.3 * n, 80 + 1.5 * n, 1.0)), [])
    assert camera.reliable
    assert camera.is_moving
    for n, move in enumerate(camera.path):
        assert move.scale == 1
        assert move.x == pytest.approx(-7.3 * n, abs=1)
        assert move.y == pytest.approx(-1.5 * n, abs=1)


def test_a_zoom_is_estimated_to_a_hundredth() -> None:
    camera = estimate_camera_motion(render_camera(lambda n: (300, 200, 1 + 0.01 * n)), [])
    assert camera.reliable
    assert camera.path[-1].scale == pytest.approx(1 + 0.01 * (FRAMES - 1), abs=0.01)


@pytest.mark.parametrize(("degrees", "clear"), [(1, True), (9, False), (-9, False)])
def test_a_rolling_camera_is_unreliable(degrees: float, clear: bool) -> None:
    """A pasted figure stays upright, so it would slide on rotating ground."""
    frames = []
    for n in range(FRAMES):
        turn = cv2.getRotationMatrix2D((600, 350), degrees * n / (FRAMES - 1), 1)
        turn[:, 2] -= (600 - WIDTH / 2, 350 - HEIGHT / 2)
        frames.append(cv2.warpAffine(wall(), turn, (WIDTH, HEIGHT)).astype(np.uint8))
    assert estimate_camera_motion(frames, []).reliable is clear


def walking(n: int, frame: GrayImage) -> GrayImage:
    frame = frame.copy()
    frame[60:200, 30 + 8 * n : 130 + 8 * n] = wall(5)[:140, :100]
    return frame


def test_a_walking_person_is_not_camera_motion() -> None:
    frames = [walking(n, frame) for n, frame in enumerate(render_camera(lambda _: (100, 80, 1.0)))]
    there = boxes_array([[30 + 8 * n, 60, 130 + 8 * n, 200] for n in range(FRAMES)])
    for known in ([there], []):
        camera = estimate_camera_motion(frames, known)
        assert camera == CameraMotion((IDENTITY,) * FRAMES)


def test_a_plain_wall_is_static() -> None:
    plain = [np.full((HEIGHT, WIDTH), 90, np.uint8)] * 5
    assert estimate_camera_motion(plain, []) == CameraMotion((IDENTITY,) * 5)


def test_incoherent_motion_is_unreliable() -> None:
    rng = np.random.default_rng(1)
    boiling = [
        cv2.GaussianBlur(rng.integers(0, 255, (HEIGHT, WIDTH), dtype=np.uint8), (0, 0), sigmaX=2)
        for _ in range(6)
    ]
    assert not estimate_camera_motion(boiling, []).reliable
