"""Histograms of figures that the tests paint, and a bank of styles that differ in colors alone."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mimix_core.benchmark.characters.cell_features import ROWS, CellEncoder
from mimix_core.benchmark.characters.discriminant import Floats
from mimix_core.benchmark.characters.style_histograms import style_histograms
from mimix_core.benchmark.characters.trained_looks import TrainedLooks, looks_of_frames
from mimix_core.benchmark.characters.training_figures import TrainingFrame, relight
from mimix_core.media.images import RgbImage

HEIGHT, WIDTH = 80, 128
BINS = 13
BOX = (36, 16, 84, 64)
"""Left, top, right and bottom of the figure."""

MASK = np.zeros((HEIGHT, WIDTH), np.uint8)
MASK[BOX[1] : BOX[3], BOX[0] : BOX[2]] = 255
COVER = cv2.resize(MASK, (32, ROWS), interpolation=cv2.INTER_AREA) / 255.0


def lab_color(lightness: float, chroma: float, hue: float) -> NDArray[np.uint8]:
    """Return the RGB color of a CIELAB color. ``hue``: in degrees."""
    angle = np.deg2rad(hue)
    lab = np.array([[[lightness, chroma * np.cos(angle), chroma * np.sin(angle)]]], np.float32)
    rgb = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)[0, 0]
    assert 0 <= rgb.min() <= rgb.max() <= 1, "no color of sRGB"
    return (rgb * 255).round().astype(np.uint8)


def paint(color: NDArray[np.uint8], scene: int = 200) -> RgbImage:
    """Paint a flat figure before a gray scene."""
    image = np.full((HEIGHT, WIDTH, 3), scene, np.uint8)
    image[MASK > 0] = color
    return image


def parts(image: RgbImage) -> NDArray[np.float32]:
    """Return the six histograms: gradient and Laplacian twice, chroma, lightness."""
    return style_histograms(image, COVER).reshape(6, BINS)


def test_strong_and_muted_colors_differ_in_chroma_alone() -> None:
    strong, muted = (parts(paint(lab_color(60, chroma, 40))) for chroma in (50, 15))
    assert np.abs(strong[4] - muted[4]).max() == pytest.approx(1)
    for number in (0, 1, 2, 3, 5):
        np.testing.assert_array_equal(strong[number], muted[number])


@pytest.mark.parametrize("hue", [100.0, 160.0, 320.0])
def test_hues_do_not_matter(hue: float) -> None:
    # In the middle of bins, so that rounding to 8 bits leaves them where they are.
    red, other = (parts(paint(lab_color(58, 36.6, degrees))) for degrees in (40.0, hue))
    np.testing.assert_array_equal(red, other)


def test_only_the_figure_counts() -> None:
    color = lab_color(60, 40, 40)
    np.testing.assert_array_equal(parts(paint(color, scene=200)), parts(paint(color, scene=30)))


def test_every_pixel_of_a_figure_counts_in_each_histogram() -> None:
    image = paint(np.array([0, 0, 255], np.uint8))  # the strongest color of sRGB
    image[BOX[1] : BOX[3], BOX[0] : BOX[0] + 24] = 255
    np.testing.assert_allclose((parts(image) ** 2).sum(axis=1), 1, rtol=1e-5)
    # White and blue, half of the figure each.
    np.testing.assert_allclose(np.sort(parts(image)[4])[-2:] ** 2, 0.5, atol=0.03)


def mean_colors(image_HWC: RgbImage) -> Floats:
    """Describe each cell of 4 x 4 pixels by its color: an encoder for flat figures."""
    rows, columns = image_HWC.shape[0] // 4, image_HWC.shape[1] // 4
    cells: Floats = image_HWC.reshape(rows, 4, columns, 4, 3).mean(axis=(1, 3)).astype(np.float32)
    return cells


LOOKS = {"Clean": ("cartoon", 30, 45.0), "Muted": ("realistic", 200, 20.0)}
"""By character: the style of its show, its hue and its chroma."""


@pytest.fixture(scope="module")
def looks() -> TrainedLooks:
    """A bank of a character in clean and one in muted colors, always in the same light."""
    rng = np.random.default_rng(0)
    frames = []
    for name, (style, hue, chroma) in LOOKS.items():
        for number in range(12):
            color = lab_color(60 + rng.normal(0, 1.5), chroma + rng.normal(0, 1.5), hue)
            image = paint(color, int(rng.integers(90, 240)))
            frames.append(
                TrainingFrame(f"{name}-{number}", style, 0, image, {name: MASK}, complete=True)
            )
    styles = {name: style for name, (style, *_) in LOOKS.items()}
    return looks_of_frames(frames, {}, styles, CellEncoder("colors", 4, 4, mean_colors))


def own_share(looks: TrainedLooks, name: str, chroma: float, exposure: float) -> float:
    style, hue, _ = LOOKS[name]
    image = relight(paint(lab_color(60, chroma, hue)), exposure)
    return looks.bank.style_shares(style_histograms(image, COVER)[None])[style]


@pytest.mark.parametrize("name", LOOKS)
@pytest.mark.parametrize("exposure", [1.0, 0.8, 0.7])
def test_a_darker_scene_is_no_other_style(looks: TrainedLooks, name: str, exposure: float) -> None:
    assert own_share(looks, name, LOOKS[name][2], exposure) > 0.5


def test_a_flat_figure_in_muted_colors_is_in_the_other_style(looks: TrainedLooks) -> None:
    assert own_share(looks, "Clean", LOOKS["Muted"][2], 1.0) < 0.5
    assert own_share(looks, "Muted", LOOKS["Clean"][2], 1.0) < 0.5


def test_relighting_scales_values_and_clips_them() -> None:
    image = np.array([[[0, 100, 240]]], np.uint8)
    np.testing.assert_array_equal(relight(image, 0.5), [[[0, 50, 120]]])
    np.testing.assert_array_equal(relight(image, 1.1), [[[0, 110, 255]]])
