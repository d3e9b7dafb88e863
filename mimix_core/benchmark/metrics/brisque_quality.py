"""``imaging_quality/brisque``: no-reference quality of single frames.

BRISQUE (Mittal, Moorthy, Bovik, 2012) with the support vectors that the ``brisque`` package ships
(Apache-2.0). Only its two data files are used: its code does not run on numpy 2.4. Like that code,
and unlike the paper, the image's own MSCN coefficients are fitted by the asymmetric model too,
because the shipped vectors were trained that way. Lower is better; real photographs score about
0 to 40.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NoReturn

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.metrics.video_features import VideoFeatures
from mimix_core.errors import MissingModel

_FRAMES = 4
_SIGMA = 7 / 6
_LUMA = np.array([0.2125, 0.7154, 0.0721])
FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class BrisqueRegressor:
    """BRISQUE's support vector regression: 36 features to a score."""

    low: FloatArray
    high: FloatArray
    weights: FloatArray
    vectors: FloatArray
    gamma: float
    rho: float

    def __call__(self, features: FloatArray) -> float:
        scaled = 2 * (features - self.low) / (self.high - self.low) - 1
        distances = np.square(self.vectors - scaled).sum(axis=1)
        return float(self.weights @ np.exp(-self.gamma * distances) - self.rho)


def build_imaging_quality() -> Callable[[VideoFeatures], float]:
    """Load the regressor and return the metric function: BRISQUE's mean over evenly spaced frames.

    Raises MissingModel when the package with the support vectors is not installed.
    """
    regressor = load_regressor()

    def measure(features: VideoFeatures) -> float:
        frames = features.sample_frames(_FRAMES)
        return float(np.mean([regressor(brisque_features(to_luma(frame))) for frame in frames]))

    return measure


def to_luma(frame_HWC: NDArray[np.uint8]) -> FloatArray:
    """Return the BT.709 luma of an RGB frame in 0..1, unrounded as in the vectors' training."""
    return np.asarray(frame_HWC @ _LUMA / 255.0)


def brisque_features(luma_HW: FloatArray) -> FloatArray:
    """Compute the 36 features of a luma image in 0..1: 18 at full size, 18 at half size.

    Raises Unmeasurable for a flat image, which has no statistics.
    """
    half = cv2.resize(luma_HW, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_CUBIC)
    return np.array([*_scale_features(luma_HW), *_scale_features(half)])


def _scale_features(luma_HW: FloatArray) -> list[float]:
    c = mscn_coefficients(luma_HW)
    alpha, _, left, right = fit_aggd(c)
    features = [alpha, (left + right) / 2]
    for product in (
        c[:, :-1] * c[:, 1:],
        c[:-1] * c[1:],
        c[:-1, :-1] * c[1:, 1:],
        c[1:, :-1] * c[:-1, 1:],
    ):
        features += fit_aggd(product)
    return features


def mscn_coefficients(luma_HW: FloatArray) -> FloatArray:
    """Compute mean-subtracted, contrast-normalized coefficients (the paper's equation 1)."""
    kernel = cv2.getGaussianKernel(7, _SIGMA, cv2.CV_64F)

    def blur(image: FloatArray) -> FloatArray:
        return np.asarray(
            cv2.sepFilter2D(image, cv2.CV_64F, kernel, kernel, borderType=cv2.BORDER_CONSTANT)
        )

    mean = blur(luma_HW)
    deviation = np.sqrt(np.abs(blur(luma_HW * luma_HW) - mean * mean))
    return (luma_HW - mean) / (deviation + 1 / 255)


def fit_aggd(values: FloatArray) -> tuple[float, float, float, float]:
    """Fit an asymmetric generalized Gaussian: its shape, mean, left and right variance.

    Moment matching on a grid of shapes, as in the paper. Raises Unmeasurable for constant values.
    """
    left, right = values[values < 0], values[values >= 0]
    if not left.size or not right.any():
        raise Unmeasurable("the frame is flat")
    left_variance, right_variance = float(np.mean(left**2)), float(np.mean(right**2))
    gamma = math.sqrt(left_variance / right_variance)
    ratio = float(np.mean(np.abs(values))) ** 2 / float(np.mean(values**2))
    target = ratio * (gamma**3 + 1) * (gamma + 1) / (gamma**2 + 1) ** 2
    shapes, ratios = _shape_table()
    alpha = float(shapes[np.argmin(np.abs(ratios - target))])
    scale = math.sqrt(math.gamma(1 / alpha) / math.gamma(3 / alpha))
    skew = math.sqrt(right_variance) - math.sqrt(left_variance)
    mean = skew * scale * math.gamma(2 / alpha) / math.gamma(1 / alpha)
    return alpha, mean, left_variance, right_variance


@cache
def _shape_table() -> tuple[FloatArray, FloatArray]:
    """Return shapes from 0.2 to 10 and (mean |x|)^2 / mean x^2 of each."""
    shapes = np.arange(200, 10_001) / 1000
    ratios = [
        math.exp(2 * math.lgamma(2 / a) - math.lgamma(1 / a) - math.lgamma(3 / a)) for a in shapes
    ]
    return shapes, np.array(ratios)


@cache
def load_regressor() -> BrisqueRegressor:
    """Load the regressor of the installed ``brisque`` package. Raises MissingModel."""
    spec = find_spec("brisque")
    if spec is None or not spec.submodule_search_locations:
        raise MissingModel(
            "the weights of imaging_quality/brisque are not installed",
            fix="pip install 'mimix[bench]', or remove the metric from scores.metrics.",
        )
    folder = Path(spec.submodule_search_locations[0]) / "models"
    with (folder / "normalize.pickle").open("rb") as stream:
        limits = _PlainUnpickler(stream).load()
    head, body = (folder / "svm.txt").read_text().split("\nSV\n")
    header = dict(line.split(" ", 1) for line in head.splitlines())
    rows = [line.split() for line in body.splitlines()]
    return BrisqueRegressor(
        low=np.array(limits["min_"], dtype=np.float64),
        high=np.array(limits["max_"], dtype=np.float64),
        weights=np.array([float(row[0]) for row in rows]),
        vectors=np.array([[float(entry.split(":")[1]) for entry in row[1:]] for row in rows]),
        gamma=float(header["gamma"]),
        rho=float(header["rho"]),
    )


class _PlainUnpickler(pickle.Unpickler):
    """Unpickles numbers, strings, lists and dicts only, so no code can run."""

    def find_class(self, module_name: str, global_name: str, /) -> NoReturn:
        raise pickle.UnpicklingError(
            f"{module_name}.{global_name} is not allowed in a file of numbers"
        )
