"""The error of a metric that has no value for a video."""

from __future__ import annotations


class Unmeasurable(Exception):
    """A metric is undefined for this video."""
