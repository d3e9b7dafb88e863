"""Holes in masks: those of the character are closed, gaps stay open."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mimix_core.stages.cutouts.mask_holes import close_holes

Images = NDArray[np.uint8]
WALL, SKIN, APRON = (120, 170, 210), (190, 120, 80), (235, 235, 230)


def draw(hole: int, color: tuple[int, int, int], apron: int = 0) -> tuple[Images, Images]:
    """Draw a swaying figure with a disc of ``color``, which its mask lacks.

    ``apron``: radius of a white disc around it.
    """
    rng = np.random.default_rng(0)
    frames = np.empty((9, 120, 100, 3), np.uint8)
    alpha = np.zeros((9, 120, 100), np.uint8)
    for n in range(9):
        x = 50 + round(4 * np.sin(n))
        frames[n] = WALL
        cv2.rectangle(frames[n], (x - 28, 15), (x + 28, 119), SKIN, cv2.FILLED)
        cv2.circle(frames[n], (x, 70), apron, APRON, cv2.FILLED)
        cv2.circle(frames[n], (x, 70), hole, color, cv2.FILLED)
        cv2.rectangle(alpha[n], (x - 28, 15), (x + 28, 119), 255, cv2.FILLED)
        cv2.circle(alpha[n], (x, 70), hole, 0, cv2.FILLED)
    noise = rng.integers(-4, 5, frames.shape)
    return np.clip(frames.astype(int) + noise, 0, 255).astype(np.uint8), alpha


@pytest.mark.parametrize(
    ("color", "apron", "wall"),
    [(APRON, 0, WALL), (APRON, 20, WALL), (APRON, 20, APRON), (SKIN, 0, WALL)],
    ids=["a button", "an apron", "a white apron before a white wall", "skin"],
)
def test_a_hole_of_the_character_is_closed(
    color: tuple[int, int, int], apron: int, wall: tuple[int, int, int]
) -> None:
    frames, alpha = draw(10, color, apron)
    frames[(np.abs(frames.astype(int) - WALL) < 8).all(axis=-1)] = wall
    closed, share = close_holes(frames, alpha)
    truth = alpha.copy()
    for n in range(9):
        cv2.circle(truth[n], (50 + round(4 * np.sin(n)), 70), 11, 255, cv2.FILLED)
    np.testing.assert_array_equal(closed, truth)
    assert share == pytest.approx(np.pi * 10**2 / (57 * 105), rel=0.1)


def test_a_gap_that_shows_the_background_stays_open() -> None:
    frames, alpha = draw(12, WALL)
    closed, share = close_holes(frames, alpha)
    np.testing.assert_array_equal(closed, alpha)
    assert share == 0


def test_one_decision_is_made_for_all_frames() -> None:
    """In two frames of nine something white passes behind the gap."""
    frames, alpha = draw(12, WALL)
    frames[3:5][alpha[3:5] == 0] = APRON
    frames[3:5, :, :6] = WALL
    closed, _ = close_holes(frames, alpha)
    np.testing.assert_array_equal(closed, alpha)
