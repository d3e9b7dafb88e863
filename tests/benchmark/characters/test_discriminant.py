"""Discriminants separate classes of features drawn from known distributions."""

from __future__ import annotations

import numpy as np
import pytest

from mimix_core.benchmark.characters.discriminant import (
    class_moments,
    fit_discriminant,
    fit_labelled,
)


def draw(seed: int, count: int = 200) -> tuple[np.ndarray, list[str]]:
    """Draw two classes that differ by 3 in one direction and vary by 20 in another."""
    rng = np.random.default_rng(seed)
    labels = ["a", "b"] * count
    features = rng.normal(size=(2 * count, 6))
    features[:, 0] += [3.0 * (label == "b") for label in labels]
    features[:, 1] += 20 * rng.normal(size=2 * count) + features[:, 0]
    return features.astype(np.float32), labels


def test_it_ignores_the_direction_in_which_classes_vary_most() -> None:
    found = fit_labelled(*draw(0))
    features, labels = draw(1)
    nearest = found.distances(features).argmin(axis=1)
    right = np.mean([found.names[n] == label for n, label in zip(nearest, labels, strict=True)])
    assert right > 0.9


def test_a_sample_of_the_class_is_about_at_distance_one() -> None:
    found = fit_labelled(*draw(0))
    features, labels = draw(1)
    own = found.distances(features)[:, 0][[label == "a" for label in labels]]
    assert 0.7 < own.mean() < 1.4


def test_posteriors_are_shares() -> None:
    shares = fit_labelled(*draw(0)).posteriors(draw(1)[0])
    assert np.allclose(shares.sum(axis=1), 1)
    assert (shares >= 0).all()


def test_moments_add_up_to_those_of_all_samples() -> None:
    features, labels = draw(0)
    classes = np.array([("a", "b").index(label) for label in labels])
    weights = np.array([0.5, 0.25])
    whole = class_moments(features, classes, ("a", "b"), weights)
    parts = [
        class_moments(features[s], classes[s], ("a", "b"), weights)
        for s in (np.s_[:150], np.s_[150:])
    ]
    added = parts[0] + parts[1]
    assert np.allclose(added.outer_DD, whole.outer_DD, atol=0.01)
    assert np.allclose(added.sums_CD, whole.sums_CD, rtol=1e-6)
    assert np.allclose(added.weights_C, whole.weights_C)


def test_one_class_is_no_discriminant() -> None:
    features, _ = draw(0)
    with pytest.raises(ValueError, match="two classes"):
        fit_discriminant(class_moments(features, np.zeros(len(features), int), ("a",)))
