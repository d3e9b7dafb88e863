"""Which latent cells a mask touches, and what each cell of a sample weighs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimix_core.wan import model_registry
from mimix_core.wan.latent_regions import IDENTITY, cell_weights, touched_cells

FRAMES, HEIGHT, WIDTH = 9, 32, 64
LATENT = (3, 4, 8)
SIDE = 5


def squares(corners: list[tuple[int, int]], height: int = HEIGHT, width: int = WIDTH):
    """A solid square in each frame; parts of it may be outside."""
    alpha_NHW = np.zeros((len(corners), height, width), np.uint8)
    for alpha_HW, (x, y) in zip(alpha_NHW, corners, strict=True):
        alpha_HW[max(y, 0) : max(y + SIDE, 0), max(x, 0) : max(x + SIDE, 0)] = 255
    return alpha_NHW


def cells_of_pixels(video_NHW: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Pixel by pixel, by Wan's rule: frame 0 alone, then 4 frames each, and 8 x 8 pixels."""
    cells = np.zeros(LATENT, np.bool_)
    for frame, y, x in np.argwhere(video_NHW >= 128):
        cells[(frame + 3) // 4, y // 8, x // 8] = True
    return cells


def test_a_moving_square_touches_exactly_the_cells_of_its_pixels() -> None:
    alpha = squares([(3 + 6 * n, 2 + 3 * n) for n in range(FRAMES)])
    found = touched_cells(alpha, [IDENTITY], (WIDTH, HEIGHT), LATENT, 4)
    assert np.array_equal(found, cells_of_pixels(alpha))
    # The first latent frame is the first frame alone: the square at (3, 2) is in one cell.
    assert np.argwhere(found[0]).tolist() == [[0, 0]]
    # Frames 1 to 4 are the second: the square moves over x from 9 to 32 and y from 5 to 19.
    assert found[1].any(axis=0).tolist() == [False, True, True, True, False, False, False, False]
    assert found[1].any(axis=1).tolist() == [True, True, True, False]


@given(
    st.lists(
        st.tuples(st.integers(-SIDE, WIDTH), st.integers(-SIDE, HEIGHT)),
        min_size=FRAMES,
        max_size=FRAMES,
    )
)
def test_any_squares_touch_exactly_the_cells_of_their_pixels(corners) -> None:
    alpha = squares(corners)
    found = touched_cells(alpha, [IDENTITY], (WIDTH, HEIGHT), LATENT, 4)
    assert np.array_equal(found, cells_of_pixels(alpha))


@given(st.integers(-40, 70), st.integers(-30, 40), st.integers(0, 3))
def test_a_pasted_mask_touches_the_cells_where_it_was_pasted(x: int, y: int, speed: int) -> None:
    """Twice as large at a place that moves: the enlarged pixels are drawn into the video."""
    alpha = squares([(4 + n, 3) for n in range(FRAMES)], height=20, width=24)
    video = np.zeros((FRAMES, HEIGHT, WIDTH), np.uint8)
    for n, alpha_HW in enumerate(alpha):
        for row, column in np.argwhere(alpha_HW):
            left, top = 2 * column + x + speed * n, 2 * row + y
            ys = [p for p in (top, top + 1) if 0 <= p < HEIGHT]
            xs = [p for p in (left, left + 1) if 0 <= p < WIDTH]
            video[n][np.ix_(ys, xs)] = 255
    path = [(2.0, float(x + speed * n), float(y)) for n in range(FRAMES)]
    found = touched_cells(alpha, path, (WIDTH, HEIGHT), LATENT, 4)
    assert np.array_equal(found, cells_of_pixels(video))


def test_cells_of_resized_latents_stand_for_the_pixels_before() -> None:
    """A video of 48 x 24 whose latents were made of 64 x 32: a cell is 6 x 6 pixels."""
    alpha = squares([(13, 7)] * FRAMES, height=24, width=48)
    found = touched_cells(alpha, [IDENTITY], (48, 24), LATENT, 4)
    assert {tuple(cell) for cell in np.argwhere(found[0])} == {(1, 2)}
    moved = squares([(12 - SIDE + 1, 6)] * FRAMES, height=24, width=48)
    found = touched_cells(moved, [IDENTITY], (48, 24), LATENT, 4)
    assert {tuple(cell) for cell in np.argwhere(found[2])} == {(1, 1), (1, 2)}


def test_faint_pixels_are_not_the_character() -> None:
    alpha = squares([(3, 2)] * FRAMES) // 2  # 127 of 255
    assert not touched_cells(alpha, [IDENTITY], (WIDTH, HEIGHT), LATENT, 4).any()


@pytest.mark.parametrize("name", sorted(model_registry.BACKBONES))
def test_frames_are_grouped_as_each_backbone_encodes_them(name: str) -> None:
    frames, side, _ = model_registry.get_backbone(name).vae_stride
    alpha = np.zeros((1 + 2 * frames, 2 * side, 2 * side), np.uint8)
    for n in range(len(alpha)):
        one = alpha.copy()
        one[n, side, side - 1] = 255
        found = touched_cells(one, [IDENTITY], (2 * side, 2 * side), (3, 2, 2), frames)
        wanted = 0 if n == 0 else 1 + (n - 1) // frames
        assert np.argwhere(found).tolist() == [[wanted, 1, 0]]


@pytest.mark.parametrize(("count", "path"), [(8, [IDENTITY]), (9, [IDENTITY] * 8), (1, [IDENTITY])])
def test_numbers_of_frames_that_do_not_fit_are_an_error(count: int, path) -> None:
    with pytest.raises(ValueError, match="frames"):
        touched_cells(squares([(0, 0)] * count), path, (WIDTH, HEIGHT), LATENT, 4)


def boxes(*shapes: tuple[slice, slice, slice]) -> NDArray[np.bool_]:
    regions = np.zeros((len(shapes), 4, 10, 10), np.bool_)
    for region, shape in zip(regions, shapes, strict=True):
        region[shape] = True
    return regions


LARGE = (slice(0, 4), slice(0, 5), slice(0, 10))  # half of the 400 cells
SMALL = (slice(0, 4), slice(8, 10), slice(0, 2))  # 16 of them
TINY = (slice(0, 1), slice(9, 10), slice(7, 10))  # 3 of them


def test_a_small_figure_counts_like_a_large_one() -> None:
    regions = boxes(LARGE, SMALL)
    weights = cell_weights(regions, 2.0, 1000.0)
    assert weights.dtype == np.float32
    assert weights.mean() == pytest.approx(1)
    # Whole clip 1, characters 2: each has a third, and its area's part of the clip's third.
    for region, area in zip(regions, (0.5, 0.04), strict=True):
        assert weights[region].sum() / weights.sum() == pytest.approx((1 + area) / 3)
    outside = ~regions.any(axis=0)
    assert np.ptp(weights[outside]) == 0
    assert weights[outside][0] == pytest.approx(1 / 3)


def test_a_figure_of_three_cells_cannot_dominate() -> None:
    region = boxes(TINY)
    free = cell_weights(region, 1.0, 1e9)
    assert free[region[0]].sum() / free.sum() > 0.5
    bounded = cell_weights(region, 1.0, 20.0)
    assert bounded.mean() == pytest.approx(1)
    outside = ~region[0]
    assert bounded[region[0]] / bounded[outside][0] == pytest.approx(20)
    assert bounded[region[0]].sum() / bounded.sum() == pytest.approx(60 / (60 + 397))


def test_without_a_character_all_cells_count_alike() -> None:
    for regions in (boxes(), boxes((slice(0, 0), slice(0, 0), slice(0, 0)))):
        assert np.array_equal(cell_weights(regions, 3.0, 50.0), np.ones((4, 10, 10), np.float32))
    assert np.array_equal(cell_weights(boxes(SMALL), 0.0, 50.0), np.ones((4, 10, 10), np.float32))


def test_a_character_without_cells_takes_no_part_from_the_others() -> None:
    nobody = (slice(0, 0), slice(0, 0), slice(0, 0))
    alone = cell_weights(boxes(SMALL), 1.0, 50.0)
    assert np.array_equal(cell_weights(boxes(SMALL, nobody), 1.0, 50.0), alone)
