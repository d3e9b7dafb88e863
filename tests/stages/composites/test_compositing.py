from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mimix_core.media.masks import write_masks
from mimix_core.stages.composites.alpha import extend_edge_colors, feather_alpha, smooth_alpha
from mimix_core.stages.composites.compositing import PasteOptions, composite_frames, paste_image
from mimix_core.stages.composites.linear_light import exposure_gain, to_display, to_linear
from mimix_core.stages.composites.render_composite import (
    CompositeFiles,
    EncodingOptions,
    render_composite,
)
from mimix_core.stages.composites.scale_translate import IDENTITY, ScaleTranslate
from mimix_core.stages.composites.yuv_frames import (
    ColorConverter,
    YuvPlanes,
    enclosing_region,
    read_yuv_frames,
    to_video_frame,
)
from tests.factories import video
from tests.paths import DEMO

Images = NDArray[np.uint8]
HARD = PasteOptions(feather=0)
REFERENCES = DEMO / "references"


def reference(
    source: Images, alpha: Images, scene: Images, move: ScaleTranslate, gain: float
) -> Images:
    """Alpha over in linear light in float64, without a library: bicubic if needed."""

    def linear(value: Images) -> NDArray[np.float64]:
        v = value.astype(np.float64) / 255
        return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)

    def cubic(t: float) -> list[float]:
        a = -0.75
        near = [1 - (a + 3) * t**2 + (a + 2) * t**3]
        one, two = 1 + t, 2 - t
        far = [a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a for d in (one, two)]
        back = 1 - t
        return [far[0], near[0], 1 - (a + 3) * back**2 + (a + 2) * back**3, far[1]]

    own = np.minimum(linear(source) * gain, 1)
    opacity = alpha.astype(np.float64) / 255
    layer = np.pad(
        np.dstack([own * opacity[..., None], opacity]), ((2, 2), (2, 2), (0, 0)), mode="edge"
    )
    height, width = layer.shape[:2]
    result = linear(scene)
    for row in range(scene.shape[0]):
        for column in range(scene.shape[1]):
            y = (row + 0.5 - move.y) / move.scale - 0.5 + 2
            x = (column + 0.5 - move.x) / move.scale - 0.5 + 2
            top, left = int(np.floor(y)), int(np.floor(x))
            down, across = cubic(y - top), cubic(x - left)
            seen = np.zeros(4)
            for i, weight in enumerate(down):
                for j, other in enumerate(across):
                    r, c = top - 1 + i, left - 1 + j
                    if 0 <= r < height and 0 <= c < width:
                        seen += weight * other * layer[r, c]
            seen = np.clip(seen, 0, 1)
            result[row, column] = seen[:3] + (1 - seen[3]) * result[row, column]
    display = np.where(result <= 0.0031308, 12.92 * result, 1.055 * result ** (1 / 2.4) - 0.055)
    levels: NDArray[np.float64] = display * 255
    return levels


@given(st.integers(0, 2**32 - 1), st.integers(-9, 12), st.integers(-9, 12), st.floats(0.87, 1.15))
def test_pasting_is_exact_to_one_level(seed: int, x: int, y: int, gain: float) -> None:
    rng = np.random.default_rng(seed)
    source, scene = (rng.integers(0, 256, (8, 10, 3)).astype(np.uint8) for _ in range(2))
    alpha = rng.choice([0, 0, 1, 128, 254, 255], (8, 10)).astype(np.uint8)
    # What lies at the picture's own edge is drawn on by interpolation, and here there is none.
    alpha[[0, -1]] = 0
    alpha[:, [0, -1]] = 0
    made, _ = paste_image(
        source, alpha, scene, ScaleTranslate(1.0, x, y), PasteOptions(gain=gain, feather=0)
    )
    wanted = reference(source, alpha, scene, ScaleTranslate(1.0, x, y), gain)
    assert np.abs(made - wanted).max() <= 1


