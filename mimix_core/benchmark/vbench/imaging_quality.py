"""``imaging_quality``: are the frames technically good? MUSIQ, trained on SPAQ, on every frame."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.batch_size import shown_at_once
from mimix_core.benchmark.vbench.networks.musiq import Musiq
from mimix_core.benchmark.vbench.video_reader import Video

DIMENSION = "imaging_quality"
FILES = (vbench_weights.MUSIQ,)

LONGER_SIDE = 512


def load(weights_dir: Path, device: torch.device) -> Musiq:
    """MUSIQ. Raises BadInput for weights of something else."""
    path = weights_dir / vbench_weights.MUSIQ
    with torch.device("meta"):
        network = Musiq()
    return vbench_weights.fill(network, vbench_weights.tensors(path), path, device)


@torch.no_grad()
def score(model: Musiq, video: Video) -> float:
    """The mean quality of all frames, by 100."""
    device = model.head.weight.device
    pixels_TCHW, at_once = video.pixels(device), shown_at_once(device)
    qualities = [
        model(shown(pixels_TCHW[begin : begin + at_once]))
        for begin in range(0, len(pixels_TCHW), at_once)
    ]
    return float(torch.cat(qualities).double().mean() / 100)


def shown(frames_BCHW: Tensor) -> Tensor:
    """uint8 frames as pictures_BCHW in 0..1, their longer side at most LONGER_SIDE, rounded down.

    They are made smaller without a filter against aliasing, as upstream does.
    """
    height, width = frames_BCHW.shape[-2:]
    floats_BCHW = frames_BCHW.contiguous().float()
    longer = max(height, width)
    if longer > LONGER_SIDE:
        share = LONGER_SIDE / longer
        size = (int(share * height), int(share * width))
        floats_BCHW = F.interpolate(floats_BCHW, size=size, mode="bilinear", align_corners=False)
    return floats_BCHW / 255.0
