"""``motion_smoothness``: how well do frames lie between their neighbours? AMT-S.

Every second frame is left out and made again from the two beside it; the value is how little that
differs from the true frame. Upstream lets the graphics card's memory decide at what size motion is
searched, so that a large video has another value on another card: ``scale_on_card`` keeps that rule
for a card that is named, ``fixed_scale`` (``motion_smoothness/amt-s-fixed-scale``) is free of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.batch_size import correlated_at_once
from mimix_core.benchmark.vbench.networks import amt
from mimix_core.benchmark.vbench.video_reader import Unmeasurable, Video

DIMENSION = "motion_smoothness"
FILES = (vbench_weights.AMT,)

MIB = 1024**2
BIG_CARD = 80 * 1024 * MIB
"""Memory of an A100 or H100, in bytes. Up to 3.8 million pixels a frame, larger cards agree."""
REFERENCE_CARD = 24 * 1024 * MIB
"""The card at which ``fixed_scale`` takes upstream's rule: 1080p is searched in its own size."""

_ANCHOR_PIXELS = 1024 * 512
_ANCHOR_BYTES = 1500 * MIB
_ANCHOR_BYTES_BIAS = 2500 * MIB
_CPU_PIXELS = 8192 * 8192


@dataclass(frozen=True)
class Interpolator:
    """The network, and the share of a frame's size at which it searches, by height and width."""

    network: amt.AmtS
    scale: Callable[[int, int], float]


def load(weights_dir: Path, device: torch.device, *, card_bytes: int = BIG_CARD) -> Interpolator:
    """AMT-S, which scales as upstream does on a CPU, or on a card of that memory.

    Raises BadInput for weights of something else.
    """
    scale = scale_on_cpu if device.type == "cpu" else partial(scale_on_card, card_bytes=card_bytes)
    return Interpolator(_network(weights_dir, device), scale)


def load_fixed_scale(weights_dir: Path, device: torch.device) -> Interpolator:
    """AMT-S, which scales by a frame's size alone. Raises BadInput for other weights."""
    return Interpolator(_network(weights_dir, device), fixed_scale)


def _network(weights_dir: Path, device: torch.device) -> amt.AmtS:
    path = weights_dir / vbench_weights.AMT
    with torch.device("meta"):
        network = amt.AmtS()
    return vbench_weights.fill(
        network, vbench_weights.tensors(path, inside="state_dict"), path, device
    )


@torch.no_grad()
def score(model: Interpolator, video: Video) -> float:
    """0..1, 1 where every second frame is what its neighbours let expect.

    A last frame without a neighbour behind it is not looked at. Raises Unmeasurable for a video of
    fewer than 3 frames, or too small for the network.
    """
    device = next(model.network.parameters()).device
    pixels_TCHW = video.pixels(device)
    if len(pixels_TCHW) < 3:
        raise Unmeasurable(f"{len(pixels_TCHW)} frame(s): none lies between two others")
    height, width = pixels_TCHW.shape[-2:]
    scale = model.scale(height, width)
    border = border_of(height, width, int(amt.STRIDE / scale))
    padded_height = height + border[2] + border[3]
    padded_width = width + border[0] + border[1]
    if min(padded_height, padded_width) * scale < amt.SMALLEST:
        raise Unmeasurable(f"a frame of {height} x {width} is too small")
    known_TCHW, hidden_TCHW = pixels_TCHW[::2], pixels_TCHW[1::2]
    at_once = correlated_at_once(padded_height * scale, padded_width * scale, 2, device)
    difference = torch.zeros((), dtype=torch.int64, device=device)
    compared = len(known_TCHW) - 1
    for begin in range(0, compared, at_once):
        end = min(begin + at_once, compared)
        frames_TCHW = known_TCHW[begin : end + 1].contiguous() / 255.0
        frames_TCHW = F.pad(frames_TCHW, border, mode="replicate")
        made_BCHW = model.network(frames_TCHW[:-1], frames_TCHW[1:], scale)
        made_BCHW = made_BCHW[..., border[2] :, border[0] :][..., :height, :width]
        # Upstream cuts fractions off, and what is no number becomes 0.
        levels_BCHW = (made_BCHW * 255.0).nan_to_num(0).clamp(0, 255).to(torch.uint8)
        difference += (levels_BCHW.short() - hidden_TCHW[begin:end].short()).abs().sum()
    mean = float(difference) / (compared * 3 * height * width)
    return (255.0 - mean) / 255.0


def border_of(height: int, width: int, divisor: int) -> tuple[int, int, int, int]:
    """How much to add left, right, above and below so that ``divisor`` divides both sides."""
    across, down = -width % divisor, -height % divisor
    return across // 2, across - across // 2, down // 2, down - down // 2


def scale_on_cpu(height: int, width: int) -> float:
    """Upstream's scale where there is no card: 1 up to 67 million pixels."""
    return _snapped(_CPU_PIXELS / (height * width))


def scale_on_card(height: int, width: int, card_bytes: int) -> float:
    """Upstream's scale on a card of that total memory, which is more than 2500 MiB."""
    spare = math.sqrt((card_bytes - _ANCHOR_BYTES_BIAS) / _ANCHOR_BYTES)
    return _snapped(_ANCHOR_PIXELS / (height * width) * spare)


def fixed_scale(height: int, width: int) -> float:
    """A scale that depends on a frame's size alone: 1 up to 1080p, then falling with the area."""
    return scale_on_card(height, width, REFERENCE_CARD)


def _snapped(share: float) -> float:
    """16 / n with a whole n, not below the root of that share of the pixels; at most 1."""
    return 1 / math.floor(1 / math.sqrt(min(1.0, share)) * amt.STRIDE) * amt.STRIDE