@pytest.mark.parametrize(
    "move",
    [
        ScaleTranslate(1.0, 3.25, -1.5),
        ScaleTranslate(1.25, -2.0, 3.5),
        ScaleTranslate(0.8, 4.0, 2.0),
    ],
)
def test_interpolated_pasting_is_exact_to_two_levels(move: ScaleTranslate) -> None:
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 256, (2, 24, 30, 3)).astype(np.uint8)
    source, scene = (cv2.GaussianBlur(one, (0, 0), sigmaX=2) for one in noise)
    alpha = np.zeros((24, 30), np.uint8)
    cv2.ellipse(alpha, (15, 12), (8, 7), 0, 0, 360, 255, cv2.FILLED)
    alpha = cv2.GaussianBlur(alpha, (0, 0), sigmaX=1)
    made, _ = paste_image(source, alpha, scene, move, HARD)
    # OpenCV weighs in steps of 1/32 of a pixel: 2 levels in what is sharp.
    difference = np.abs(made - reference(source, alpha, scene, move, 1.0))
    assert difference.max() <= 2
    assert (difference > 1).mean() < 0.01


@pytest.mark.parametrize("figure", ["bunny", "clara", "gamera"])
def test_a_real_cutout_is_exact_to_one_level_except_at_the_feather(figure: str) -> None:
    """Pictures of the demo's characters, an alpha known to the last pixel, with and without."""
    source = cv2.imread(str(REFERENCES / f"{figure}.png"))[::3, ::3]
    source = np.ascontiguousarray(source[:60, :60])
    scene = cv2.imread(str(REFERENCES / "frank.png"))[::3, ::3][:70, :70]
    scene = np.ascontiguousarray(scene)
    alpha = np.zeros(source.shape[:2], np.uint8)
    cv2.ellipse(alpha, (30, 30), (20, 24), 15, 0, 360, 255, cv2.FILLED)
    alpha = cv2.GaussianBlur(alpha, (0, 0), sigmaX=0.8)
    wanted = reference(source, alpha, scene, ScaleTranslate(1.0, 4, 6), 1.1)
    hard, _ = paste_image(
        source, alpha, scene, ScaleTranslate(1.0, 4, 6), PasteOptions(gain=1.1, feather=0)
    )
    assert np.abs(hard - wanted).max() <= 1
    soft, _ = paste_image(
        source, alpha, scene, ScaleTranslate(1.0, 4, 6), PasteOptions(gain=1.1, feather=1.5)
    )
    feathered = np.zeros(scene.shape[:2], bool)
    core = cv2.erode((alpha >= 250).astype(np.uint8), np.ones((9, 9), np.uint8))
    feathered[6:66, 4:64] = (alpha > 0) & (core == 0)
    assert 0.02 < feathered.mean() < 0.25
    assert np.abs(soft - wanted)[~feathered].max() <= 1


def test_the_background_is_unchanged_outside_the_cutout() -> None:
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 256, (48, 64, 3)).astype(np.uint8)
    alpha = np.zeros((48, 64), np.uint8)
    alpha[10:20, 10:20] = 255
    made, touched = paste_image(
        255 - scene, alpha, scene, ScaleTranslate(1.0, 5, 3), PasteOptions()
    )
    changed = (made != scene).any(axis=2)
    assert changed[15:22, 17:24].all()
    assert not (changed & ~touched).any()
    changed[13:23, 15:25] = False
    assert not changed.any()


def test_a_figure_does_not_fade_out_at_a_cut_off_side() -> None:
    source, scene = np.full((40, 40, 3), 200, np.uint8), np.full((50, 50, 3), 20, np.uint8)
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:, 10:30] = 255
    made, _ = paste_image(source, alpha, scene, ScaleTranslate(1.25, 0, 0), PasteOptions())
    assert (made[-1, 18:32] == 200).all()


