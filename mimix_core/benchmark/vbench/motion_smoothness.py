"""``motion_smoothness``: how well do frames fit between their neighbors? AMT-S.

Every second frame is interpolated from its two neighbors; the score measures how little the result
differs from the true frame. Upstream computes flow at a scale that depends on the GPU's memory, so
a large video scores differently on another GPU: ``gpu_scale`` reproduces that rule for a given
memory size, ``fixed_scale`` (``motion_smoothness/amt-s-fixed-scale``) does not depend on the GPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.batch_size import correlation_batch_size
from mimix_core.benchmark.vbench.networks import amt
from mimix_core.benchmark.vbench.video_reader import DecodedVideo

MIB = 1024**2
LARGE_GPU_BYTES = 80 * 1024 * MIB
"""Memory of an A100 or H100. Up to 3.8 million pixels a frame, larger GPUs use the same scale."""
REFERENCE_GPU_BYTES = 24 * 1024 * MIB
"""The memory for which ``fixed_scale`` applies upstream's rule: 1080p is not scaled down."""

_ANCHOR_PIXELS = 1024 * 512
_ANCHOR_BYTES = 1500 * MIB
_ANCHOR_BYTES_BIAS = 2500 * MIB
_CPU_PIXELS = 8192 * 8192


@dataclass(frozen=True)
class FrameInterpolator:
    """The network, and its flow scale as a function of a frame's height and width."""

    network: amt.AmtS
    scale: Callable[[int, int], float]


def load_model(
    weights_dir: Path, device: torch.device, *, gpu_bytes: int = LARGE_GPU_BYTES
) -> FrameInterpolator:
    """Load AMT-S with upstream's scale for a CPU, or for a GPU with that much memory.

    Raises BadInput for weights of another network.
    """
    scale = cpu_scale if device.type == "cpu" else partial(gpu_scale, gpu_bytes=gpu_bytes)
    return FrameInterpolator(_load_network(weights_dir, device), scale)


def load_fixed_scale_model(weights_dir: Path, device: torch.device) -> FrameInterpolator:
    """Load AMT-S with a scale that depends on the frame size alone.

    Raises BadInput for weights of another network.
    """
    return FrameInterpolator(_load_network(weights_dir, device), fixed_scale)


def _load_network(weights_dir: Path, device: torch.device) -> amt.AmtS:
    path = weights_dir / vbench_weights.AMT
    with torch.device("meta"):
        network = amt.AmtS()
    return vbench_weights.assign_weights(
        network, vbench_weights.load_tensors(path, key="state_dict"), path, device
    )


@torch.no_grad()
def score_video(model: FrameInterpolator, video: DecodedVideo) -> float:
    """Return 0..1, 1 when every second frame equals the one interpolated from its neighbors.

    A last frame without a next neighbor is ignored. Raises Unmeasurable for a video of fewer than
    3 frames, or too small for the network.
    """
    device = next(model.network.parameters()).device
    pixels_TCHW = video.to_tensor(device)
    if len(pixels_TCHW) < 3:
        raise Unmeasurable(f"{len(pixels_TCHW)} frame(s) are too few: at least 3 are needed")
    height, width = pixels_TCHW.shape[-2:]
    scale = model.scale(height, width)
    padding = padding_to_multiple(height, width, int(amt.STRIDE / scale))
    padded_height = height + padding[2] + padding[3]
    padded_width = width + padding[0] + padding[1]
    if min(padded_height, padded_width) * scale < amt.MIN_SIDE:
        raise Unmeasurable(f"a frame of {height} x {width} is too small")
    inputs_TCHW, targets_TCHW = pixels_TCHW[::2], pixels_TCHW[1::2]
    batch_size = correlation_batch_size(padded_height * scale, padded_width * scale, 2, device)
    difference = torch.zeros((), dtype=torch.int64, device=device)
    pairs = len(inputs_TCHW) - 1
    for begin in range(0, pairs, batch_size):
        end = min(begin + batch_size, pairs)
        frames_TCHW = inputs_TCHW[begin : end + 1].contiguous() / 255.0
        frames_TCHW = F.pad(frames_TCHW, padding, mode="replicate")
        middle_BCHW = model.network(frames_TCHW[:-1], frames_TCHW[1:], scale)
        middle_BCHW = middle_BCHW[..., padding[2] :, padding[0] :][..., :height, :width]
        # Upstream truncates to whole levels, and NaN becomes 0.
        levels_BCHW = (middle_BCHW * 255.0).nan_to_num(0).clamp(0, 255).to(torch.uint8)
        difference += (levels_BCHW.short() - targets_TCHW[begin:end].short()).abs().sum()
    mean = float(difference) / (pairs * 3 * height * width)
    return (255.0 - mean) / 255.0


def padding_to_multiple(height: int, width: int, divisor: int) -> tuple[int, int, int, int]:
    """Return the padding left, right, top and bottom after which ``divisor`` divides both sides."""
    pad_width, pad_height = -width % divisor, -height % divisor
    return pad_width // 2, pad_width - pad_width // 2, pad_height // 2, pad_height - pad_height // 2


def cpu_scale(height: int, width: int) -> float:
    """Return upstream's scale on a CPU: 1 up to 67 million pixels."""
    return _quantize_scale(_CPU_PIXELS / (height * width))


def gpu_scale(height: int, width: int, gpu_bytes: int) -> float:
    """Return upstream's scale on a GPU with that total memory, which must exceed 2500 MiB."""
    memory_factor = math.sqrt((gpu_bytes - _ANCHOR_BYTES_BIAS) / _ANCHOR_BYTES)
    return _quantize_scale(_ANCHOR_PIXELS / (height * width) * memory_factor)


def fixed_scale(height: int, width: int) -> float:
    """Return a scale that depends on the frame size alone: 1 up to 1080p, then decreasing."""
    return gpu_scale(height, width, REFERENCE_GPU_BYTES)


def _quantize_scale(pixel_ratio: float) -> float:
    """Return 16 / n for the largest integer n with 16 / n >= sqrt(pixel_ratio); at most 1."""
    return 1 / math.floor(1 / math.sqrt(min(1.0, pixel_ratio)) * amt.STRIDE) * amt.STRIDE
