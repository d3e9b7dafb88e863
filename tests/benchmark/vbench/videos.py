"""Small synthetic videos with known answers, as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.vbench.video_reader import DecodedVideo

Frames = NDArray[np.uint8]


def scene(seed: int, height: int = 60, width: int = 70) -> Frames:
    """An image of colored squares."""
    squares = np.random.default_rng(seed).integers(0, 256, (height // 10, width // 10, 3))
    return np.kron(squares, np.ones((10, 10, 1))).astype(np.uint8)


def still(count: int = 5, seed: int = 1) -> Frames:
    return np.stack([scene(seed)] * count)


def pan(step: int, count: int = 5) -> Frames:
    return np.stack([np.roll(scene(1), step * t, axis=1) for t in range(count)])


def noisy(amount: float, count: int = 5) -> Frames:
    """A still with noise of that amplitude, different in every frame."""
    noise = np.random.default_rng(5).normal(0, 1, (count, *scene(1).shape))
    return (scene(1) + amount * noise).clip(0, 255).astype(np.uint8)


def switch(count: int = 5) -> Frames:
    """A still that switches to another one in the middle."""
    return np.concatenate([still(count // 2, 1), still(count - count // 2, 2)])


def video(frames_THWC: Frames, prompt: str = "") -> DecodedVideo:
    return DecodedVideo(np.ascontiguousarray(frames_THWC), 16.0, prompt, Path("synthetic.mp4"))