@pytest.mark.parametrize("feather", [1.0, 1.5, 3.0])
def test_a_bright_old_background_leaves_no_halo(feather: float) -> None:
    """A dark figure whose outermost pixels were mixed with white, pasted on dark.

    The bound: 4 levels brighter than both the figure and the scene.
    """
    figure = np.zeros((80, 80), np.uint8)
    cv2.ellipse(figure, (40, 40), (22, 28), 0, 0, 360, 255, cv2.FILLED)
    # As a camera and an encoder leave it: the border is a pixel wide, and mixed.
    mixed = cv2.GaussianBlur(figure, (0, 0), sigmaX=0.7)[..., None] / 255
    source = np.rint(20 * mixed + 255 * (1 - mixed)).astype(np.uint8)
    # The mask reaches a pixel too far, as masks do.
    alpha = cv2.dilate(figure, np.ones((3, 3), np.uint8))
    source = np.repeat(source, 3, axis=2) if source.shape[2] == 1 else source
    scene = np.full((80, 80, 3), 20, np.uint8)
    hard, _ = paste_image(source, alpha, scene, IDENTITY, HARD)
    soft, _ = paste_image(source, alpha, scene, IDENTITY, PasteOptions(feather=feather))
    assert hard.max() > 120
    assert soft.max() <= 24


def test_the_extended_rim_ends_without_a_line() -> None:
    """A soft mask reaches far beyond a dark figure, into a bright background."""
    figure = np.zeros((120, 120), np.uint8)
    cv2.ellipse(figure, (60, 60), (24, 34), 20, 0, 360, 255, cv2.FILLED)
    soft = cv2.GaussianBlur(cv2.dilate(figure, np.ones((9, 9), np.uint8)), (0, 0), sigmaX=5)
    alpha = np.where(figure > 0, 255, soft).astype(np.uint8)
    source = np.repeat(np.where(figure > 0, 40, 200).astype(np.uint8)[..., None], 3, axis=2)
    light, rim = extend_edge_colors(to_linear(source), alpha)
    cleaned = to_display(light)[..., 0].astype(int)
    assert (cleaned[rim & (figure == 0)] == 40).any()
    seen = np.where(alpha > 60, cleaned, 200)
    steps = max(int(np.abs(np.diff(seen, axis=axis)).max()) for axis in (0, 1))
    # A sharp bound steps by all of the 160 levels between the two.
    assert steps < 145


def test_the_edge_is_soft_inwards_and_sharp_at_the_frame() -> None:
    alpha = np.zeros((40, 40), np.uint8)
    alpha[20:, 10:30] = 255
    soft = feather_alpha(alpha, 1.5)
    assert (soft <= alpha).all()
    assert 0 < soft[30, 10] < 128 < soft[30, 12] <= 255
    assert soft[39, 20] == 255
    assert np.array_equal(feather_alpha(alpha, 0), alpha)


@given(st.integers(0, 2**32 - 1))
def test_a_jittering_edge_becomes_stable_within_a_pixel(seed: int) -> None:
    rng = np.random.default_rng(seed)
    alphas = np.zeros((9, 40, 40), np.uint8)
    for n, alpha in enumerate(alphas):
        alpha[:, : 20 + int(rng.integers(-1, 2))] = 255
        assert np.array_equal(alphas[n], alpha)
    quiet = np.stack([smooth_alpha(alphas, n) for n in range(len(alphas))])
    near = np.ones((3, 3), np.uint8)
    for own, found in zip(alphas, quiet, strict=True):
        assert (found >= cv2.erode(own, near)).all()
        assert (found <= cv2.dilate(own, near)).all()

    def jitter(masks: NDArray[np.uint8]) -> float:
        return float(np.abs(np.diff(masks.astype(float), axis=0)).mean())

    assert jitter(quiet) <= jitter(alphas)


def test_a_moving_figure_leaves_no_ghost() -> None:
    alphas = np.zeros((5, 20, 60), np.uint8)
    for n, alpha in enumerate(alphas):
        alpha[5:15, 10 * n : 10 * n + 10] = 255
    quiet = smooth_alpha(alphas, 2)
    assert (quiet[6:14, 21:29] == 255).all()
    assert not quiet[:, :19].any()
    assert not quiet[:, 31:].any()


def test_exposure_moves_slightly_towards_the_background() -> None:
    alpha = [np.full((20, 20), 255, np.uint8)] * 5
    dark, mid, bright = ([np.full((20, 20), v, np.uint8)] * 5 for v in (15, 128, 250))
    assert exposure_gain(mid, alpha, mid) == pytest.approx(1)
    assert exposure_gain(mid, alpha, dark) == 0.87
    assert 1 < exposure_gain(mid, alpha, bright) <= 1.15
    assert exposure_gain(mid, [np.zeros_like(a) for a in alpha], dark) == 1


