from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.media import ClipWriter, read_rgb
from mimix_core.media.color_conversion import frame_of_rgb, plane_of, rgb_of

KR_KB = {"ITU709": (0.2126, 0.0722), "ITU601": (0.299, 0.114)}
LEVEL = st.integers(0, 255)


def patch(y: int, u: int, v: int) -> av.VideoFrame:
    frame = av.VideoFrame(32, 32, "yuv420p")
    for plane, value in zip(frame.planes, (y, u, v), strict=True):
        plane_of(plane)[:] = value
    return frame


def standard(y: int, u: int, v: int, matrix: str, full_range: bool) -> np.ndarray:
    """RGB by the standard's formulas, in fractions of a level."""
    kr, kb = KR_KB[matrix]
    grey = float(y) if full_range else (y - 16) * 255 / 219
    blue, red = ((c - 128) * (1.0 if full_range else 255 / 224) for c in (u, v))
    r, b = grey + 2 * (1 - kr) * red, grey + 2 * (1 - kb) * blue
    return np.clip([r, (grey - kr * r - kb * b) / (1 - kr - kb), b], 0, 255)


def coded(red: int, green: int, blue: int, matrix: str, full_range: bool) -> tuple[int, int, int]:
    """The nearest Y, U, V of an RGB colour, by the standard's formulas."""
    kr, kb = KR_KB[matrix]
    grey = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - grey) / (2 - 2 * kb), (red - grey) / (2 - 2 * kr)
    y, scale = (grey, 1.0) if full_range else (16 + grey * 219 / 255, 224 / 255)
    return round(y), min(255, round(128 + u * scale)), min(255, round(128 + v * scale))


@given(LEVEL, LEVEL, LEVEL, st.sampled_from(sorted(KR_KB)), st.booleans())
def test_rgb_is_the_standards_rounded(
    red: int, green: int, blue: int, matrix: str, full_range: bool
) -> None:
    values = coded(red, green, blue, matrix, full_range)
    found = rgb_of(patch(*values), matrix=matrix, full_range=full_range)
    assert found.shape == (32, 32, 3)
    wanted = standard(*values, matrix, full_range)
    assert np.abs(found.reshape(-1, 3) - wanted).max() < 0.75


def test_colours_have_no_bias_and_come_back() -> None:
    """Cut off and not rounded, they are a level too dark in the mean, and two after a way back."""
    numbers = np.random.default_rng(0)
    away, returned = [], []
    for _ in range(300):
        values = tuple(int(n) for n in numbers.integers((60, 100, 100), (190, 156, 156)))
        frame = patch(*values)
        image = rgb_of(frame)
        away.append(image[16, 16] - standard(*values, "ITU709", False))
        back = frame_of_rgb(image)
        returned.append(
            [int(plane_of(p)[8, 8]) - v for p, v in zip(back.planes, values, strict=True)]
        )
    assert np.abs(np.mean(away, axis=0)).max() < 0.1
    assert np.abs(np.mean(returned, axis=0)).max() < 0.1
    assert np.abs(returned).max() <= 1


@pytest.mark.parametrize("level", [40, 128, 210])
def test_a_grey_written_is_the_grey_read(tmp_path: Path, level: int) -> None:
    with ClipWriter(tmp_path / "grey.mp4", 64, 48, preset="fast", crf=10) as writer:
        for _ in range(81):
            writer.write_rgb(np.full((48, 64, 3), level, np.uint8))
    assert np.abs(read_rgb(tmp_path / "grey.mp4").astype(int) - level).max() <= 1
