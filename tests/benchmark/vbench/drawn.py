"""Weights and videos drawn from a seed, the same in any process, for the networks of VBench."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mimix_core.benchmark.vbench.video_reader import Video

Shapes = dict[str, tuple[int, ...]]
NAMES = Path(__file__).parent / "names"


def upstream_shapes(network: str) -> Shapes:
    """Names and shapes of the tensors in upstream's file, as upstream's own network lists them."""
    lines = (line.split() for line in (NAMES / f"{network}.txt").read_text().splitlines())
    return {name: tuple(int(n) for n in shape.split("x") if n != "-") for name, shape in lines}


def weights(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """Values of about the size of an untrained network, drawn in the order of the names."""
    numbers = np.random.default_rng(seed)
    drawn: dict[str, torch.Tensor] = {}
    for name, shape in sorted(shapes.items()):
        values = numbers.standard_normal(shape)
        if name.endswith("num_batches_tracked"):
            drawn[name] = torch.tensor(1)
            continue
        if name.endswith("running_var"):
            values = np.abs(values) + 0.5
        elif len(shape) > 1:
            values *= 0.6 / np.sqrt(np.prod(shape[1:]))
        elif name.endswith("weight"):
            values = 1 + values / 10
        else:
            values /= 10
        drawn[name] = torch.from_numpy(np.asarray(values, dtype=np.float32))
    return same_twice(drawn)


def same_twice(drawn: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """RAFT's files hold some layers under two names: the two are one layer."""
    for name in drawn:
        if ".norm3." in name:
            drawn[name] = drawn[name.replace(".norm3.", ".downsample.1.")]
    return drawn


def picture(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """A picture with detail at every size, uint8 RGB."""
    numbers = np.random.default_rng(seed)
    layers = [
        cv2.resize(numbers.normal(size=(height // s + 2, width // s + 2, 3)), (width, height)) * s
        for s in (2, 4, 8, 20)
    ]
    image = np.sum(layers, axis=0)
    return (128 + 50 * image / image.std()).clip(0, 255).astype(np.uint8)


def video(frames_THWC: NDArray[np.uint8], fps: float = 16.0) -> Video:
    return Video(frames_THWC, fps, "", Path("drawn.mp4"))


def pan(height: int, width: int, frames: int, speed: int) -> NDArray[np.uint8]:
    """A window that moves over a picture by ``speed`` pixels a frame."""
    wide = picture(height, width + speed * frames)
    return np.stack([wide[:, speed * n : speed * n + width] for n in range(frames)])


def noise(height: int, width: int, frames: int) -> NDArray[np.uint8]:
    numbers = np.random.default_rng(1)
    return numbers.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
