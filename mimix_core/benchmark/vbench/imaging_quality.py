"""``imaging_quality``: technical quality of the frames. MUSIQ, trained on SPAQ, on every frame."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.batch_size import patch_batch_size
from mimix_core.benchmark.vbench.networks.musiq import Musiq
from mimix_core.benchmark.vbench.video_reader import DecodedVideo

MAX_SIDE = 512


def load_model(weights_dir: Path, device: torch.device) -> Musiq:
    """Load MUSIQ. Raises BadInput for weights of another network."""
    path = weights_dir / vbench_weights.MUSIQ
    with torch.device("meta"):
        network = Musiq()
    return vbench_weights.assign_weights(network, vbench_weights.load_tensors(path), path, device)


@torch.no_grad()
def score_video(model: Musiq, video: DecodedVideo) -> float:
    """Return the mean quality of all frames, divided by 100."""
    device = model.head.weight.device
    pixels_TCHW, batch_size = video.to_tensor(device), patch_batch_size(device)
    qualities = [
        model(resize_frames(pixels_TCHW[begin : begin + batch_size]))
        for begin in range(0, len(pixels_TCHW), batch_size)
    ]
    return float(torch.cat(qualities).double().mean() / 100)


def resize_frames(frames_BCHW: Tensor) -> Tensor:
    """Convert uint8 frames to 0..1 and shrink their longer side to MAX_SIDE, rounded down.

    As upstream, shrinking is not antialiased.
    """
    height, width = frames_BCHW.shape[-2:]
    floats_BCHW = frames_BCHW.contiguous().float()
    longer = max(height, width)
    if longer > MAX_SIDE:
        ratio = MAX_SIDE / longer
        size = (int(ratio * height), int(ratio * width))
        floats_BCHW = F.interpolate(floats_BCHW, size=size, mode="bilinear", align_corners=False)
    return floats_BCHW / 255.0
