"""What is known of the metrics that need no download, by their names ``dimension/backend``."""

from __future__ import annotations

LOWER_IS_BETTER = frozenset({"imaging_quality/brisque"})

RATES_NOISE_ABOVE_FOOTAGE = frozenset(
    {"dynamic_degree/dis-flow", "subject_consistency/efficientnet-lite0"}
)
"""Metrics that rate a video of pure noise at least as high as real footage (docs/benchmark.md).

They compare versions of one model, and say nothing about its quality on their own.
"""
