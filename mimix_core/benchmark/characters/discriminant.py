"""Linear discriminants: directions in which classes of features differ more than one class varies.

Fisher's discriminant with a covariance shrunk towards its diagonal. Nothing in it is random, and
nothing is chosen by hand but the shrinkage: the same features give the same discriminant.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

SHRINKAGE = 0.05
"""Share of the diagonal in the covariance within a class."""


@dataclass(frozen=True)
class Discriminant:
    """Compare features with the means of classes where one class varies by 1 in each direction.

    ``projection_DK``: from D features to K directions. ``means_CK``: of the classes ``names``.
    """

    names: tuple[str, ...]
    projection_DK: Doubles
    means_CK: Doubles

    def distances(self, features_ND: Floats | Doubles) -> Doubles:
        """Return squared distances_NC to the mean of each class, as a share of the expected one.

        Expected are K: a feature vector of the class itself is at about 1.
        """
        projected_NK = features_ND @ self.projection_DK.astype(features_ND.dtype)
        differences_NCK = projected_NK.astype(np.float64)[:, None] - self.means_CK[None]
        squares: Doubles = (differences_NCK**2).sum(axis=2)
        squares /= self.projection_DK.shape[1]
        return squares

    def posteriors(self, features_ND: Floats | Doubles) -> Doubles:
        """Return the probability_NC of each class, all classes equally likely before."""
        logits = -self.distances(features_ND) * (self.projection_DK.shape[1] / 2)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: Doubles = odds / odds.sum(axis=1, keepdims=True)
        return shares


@dataclass(frozen=True)
class ClassMoments:
    """What a discriminant needs of features, and can be added up: sums over samples.

    ``weights_C``: of the classes' samples. ``sums_CD``: of their features. ``outer_DD``: of the
    products of all features.
    """

    names: tuple[str, ...]
    weights_C: Doubles
    sums_CD: Doubles
    outer_DD: Doubles

    def __add__(self, other: ClassMoments) -> ClassMoments:
        return ClassMoments(
            self.names,
            self.weights_C + other.weights_C,
            self.sums_CD + other.sums_CD,
            self.outer_DD + other.outer_DD,
        )


def class_moments(
    features_ND: Floats,
    classes_N: NDArray[np.int64],
    names: tuple[str, ...],
    weights_C: Doubles | None = None,
) -> ClassMoments:
    """Add up features of the classes ``names``, whose numbers are ``classes_N``.

    ``weights_C``: of one sample of each class; by default all classes weigh the same together.
    """
    if weights_C is None:
        weights_C = 1 / np.maximum(np.bincount(classes_N, minlength=len(names)), 1)
    sample_weights_N = weights_C[classes_N]
    scaled_ND = features_ND * np.sqrt(sample_weights_N)[:, None].astype(features_ND.dtype)
    sums_CD = np.zeros((len(names), features_ND.shape[1]))
    for one in range(len(names)):
        sums_CD[one] = features_ND[classes_N == one].sum(axis=0, dtype=np.float64)
    return ClassMoments(
        names,
        np.bincount(classes_N, sample_weights_N, len(names)).astype(np.float64),
        sums_CD * weights_C[:, None],
        (scaled_ND.T @ scaled_ND).astype(np.float64),
    )


def fit_discriminant(moments: ClassMoments, shrinkage: float = SHRINKAGE) -> Discriminant:
    """Fit the discriminant of at least two classes, all of them with samples.

    Raises ValueError otherwise.
    """
    names, weights_C = moments.names, moments.weights_C
    if len(names) < 2 or not (weights_C > 0).all():
        raise ValueError(f"a discriminant needs samples of two classes, not of {weights_C}")
    means_CD = moments.sums_CD / weights_C[:, None]
    between_DD = (means_CD * weights_C[:, None]).T @ means_CD
    within_DD = (moments.outer_DD - between_DD) / weights_C.sum()
    scale_D = np.sqrt(np.maximum(np.diag(within_DD), 0)) + 1e-6
    correlation_DD = within_DD / scale_D[:, None] / scale_D[None]
    correlation_DD *= 1 - shrinkage
    correlation_DD[np.diag_indices_from(correlation_DD)] += shrinkage
    lower_DD = np.linalg.cholesky(correlation_DD)
    whitened_DC = np.linalg.solve(lower_DD, ((means_CD - means_CD.mean(axis=0)) / scale_D).T)
    directions_DK = np.linalg.svd(whitened_DC, full_matrices=False)[0][:, : len(names) - 1]
    projection_DK = np.linalg.solve(lower_DD.T, directions_DK) / scale_D[:, None]
    return Discriminant(names, projection_DK, means_CD @ projection_DK)


def fit_labelled(
    features_ND: Floats, labels: Sequence[str], shrinkage: float = SHRINKAGE
) -> Discriminant:
    """Fit the discriminant of features with their labels. Raises ValueError for one class."""
    names = tuple(sorted(set(labels)))
    classes = np.array([names.index(label) for label in labels])
    return fit_discriminant(class_moments(features_ND, classes, names), shrinkage)
