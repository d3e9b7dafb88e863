from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from mimix_core.cutouts.quality import measure, objection
from mimix_core.settings import CutoutSettings
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


def reason(alpha: NDArray[np.uint8], box: tuple[float, float, float, float] = BOX) -> Reason | None:
    against = objection(measure(alpha, [box] * len(alpha)), SETTINGS)
    return None if against is None else against[0]


def test_a_steady_whole_mask_is_fit() -> None:
    quality = measure(alphas(), [BOX] * 20)
    assert objection(quality, SETTINGS) is None
    assert quality.area == [round(16 * 28 / (48 * 64), 6)] * 20
    assert quality.boxes == [[12, 10, 28, 38]] * 20
    assert (quality.presence, quality.steadiness, quality.inside) == (1, 1, 1)
    assert quality.border == []


def test_a_mask_that_vanishes_is_absent() -> None:
    alpha = alphas()
    alpha[:2] = 0
    assert measure(alpha, [BOX] * 20).boxes[0] == [0, 0, 0, 0]
    assert reason(alpha) is Reason.MASK_ABSENT


def test_a_veil_is_no_mask() -> None:
    assert reason(np.minimum(alphas(), 120)) is Reason.MASK_ABSENT


@pytest.mark.parametrize("box", [(20, 20, 25, 25), (0, 0, 64, 40)])
def test_too_small_and_too_large_masks_are_refused(box: tuple[int, int, int, int]) -> None:
    assert reason(alphas(box), (0.0, 0.0, 64.0, 48.0)) is Reason.MASK_AREA


def test_a_mask_that_jumps_is_unstable() -> None:
    alpha = alphas()
    alpha[7] = np.roll(alpha[7], 12, axis=1)
    assert reason(alpha, (0.0, 0.0, 64.0, 48.0)) is Reason.MASK_UNSTABLE


def test_a_mask_outside_of_its_box_is_refused() -> None:
    assert reason(alphas(), (12.0, 10.0, 20.0, 38.0)) is Reason.MASK_LEAVES_BOX


def test_sides_that_cut_a_character_off_are_recorded() -> None:
    quality = measure(alphas((12, 10, 28, 48)), [(12.0, 10.0, 28.0, 48.0)] * 20)
    assert quality.border == ["bottom"]
    assert objection(quality, SETTINGS) is None
    # One pixel of one frame is no contact.
    alpha = alphas()
    alpha[3, 0, 20] = 255
    assert measure(alpha, [BOX] * 20).border == []


def test_a_character_cut_off_on_both_sides_fits_nowhere() -> None:
    assert reason(alphas((0, 30, 64, 40)), (0.0, 30.0, 64.0, 40.0)) is Reason.MASK_AT_BORDER
