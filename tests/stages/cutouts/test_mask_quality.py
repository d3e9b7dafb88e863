from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimix_core.settings import CutoutSettings
from mimix_core.stages.cutouts.locate import FrameBoxes
from mimix_core.stages.cutouts.mask_flicker import measure_flicker
from mimix_core.stages.cutouts.mask_quality import (
    MaskQuality,
    measure_mask_quality,
    rejection_reason,
)
from mimix_core.tables import Reason

SETTINGS = CutoutSettings()
BOX = (10.0, 8.0, 30.0, 40.0)


def alphas(
    box: tuple[int, int, int, int] = (12, 10, 28, 38), frames: int = 20
) -> NDArray[np.uint8]:
    """Frames of 64 x 48 with a full mask in ``box``."""
    alpha = np.zeros((frames, 48, 64), np.uint8)
    x0, y0, x1, y1 = box
    alpha[:, y0:y1, x0:x1] = 255
    return alpha


def render_frames(alpha: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Render a bright figure exactly at the mask, in front of a static wall."""
    numbers = np.random.default_rng(0)
    wall = cv2.GaussianBlur(numbers.integers(0, 120, alpha.shape[1:]).astype(np.float32), (0, 0), 2)
    frames_NHW = np.where(alpha >= 128, 220, wall).astype(np.uint8)
    return np.repeat(frames_NHW[..., None], 3, axis=-1)


def measured(alpha: NDArray[np.uint8], track: FrameBoxes, score: float = 0.9) -> MaskQuality:
    return measure_mask_quality(render_frames(alpha), alpha, track, [score] * len(alpha))


def reason(alpha: NDArray[np.uint8], box: tuple[float, float, float, float] = BOX) -> Reason | None:
    rejection = rejection_reason(measured(alpha, [box] * len(alpha)), SETTINGS)
    return None if rejection is None else rejection[0]


def test_a_stable_complete_mask_passes() -> None:
    quality = measured(alphas(), [BOX] * 20)
    assert rejection_reason(quality, SETTINGS) is None
    assert quality.area == [round(16 * 28 / (48 * 64), 6)] * 20
    assert quality.boxes == [[12, 10, 28, 38]] * 20
    assert (quality.presence, quality.min_frame_iou, quality.share_in_box) == (1, 1, 1)
    assert (quality.max_jump, quality.pieces, quality.holes) == (0, 1, 0)
    assert quality.max_flicker == 0
    # The mask's box, 16 x 28, in the located one, 20 x 32.
    assert quality.box_coverage == pytest.approx(0.7)
    assert quality.border == []


def test_a_mask_that_vanishes_is_absent() -> None:
    alpha = alphas()
    alpha[:2] = 0
    assert measured(alpha, [BOX] * 20).boxes[0] == [0, 0, 0, 0]
    assert reason(alpha) is Reason.MASK_ABSENT


def test_a_faint_alpha_is_not_a_mask() -> None:
    assert reason(np.minimum(alphas(), 120)) is Reason.MASK_ABSENT


@pytest.mark.parametrize("box", [(20, 20, 25, 25), (0, 0, 64, 40)])
def test_too_small_and_too_large_masks_are_rejected(box: tuple[int, int, int, int]) -> None:
    assert reason(alphas(box), (0.0, 0.0, 64.0, 48.0)) is Reason.MASK_AREA


def test_a_mask_that_jumps_is_unstable() -> None:
    alpha = alphas()
    alpha[7] = np.roll(alpha[7], 12, axis=1)
    assert reason(alpha, (0.0, 0.0, 64.0, 48.0)) is Reason.MASK_UNSTABLE


def test_a_mask_whose_middle_jumps_is_rejected() -> None:
    # 8 pixels of a mask that is 20 wide and 12 high: enough in common, but too far.
    alpha = alphas((12, 12, 32, 24))
    alpha[9:] = np.roll(alpha[9:], 8, axis=2)
    box = (12.0, 10.0, 40.0, 26.0)
    assert reason(alpha, box) is Reason.MASK_JUMPS
    assert measured(alpha, [box] * 20).max_jump == pytest.approx(8 / np.hypot(20, 12))


def test_a_moving_mask_does_not_jump() -> None:
    alpha = np.stack([np.roll(frame, n, axis=1) for n, frame in enumerate(alphas())])
    track = [(10.0 + n, 8.0, 30.0 + n, 40.0) for n in range(20)]
    assert rejection_reason(measured(alpha, track), SETTINGS) is None


def test_a_mask_in_pieces_is_rejected() -> None:
    alpha = alphas()
    for row in (14, 19, 24, 29, 34):
        alpha[:, row] = 0
    quality = measured(alpha, [BOX] * 20)
    assert quality.pieces == 6
    assert reason(alpha) is Reason.MASK_FRAGMENTED
    # Fragmentation in two frames, as by a person walking past, is allowed.
    whole = alphas()
    whole[4:6] = alpha[4:6]
    assert reason(whole) is None


def test_specks_are_not_pieces() -> None:
    alpha = alphas()
    alpha[:, 11:13, 32:34] = 255
    assert measured(alpha, [BOX] * 20).pieces == 1


def test_a_mask_full_of_holes_is_rejected() -> None:
    alpha = alphas()
    alpha[:, 14:34, 16:22] = 0
    assert measured(alpha, [BOX] * 20).holes == pytest.approx(120 / (16 * 28))
    assert reason(alpha) is Reason.MASK_HOLES


def test_an_opening_to_the_outside_is_not_a_hole() -> None:
    alpha = alphas()
    alpha[:, 14:38, 16:22] = 0
    assert measured(alpha, [BOX] * 20).holes == 0


def test_a_mask_of_only_the_head_misses_the_box() -> None:
    assert reason(alphas((12, 8, 28, 20))) is Reason.MASK_MISSES_BOX


@given(
    st.lists(
        st.tuples(st.integers(0, 63), st.integers(0, 47), st.integers(0, 64), st.integers(0, 48)),
        min_size=1,
        max_size=6,
    )
)
def test_any_masks_can_be_measured(corners: list[tuple[int, int, int, int]]) -> None:
    alpha = np.concatenate([alphas(box, 1) for box in corners])
    quality = measured(alpha, [BOX, None, *[BOX] * len(corners)][: len(corners)])
    for share in (
        quality.presence,
        quality.min_frame_iou,
        quality.share_in_box,
        quality.box_coverage,
    ):
        assert 0 <= share <= 1
    assert 0 <= quality.holes < 1
    assert 0 <= quality.max_jump <= np.hypot(64, 48)
    assert quality.max_flicker >= 0


def test_a_mask_outside_of_its_box_is_rejected() -> None:
    assert reason(alphas(), (12.0, 10.0, 20.0, 38.0)) is Reason.MASK_LEAVES_BOX


def test_border_lists_the_sides_that_cut_a_character_off() -> None:
    quality = measured(alphas((12, 10, 28, 48)), [(12.0, 10.0, 28.0, 48.0)] * 20)
    assert quality.border == ["bottom"]
    assert rejection_reason(quality, SETTINGS) is None
    # One pixel of one frame is not contact.
    alpha = alphas()
    alpha[3, 0, 20] = 255
    assert measured(alpha, [BOX] * 20).border == []


@pytest.mark.parametrize(("touching", "border"), [(1, []), (2, ["bottom"]), (4, ["bottom"])])
def test_contact_in_a_twentieth_of_the_frames_cuts_a_character_off(
    touching: int, border: list[str]
) -> None:
    alpha = alphas(frames=40)
    alpha[:touching, 38:, 12:28] = 255
    assert measured(alpha, [BOX] * 40).border == border


def test_a_character_cut_off_on_both_sides_is_rejected() -> None:
    assert reason(alphas((0, 30, 64, 40)), (0.0, 30.0, 64.0, 40.0)) is Reason.MASK_AT_BORDER


def test_a_mask_with_a_low_score_is_rejected() -> None:
    rejection = rejection_reason(measured(alphas(), [BOX] * 20, 0.2), SETTINGS)
    assert rejection is not None
    assert rejection[0] is Reason.MASK_UNSURE


def walking(frames: int = 12) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Render a speckled figure of 40 x 60 moving 3 pixels per frame; also return its true alphas.

    The figure is in front of a speckled wall.
    """
    numbers = np.random.default_rng(1)
    wall, figure = (
        cv2.GaussianBlur(numbers.integers(low, high, (120, 200, 3)).astype(np.float32), (0, 0), 1.5)
        for low, high in ((0, 120), (100, 255))
    )
    frames_NHWC, alphas_ = [], []
    for n in range(frames):
        mask = np.zeros((120, 200), bool)
        mask[40:100, 30 + 3 * n : 70 + 3 * n] = True
        moved = np.roll(figure, 3 * n, axis=1)
        frames_NHWC.append(np.where(mask[..., None], moved, wall).astype(np.uint8))
        alphas_.append(np.where(mask, 255, 0).astype(np.uint8))
    return np.stack(frames_NHWC), np.stack(alphas_)


def test_motion_is_not_flicker() -> None:
    frames_NHWC, alpha = walking()
    assert measure_flicker(frames_NHWC, alpha >= 128) < 0.01


@pytest.mark.parametrize("frames", [slice(5, 6), slice(5, 12)])
@pytest.mark.parametrize("joins", [True, False])
def test_a_piece_of_wall_that_joins_or_a_piece_of_figure_that_leaves_flickers(
    frames: slice, joins: bool
) -> None:
    frames_NHWC, alpha = walking()
    masks = alpha >= 128
    if joins:
        masks[frames, 10:38, 120:140] = True
    else:
        masks[frames, 40:68, :] = False
    piece = 20 * 28 if joins else 40 * 28
    area = np.median(masks.sum(axis=(1, 2)))
    assert measure_flicker(frames_NHWC, masks) == pytest.approx(piece / area, rel=0.05)
    quality = measure_mask_quality(
        frames_NHWC, np.where(masks, 255, 0).astype(np.uint8), [BOX] * 12, [0.9] * 12
    )
    assert quality.max_flicker > SETTINGS.max_flicker


def test_a_mask_that_flickers_is_rejected() -> None:
    alpha = alphas()
    alpha[9:, 10:20, 30:40] = 255
    quality = measure_mask_quality(
        render_frames(alphas()), alpha, [(12.0, 10.0, 40.0, 38.0)] * 20, [0.9] * len(alpha)
    )
    rejection = rejection_reason(quality, SETTINGS)
    assert rejection is not None
    assert rejection[0] is Reason.MASK_FLICKERS


def test_no_masks_do_not_flicker() -> None:
    frames_NHWC, alpha = walking()
    assert measure_flicker(frames_NHWC, np.zeros(alpha.shape, bool)) == 0


LIMITS = CutoutSettings.model_validate(
    {
        "min_presence": 0.5,
        "min_area": 0.125,
        "max_area": 0.25,
        "min_frame_iou": 0.5,
        "max_jump": 0.5,
        "max_flicker": 0.25,
        "max_pieces": 2,
        "max_holes": 0.25,
        "min_share_in_box": 0.5,
        "min_box_coverage": 0.5,
        "min_score": 0.5,
    }
)
AT_THE_LIMITS = MaskQuality(
    area=[0.125, 0.125, 0.25],
    boxes=[],
    presence=0.5,
    min_frame_iou=0.5,
    max_jump=0.5,
    max_flicker=0.25,
    pieces=2,
    holes=0.25,
    share_in_box=0.5,
    box_coverage=0.5,
    border=["left", "bottom"],
    median_score=0.5,
)


@pytest.mark.parametrize(
    ("name", "value", "expected", "words"),
    [
        ("area", [0.25, 0.25, 0.125], None, ""),
        ("presence", 0.499, Reason.MASK_ABSENT, "in 49.9% of the frames, at least 50% wanted"),
        ("area", [0.12, 0.12, 0.25], Reason.MASK_AREA,
         "median area 12.0% of the frame, 12.5% to 25.0% wanted"),
        ("area", [0.26, 0.26, 0.125], Reason.MASK_AREA, "median area 26.0%"),
        ("min_frame_iou", 0.49, Reason.MASK_UNSTABLE, "overlap by 0.49, at least 0.50 wanted"),
        ("max_jump", 0.51, Reason.MASK_JUMPS, "by 0.51 of its size"),
        ("max_flicker", 0.26, Reason.MASK_FLICKERS, "26% of it joins or leaves it"),
        ("pieces", 3, Reason.MASK_FRAGMENTED, "in 3 pieces, at most 2 wanted"),
        ("holes", 0.26, Reason.MASK_HOLES, "26% of it are holes, at most 25% wanted"),
        ("share_in_box", 0.49, Reason.MASK_LEAVES_BOX, "49% of the mask in the box"),
        ("box_coverage", 0.49, Reason.MASK_MISSES_BOX, "reaches over 49% of the box"),
        ("border", ["left", "right"], Reason.MASK_AT_BORDER, "cut off left and right: it fits"),
        ("median_score", 0.49, Reason.MASK_UNSURE, "confidence 0.49, at least 0.50 wanted"),
    ],
)  # fmt: skip
def test_a_limit_may_be_reached_and_not_passed(
    name: str, value: object, expected: Reason | None, words: str
) -> None:
    assert rejection_reason(AT_THE_LIMITS, LIMITS) is None
    rejection = rejection_reason(replace(AT_THE_LIMITS, **{name: value}), LIMITS)  # type: ignore[arg-type]
    if rejection is None:
        assert expected is None
        return
    assert rejection[0] is expected
    assert words in rejection[1]


def test_half_an_alpha_is_mask_and_only_the_outermost_pixels_are_the_border() -> None:
    alpha = alphas((12, 10, 28, 38))
    assert measured(np.where(alpha > 0, 128, 127).astype(np.uint8), [BOX] * 20).presence == 1
    assert measured(np.where(alpha > 0, 127, 0).astype(np.uint8), [BOX] * 20).presence == 0
    assert measured(alphas((1, 1, 63, 47)), [BOX] * 20).border == []
    assert measured(alphas((0, 0, 64, 48)), [BOX] * 20).border == ["left", "top", "right", "bottom"]


def test_one_frame_without_a_box_and_boxes_beside_the_mask() -> None:
    alpha = alphas((0, 0, 10, 20), frames=4)
    # A box that begins outside of the frame counts from the frame's edge on.
    assert measured(alpha, [(-5.0, -5.0, 10.0, 10.0)] * 4).share_in_box == pytest.approx(0.5)
    beside = measured(alpha, [(30.0, 0.0, 50.0, 20.0)] * 4)
    assert (beside.share_in_box, beside.box_coverage) == (0, 0)
    below = measured(alpha, [(0.0, 30.0, 20.0, 40.0)] * 4)
    assert (below.share_in_box, below.box_coverage) == (0, 0)
    assert measured(np.zeros((4, 48, 64), np.uint8), [BOX] * 4).box_coverage == 0


def test_a_figure_that_walks_along_the_frame_jumps_by_its_way_alone() -> None:
    alpha = np.zeros((6, 48, 64), np.uint8)
    for number in range(6):
        alpha[number, 10:30, 4 + 8 * number : 16 + 8 * number] = 255
    quality = measured(alpha, [(0.0, 0.0, 64.0, 48.0)] * 6)
    # 8 pixels a frame; its box is 12 x 20.
    assert quality.max_jump == pytest.approx(8 / np.hypot(12, 20), rel=1e-6)
