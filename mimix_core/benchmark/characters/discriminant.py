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
        projected_NK = features_ND @ self.projection_DK
        differences_NCK = projected_NK[:, None] - self.means_CK[None]
        squares: Doubles = (differences_NCK**2).sum(axis=2)
        return squares / self.projection_DK.shape[1]

    def posteriors(self, features_ND: Floats | Doubles) -> Doubles:
        """Return the probability_NC of each class, all classes equally likely before."""
        logits = -self.distances(features_ND) * (self.projection_DK.shape[1] / 2)
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares: Doubles = odds / odds.sum(axis=1, keepdims=True)
        return shares


def fit_discriminant(
    features_ND: Floats | Doubles,
    labels: Sequence[str],
    nuisance_MD: Floats | Doubles | None = None,
    shrinkage: float = SHRINKAGE,
) -> Discriminant:
    """Fit the discriminant of at least two classes, each counting the same whatever its size.

    ``nuisance_MD``: M directions in which features vary for another reason; they count as
    variation within a class. Raises ValueError for fewer than two classes.
    """
    names = tuple(sorted(set(labels)))
    if len(names) < 2:
        raise ValueError(f"a discriminant needs two classes, not {len(names)}")
    classes = np.array([names.index(label) for label in labels])
    features = features_ND.astype(np.float64)
    means_CD = np.stack([features[classes == one].mean(axis=0) for one in range(len(names))])
    within_DD = np.zeros((features.shape[1], features.shape[1]))
    for one, mean_D in enumerate(means_CD):
        residuals = features[classes == one] - mean_D
        within_DD += residuals.T @ residuals / (len(residuals) * len(names))
    if nuisance_MD is not None:
        directions = nuisance_MD.astype(np.float64)
        within_DD += directions.T @ directions
    scale_D = np.sqrt(np.diag(within_DD)) + 1e-6
    correlation_DD = within_DD / scale_D[:, None] / scale_D[None]
    correlation_DD *= 1 - shrinkage
    correlation_DD[np.diag_indices_from(correlation_DD)] += shrinkage
    lower_DD = np.linalg.cholesky(correlation_DD)
    whitened_DC = np.linalg.solve(lower_DD, ((means_CD - means_CD.mean(axis=0)) / scale_D).T)
    directions_DK = np.linalg.svd(whitened_DC, full_matrices=False)[0][:, : len(names) - 1]
    projection_DK = np.linalg.solve(lower_DD.T, directions_DK) / scale_D[:, None]
    return Discriminant(names, projection_DK, means_CD @ projection_DK)
