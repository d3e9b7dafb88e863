"""Metrics on synthetic videos with known answers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mimix_core.benchmark.metrics import (
    METRICS,
    MetricResources,
    Unmeasurable,
    VideoFeatures,
    brisque_quality,
    select_metrics,
)
from mimix_core.benchmark.metrics.dis_flow import interpolate_middle, top_flow_magnitude
from mimix_core.benchmark.metrics.efficientnet_consistency import frame_consistency
from mimix_core.errors import BadInput

HEIGHT, WIDTH, FRAMES = 120, 200, 25
Frames = NDArray[np.uint8]


def scene(seed: int = 0, width: int = WIDTH) -> Frames:
    """An image with the statistics of a natural one: detail at every scale (1/f)."""
    numbers = np.random.default_rng(seed)
    layers = [
        cv2.resize(numbers.normal(size=(HEIGHT // s, width // s, 3)), (width, HEIGHT)) * s
        for s in (1, 2, 4, 8, 20)
    ]
    image = sum(layers)
    image = 128 + 50 * image / image.std()
    return cv2.GaussianBlur(image, (0, 0), 0.6).clip(0, 255).astype(np.uint8)


def still() -> Frames:
    return np.stack([scene()] * FRAMES)


def pan(speed: float) -> Frames:
    wide = scene(width=WIDTH + round(speed * FRAMES) + 8)
    shifts = [np.float32([[1, 0, -speed * n], [0, 1, 0]]) for n in range(FRAMES)]
    return np.stack([cv2.warpAffine(wide, shift, (WIDTH, HEIGHT)) for shift in shifts])


def noise() -> Frames:
    numbers = np.random.default_rng(1)
    return numbers.integers(0, 256, (FRAMES, HEIGHT, WIDTH, 3), dtype=np.uint8)


def cut() -> Frames:
    """One scene, and from the middle on a very different one."""
    other = cv2.cvtColor(255 - scene(5), cv2.COLOR_RGB2HSV)
    half = FRAMES // 2
    return np.concatenate([still()[:half], np.stack([other] * (FRAMES - half))])


def value(metric: str, frames: Frames) -> float:
    return METRICS[metric].build(MetricResources())(VideoFeatures(frames))


DYNAMIC = "dynamic_degree/dis-flow"
SMOOTH = "motion_smoothness/frame-interpolation-residual"
QUALITY = "imaging_quality/brisque"
SUBJECT = "subject_consistency/efficientnet-lite0"


def test_only_what_moves_far_enough_is_dynamic() -> None:
    # The threshold is 6/256 of the short side between sampled frames: 2.8 pixels, or 1.4 per frame.
    assert value(DYNAMIC, still()) == 0.0
    assert value(DYNAMIC, pan(0.5)) == 0.0
    assert value(DYNAMIC, pan(3.0)) == 1.0


def test_four_moving_frames_of_sixteen_are_enough() -> None:
    moving = pan(3.0)
    for steps, expected in ((2, 0.0), (6, 1.0)):
        frames = moving.copy()
        frames[2 * steps :] = frames[2 * steps]
        assert value(DYNAMIC, frames) == expected


def test_flow_has_the_length_of_the_shift() -> None:
    flows = VideoFeatures(pan(2.0)).flows_NHWC
    assert flows.shape == (FRAMES // 2, HEIGHT, WIDTH, 2)
    assert np.median(flows[..., 0]) == pytest.approx(-4.0, abs=0.3)
    assert top_flow_magnitude(np.full((10, 10, 2), 3.0, np.float32)) == pytest.approx(3 * 2**0.5)


def test_large_videos_are_downscaled_for_flow() -> None:
    assert VideoFeatures(np.zeros((3, 480, 832, 3), np.uint8)).gray_THW.shape == (3, 240, 416)


def test_smoothness_falls_with_jerks_and_noise() -> None:
    smooth = value(SMOOTH, pan(2.0))
    jerky = pan(2.0)
    jerky[1::4] = jerky[0::4][: len(jerky[1::4])]  # every fourth frame repeats the previous one
    assert value(SMOOTH, still()) == 1.0
    assert smooth > 0.98
    assert value(SMOOTH, jerky) < smooth - 0.005
    assert value(SMOOTH, noise()) < 0.85


def test_the_interpolated_frame_is_halfway() -> None:
    frames = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in pan(4.0)[:3]]
    flow = VideoFeatures(pan(4.0)[:3]).flows_NHWC[0]
    made = interpolate_middle(frames[0], frames[2], flow)
    inner = np.s_[16:-16, 24:-24]
    truth = frames[1].astype(np.float32)
    assert (
        np.abs(made - truth)[inner].mean()
        < 0.25 * np.abs((frames[0].astype(np.float32) + frames[2]) / 2 - truth)[inner].mean()
    )


def test_quality_falls_with_blur_and_with_noise() -> None:
    def brisque(change) -> float:
        return value(QUALITY, np.stack([change(scene(n)) for n in range(4)]))

    def noisy(strength: float):
        numbers = np.random.default_rng(0)
        return lambda image: (
            (image + numbers.normal(0, strength, image.shape)).clip(0, 255).astype(np.uint8)
        )

    clean = brisque(lambda image: image)
    blurs = [brisque(lambda image, s=s: cv2.GaussianBlur(image, (0, 0), s)) for s in (2, 4)]
    assert clean < blurs[0] < blurs[1]
    assert brisque(noisy(40)) > clean + 5


def test_quality_of_a_flat_frame_is_undefined() -> None:
    with pytest.raises(Unmeasurable, match="flat"):
        value(QUALITY, np.full((5, 64, 64, 3), 90, np.uint8))


@pytest.mark.parametrize("shape", [0.5, 1.0, 2.0, 4.0])
def test_the_fit_recovers_the_shape_of_its_samples(shape: float) -> None:
    numbers = np.random.default_rng(0)
    drawn = numbers.gamma(1 / shape, size=200_000) ** (1 / shape)
    alpha, mean, left, right = brisque_quality.fit_aggd(
        drawn * numbers.choice([-1.0, 1.0], size=200_000)
    )
    assert alpha == pytest.approx(shape, rel=0.05)
    assert abs(mean) < 0.02 * left**0.5
    # Twice as wide to the right, and so twice as likely there.
    sides = numbers.choice([-1.0, 2.0], p=[1 / 3, 2 / 3], size=200_000)
    alpha, mean, left, right = brisque_quality.fit_aggd(drawn * sides)
    assert alpha == pytest.approx(shape, rel=0.05)
    assert right / left == pytest.approx(4.0, rel=0.05)
    assert mean == pytest.approx((drawn * sides).mean(), rel=0.1)


def test_the_regressor_is_the_shipped_one() -> None:
    regressor = brisque_quality.load_regressor()
    assert regressor.vectors.shape == (770, 36)
    # At a support vector far from all others only its own weight and the offset count.
    features = (regressor.vectors[0] + 1) / 2 * (regressor.high - regressor.low) + regressor.low
    kernel = np.exp(-regressor.gamma * ((regressor.vectors - regressor.vectors[0]) ** 2).sum(1))
    expected = sum(regressor.weights * kernel) - regressor.rho
    assert regressor(features) == pytest.approx(expected)


@pytest.mark.slow
def test_a_subject_that_changes_is_less_consistent() -> None:
    assert value(SUBJECT, still()) == pytest.approx(1.0, abs=1e-6)
    assert value(SUBJECT, cut()) < value(SUBJECT, pan(1.0)) < 1.0


@pytest.mark.e2e
def test_which_metrics_rate_noise_above_footage_is_known() -> None:
    """Real footage is in docs/benchmark.md; a pan over a picture with its statistics is as good."""
    footage = pan(1.0)
    for name, metric in METRICS.items():
        if metric.files:
            continue
        sign = 1 if metric.higher_is_better else -1
        rated_above = sign * value(name, noise()) >= sign * value(name, footage)
        assert metric.rates_noise_above_footage == rated_above, name


def test_consistency_is_the_mean_to_previous_and_first() -> None:
    a, b = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    assert frame_consistency(np.stack([a, a, a])) == 1.0
    # b: 0 to both; the second b: 1 to the one before, 0 to the first
    assert frame_consistency(np.stack([a, b, b])) == pytest.approx(0.25)
    assert frame_consistency(np.stack([a, -a])) == 0.0
    with pytest.raises(Unmeasurable):
        frame_consistency(np.stack([a]))


def test_motion_of_one_frame_is_undefined() -> None:
    for metric in (DYNAMIC, SMOOTH):
        with pytest.raises(Unmeasurable, match="too few"):
            value(metric, still()[:1])


def test_sampled_frames_cover_the_video() -> None:
    features = VideoFeatures(np.arange(81, dtype=np.uint8)[:, None, None, None])
    assert [int(frame[0, 0, 0]) for frame in features.sample_frames(4)] == [10, 30, 50, 70]
    assert len(list(features.sample_frames(200))) == 81


def test_metrics_are_selected_by_name() -> None:
    assert [metric.name for metric in select_metrics([SMOOTH, QUALITY])] == [SMOOTH, QUALITY]
    with pytest.raises(
        BadInput, match=r"unknown metric imaging_quality\. .*imaging_quality/brisque"
    ):
        select_metrics(["imaging_quality"])
    with pytest.raises(BadInput, match="listed twice"):
        select_metrics([SMOOTH, SMOOTH])