def test_a_contact_shadow_darkens_the_ground_and_nothing_else() -> None:
    scene = np.full((80, 120, 3), 180, np.uint8)
    alpha = np.zeros((80, 120), np.uint8)
    alpha[20:60, 45:75] = 255
    source = np.full((80, 120, 3), 90, np.uint8)
    plain, _ = paste_image(source, alpha, scene, IDENTITY, PasteOptions())
    shaded, touched = paste_image(source, alpha, scene, IDENTITY, PasteOptions(shadow=0.6))
    darker = (shaded < plain).all(axis=2)
    assert darker[60:62, 50:70].all()
    assert not (shaded > plain).any()
    assert not darker[:50].any()
    assert not darker[70:].any()
    assert not (darker & ~touched).any()


def test_a_figure_with_feet_below_the_frame_casts_no_shadow() -> None:
    scene, source = np.full((80, 120, 3), 180, np.uint8), np.full((80, 120, 3), 90, np.uint8)
    alpha = np.zeros((80, 120), np.uint8)
    alpha[20:70, 45:75] = 255
    for move in (ScaleTranslate(1.0, 0, 12), ScaleTranslate(1.1, 0.5, 14.5)):
        plain, _ = paste_image(source, alpha, scene, move, PasteOptions())
        shaded, _ = paste_image(source, alpha, scene, move, PasteOptions(shadow=0.6))
        assert np.array_equal(plain, shaded)


def clip_of(frames: NDArray[np.uint8], path: Path) -> list[YuvPlanes]:
    video(path, frames)
    return read_yuv_frames(path)


def test_only_touched_pixels_of_the_background_planes_change(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (3, 96, 128, 3)).astype(np.uint8)
    scene = clip_of(noise, tmp_path / "scene.mp4")
    source = clip_of(255 - noise, tmp_path / "source.mp4")
    alphas = np.zeros((3, 96, 128), np.uint8)
    alphas[:, 40:70, 30:60] = 255
    made = list(
        composite_frames(source, alphas, scene, [ScaleTranslate(1.0, 21, 5)] * 3, PasteOptions())
    )
    for before, after in zip(scene, made, strict=True):
        changed = before.y_HW != after.y_HW
        assert changed[48:72, 54:78].mean() > 0.95
        changed[44:76, 50:82] = False
        assert not changed.any()
        for one, other in ((before.u_HW, after.u_HW), (before.v_HW, after.v_HW)):
            changed = one != other
            changed[22:38, 25:41] = False
            assert not changed.any()


def test_a_figure_follows_its_path(tmp_path: Path) -> None:
    frames = np.full((4, 96, 128, 3), 40, np.uint8)
    scene = clip_of(frames, tmp_path / "scene.mp4")
    source = clip_of(frames + 160, tmp_path / "source.mp4")
    alphas = np.zeros((4, 96, 128), np.uint8)
    alphas[:, 30:60, 20:50] = 255
    path = [ScaleTranslate(1.0, 10.5 * n, 0.0) for n in range(4)]
    made = list(composite_frames(source, alphas, scene, path, PasteOptions()))
    for n, planes in enumerate(made):
        there = planes.y_HW > 100
        columns = np.flatnonzero(there.any(axis=0))
        assert columns[0] == pytest.approx(20 + 10.5 * n, abs=2)
        assert columns[-1] == pytest.approx(49 + 10.5 * n, abs=2)


def test_without_a_sheet_no_video_is_left(tmp_path: Path) -> None:
    for name in ("source", "scene"):
        video(tmp_path / f"{name}.mp4", np.full((81, 48, 64, 3), 90, np.uint8))
    write_masks(tmp_path / "masks.parquet", np.full((81, 48, 64), 255, np.uint8))
    files = CompositeFiles(
        tmp_path / "source.mp4", tmp_path / "masks.parquet", tmp_path / "scene.mp4"
    )
    made = tmp_path / "made.mp4"
    with pytest.raises(OSError):
        path, coding = (IDENTITY,) * 81, EncodingOptions(16, "ultrafast")
        render_composite(
            files, path, PasteOptions(), coding, made, tmp_path / "no folder" / "sheet.jpg"
        )
    assert not made.exists()


