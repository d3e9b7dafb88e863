"""Random weights and videos from a seed, identical in every process, for VBench's networks."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from mimix_core.benchmark.vbench.video_reader import DecodedVideo

Shapes = dict[str, tuple[int, ...]]
NAMES = Path(__file__).parent / "names"


def upstream_shapes(network: str) -> Shapes:
    """Read names and shapes of the tensors of upstream's own network."""
    lines = (line.split() for line in (NAMES / f"{network}.txt").read_text().splitlines())
    return {name: tuple(int(n) for n in shape.split("x") if n != "-") for name, shape in lines}


def random_weights(shapes: Shapes, seed: int) -> dict[str, torch.Tensor]:
    """Draw weights of about the size of an untrained network's, in the order of their names."""
    rng = np.random.default_rng(seed)
    weights: dict[str, torch.Tensor] = {}
    for name, shape in sorted(shapes.items()):
        values = rng.standard_normal(shape)
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.tensor(1)
            continue
        if name.endswith("running_var"):
            values = np.abs(values) + 0.5
        elif len(shape) > 1:
            values *= 0.6 / np.sqrt(np.prod(shape[1:]))
        elif name.endswith("weight"):
            values = 1 + values / 10
        else:
            values /= 10
        weights[name] = torch.from_numpy(np.asarray(values, dtype=np.float32))
    return share_aliased_layers(weights)


def share_aliased_layers(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Give the layers that RAFT's files store under two names the same values."""
    for name in weights:
        if ".norm3." in name:
            weights[name] = weights[name.replace(".norm3.", ".downsample.1.")]
    return weights


def textured_image(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    """Create an image with detail at every scale, uint8 RGB."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(height // s + 2, width // s + 2, 3)), (width, height)) * s
        for s in (2, 4, 8, 20)
    ]
    image = np.sum(layers, axis=0)
    return (128 + 50 * image / image.std()).clip(0, 255).astype(np.uint8)


def as_video(frames_THWC: NDArray[np.uint8], fps: float = 16.0) -> DecodedVideo:
    return DecodedVideo(frames_THWC, fps, "", Path("random.mp4"))


def pan(height: int, width: int, frames: int, speed: int) -> NDArray[np.uint8]:
    """Pan a window over an image by ``speed`` pixels per frame."""
    wide = textured_image(height, width + speed * frames)
    return np.stack([wide[:, speed * n : speed * n + width] for n in range(frames)])


def noise(height: int, width: int, frames: int) -> NDArray[np.uint8]:
    rng = np.random.default_rng(1)
    return rng.integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
