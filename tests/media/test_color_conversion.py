"""Color conversion: rounded to the nearest level, without bias."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.media import ClipWriter, read_rgb
from mimix_core.media.color_conversion import frame_to_rgb, plane_array, rgb_to_frame

KR_KB = {"ITU709": (0.2126, 0.0722), "ITU601": (0.299, 0.114)}
LEVEL = st.integers(0, 255)


def flat_frame(y: int, u: int, v: int) -> av.VideoFrame:
    frame = av.VideoFrame(32, 32, "yuv420p")
    for plane, value in zip(frame.planes, (y, u, v), strict=True):
        plane_array(plane)[:] = value
    return frame


def reference_rgb(y: int, u: int, v: int, matrix: str, full_range: bool) -> np.ndarray:
    """Compute RGB by the standard's formulas, in fractions of a level."""
    kr, kb = KR_KB[matrix]
    grey = float(y) if full_range else (y - 16) * 255 / 219
    blue, red = ((c - 128) * (1.0 if full_range else 255 / 224) for c in (u, v))
    r, b = grey + 2 * (1 - kr) * red, grey + 2 * (1 - kb) * blue
    return np.clip([r, (grey - kr * r - kb * b) / (1 - kr - kb), b], 0, 255)


def nearest_yuv(
    red: int, green: int, blue: int, matrix: str, full_range: bool
) -> tuple[int, int, int]:
    """Compute the nearest Y, U, V of an RGB color by the standard's formulas."""
    kr, kb = KR_KB[matrix]
    grey = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - grey) / (2 - 2 * kb), (red - grey) / (2 - 2 * kr)
    y, scale = (grey, 1.0) if full_range else (16 + grey * 219 / 255, 224 / 255)
    return round(y), min(255, round(128 + u * scale)), min(255, round(128 + v * scale))


@given(LEVEL, LEVEL, LEVEL, st.sampled_from(sorted(KR_KB)), st.booleans())
def test_rgb_values_are_those_of_the_standard_rounded(
    red: int, green: int, blue: int, matrix: str, full_range: bool
) -> None:
    values = nearest_yuv(red, green, blue, matrix, full_range)
    found = frame_to_rgb(flat_frame(*values), matrix=matrix, full_range=full_range)
    assert found.shape == (32, 32, 3)
    wanted = reference_rgb(*values, matrix, full_range)
    assert np.abs(found.reshape(-1, 3) - wanted).max() < 0.75


def test_conversion_is_unbiased_and_reversible() -> None:
    """With truncation RGB would be a level too dark on average, and two after a round trip."""
    numbers = np.random.default_rng(0)
    away, returned = [], []
    for _ in range(300):
        values = tuple(int(n) for n in numbers.integers((60, 100, 100), (190, 156, 156)))
        frame = flat_frame(*values)
        image = frame_to_rgb(frame)
        away.append(image[16, 16] - reference_rgb(*values, "ITU709", False))
        back = rgb_to_frame(image)
        returned.append(
            [int(plane_array(p)[8, 8]) - v for p, v in zip(back.planes, values, strict=True)]
        )
    assert np.abs(np.mean(away, axis=0)).max() < 0.1
    assert np.abs(np.mean(returned, axis=0)).max() < 0.1
    assert np.abs(returned).max() <= 1


@pytest.mark.parametrize("level", [40, 128, 210])
def test_a_gray_level_is_preserved_by_encoding(tmp_path: Path, level: int) -> None:
    with ClipWriter(tmp_path / "grey.mp4", 64, 48, preset="fast", crf=10) as writer:
        for _ in range(81):
            writer.write_rgb(np.full((48, 64, 3), level, np.uint8))
    assert np.abs(read_rgb(tmp_path / "grey.mp4").astype(int) - level).max() <= 1