def test_a_figure_outside_the_frame_changes_nothing(tmp_path: Path) -> None:
    frames = np.full((2, 64, 64, 3), 40, np.uint8)
    scene = clip_of(frames, tmp_path / "scene.mp4")
    alphas = np.full((2, 64, 64), 255, np.uint8)
    made = list(
        composite_frames(scene, alphas, scene, [ScaleTranslate(1.0, 200, 0)] * 2, PasteOptions())
    )
    assert all(one is other for one, other in zip(made, scene, strict=True))


@given(st.floats(-50, 150), st.floats(-50, 150), st.floats(0.5, 120), st.floats(0.5, 120))
def test_a_region_encloses_its_box_in_complete_blocks(
    x: float, y: float, width: float, height: float
) -> None:
    found = enclosing_region(x, y, x + width, y + height, 100, 80)
    if x + width <= 0 or y + height <= 0 or x >= 100 or y >= 80:
        assert found is None
        return
    assert found is not None
    assert 0 <= found.x0 <= max(x, 0)
    assert 0 <= found.y0 <= max(y, 0)
    assert min(x + width, 100) <= found.x1 <= 100
    assert min(y + height, 80) <= found.y1 <= 80
    assert all(side % 2 == 0 for side in (found.x0, found.y0, found.x1, found.y1))


def test_planes_round_trip_through_a_frame(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    noise = rng.integers(0, 256, (1, 48, 70, 3)).astype(np.uint8)
    planes = clip_of(noise, tmp_path / "clip.mp4")[0]
    frame = to_video_frame(planes)
    again = frame.to_ndarray()
    assert np.array_equal(again[:48], planes.y_HW)


@given(st.integers(16, 235), st.integers(16, 240), st.integers(16, 240))
def test_colors_match_the_standard_and_round_trip(y: int, u: int, v: int) -> None:
    """BT.709, limited range (ITU-R BT.709-6, part 3), rounded to the nearest level."""
    plane = np.full((34, 48), y, np.uint8)
    blue, red = (np.full((17, 24), value, np.uint8) for value in (u, v))
    converter = ColorConverter()
    found = converter.to_rgb(YuvPlanes(plane, blue, red))
    light, pb, pr = (y - 16) * 255 / 219, (u - 128) * 255 / 224, (v - 128) * 255 / 224
    wanted = np.array(
        [light + 1.5748 * pr, light - 0.18732 * pb - 0.46812 * pr, light + 1.8556 * pb]
    )
    assert np.abs(found - np.clip(wanted, 0, 255)).max() <= 0.55
    if wanted.min() >= 0 and wanted.max() <= 255:
        again = converter.to_planes(found)
        assert np.array_equal(again.y_HW, plane)
        assert np.array_equal(again.u_HW, blue)
        assert np.array_equal(again.v_HW, red)


@pytest.mark.parametrize("shift", [(0, 0), (20, 8), (3, 5)])
def test_a_pasted_figure_has_its_original_brightness(shift: tuple[int, int]) -> None:
    """From planes to planes, as clips are composited: what is solid keeps brightness and colour."""
    x, y = shift
    rng = np.random.default_rng(5)
    noise = cv2.GaussianBlur(rng.integers(0, 256, (96, 128, 3)).astype(np.uint8), (0, 0), sigmaX=4)
    converter = ColorConverter()
    source = converter.to_planes(cv2.normalize(noise, np.empty(0), 30, 220, cv2.NORM_MINMAX))
    scene = converter.to_planes(np.full((128, 160, 3), 90, np.uint8))
    alphas = np.zeros((1, 96, 128), np.uint8)
    alphas[:, 20:80, 30:100] = 255
    made = next(composite_frames([source], alphas, [scene], [ScaleTranslate(1.0, x, y)], HARD))
    own = converter.to_rgb(source)[24:76, 34:96].astype(int)
    pasted = converter.to_rgb(made)[24 + y : 76 + y, 34 + x : 96 + x].astype(int)
    assert abs(float((pasted - own).mean())) < 0.1
    # Between blocks of colour it has to be interpolated.
    assert (np.abs(pasted - own) <= 1).mean() > 0.9
