"""``dynamic_degree``: does the video move? RAFT on frames an eighth of a second apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.batch_size import correlated_at_once
from mimix_core.benchmark.vbench.networks.raft import STRIDE, Raft
from mimix_core.benchmark.vbench.video_reader import Unmeasurable, Video

DIMENSION = "dynamic_degree"
FILES = (vbench_weights.RAFT,)

ITERATIONS = 20
RATE = 8
"""Frames looked at per second."""
SMALLEST = 8 * STRIDE
"""Shortest side, in pixels: the coarsest correlations are an eighth of the features' size."""
_TOP_SHARE = 0.05


def load(weights_dir: Path, device: torch.device) -> Raft:
    """RAFT. Raises BadInput for weights of something else."""
    path = weights_dir / vbench_weights.RAFT
    found = {
        name.removeprefix("module."): value for name, value in vbench_weights.tensors(path).items()
    }
    with torch.device("meta"):
        network = Raft()
    return vbench_weights.fill(network, found, path, device)


def score(model: Raft, video: Video) -> float:
    """1 for a video that moves, else 0. Frames are looked at until that is decided.

    Raises Unmeasurable for frames that are too small for the network.
    """
    frames_TCHW = video.pixels(next(model.parameters()).device)
    frames_TCHW = frames_TCHW[:: interval(video.fps)]
    lengths = longest(model, frames_TCHW)
    return float(moves(lengths, len(frames_TCHW), min(frames_TCHW.shape[-2:])))


def interval(fps: float) -> int:
    """How many frames one that is looked at is from the next."""
    return max(1, round(fps / RATE))


def moves(lengths: Iterable[float], frames: int, short_side: int) -> bool:
    """Whether 4 in 16 of so many frames move, rounded to even.

    ``lengths``: of each but the last, how far its fastest parts go, in pixels; a frame moves if
    that is more than 6 / 256 of the short side. Two frames always move, as upstream's rounding
    asks for none that does; a single frame never.
    """
    limit, needed = 6.0 * (short_side / 256.0), round(4 * (frames / 16.0))
    moving = 0
    for length in lengths:
        moving += length > limit
        if moving >= needed:
            return True
    return False


@torch.no_grad()
def longest(model: Raft, frames_TCHW: Tensor) -> Iterator[float]:
    """The mean length, in pixels, of the 5 % longest vectors from each frame to the next.

    ``frames_TCHW``: uint8. Flow is computed as it is asked for, some frames at once.
    """
    height, width = frames_TCHW.shape[-2:]
    down, across = -height % STRIDE, -width % STRIDE
    border = (across // 2, across - across // 2, down // 2, down - down // 2)
    if min(height + down, width + across) < SMALLEST:
        raise Unmeasurable(f"a frame of {height} x {width} is too small")
    pairs = len(frames_TCHW) - 1
    at_once = correlated_at_once(height + down, width + across, 1, frames_TCHW.device)
    top = int((height + down) * (width + across) * _TOP_SHARE)
    last_BCHW: Tensor | None = None
    for begin in range(0, pairs, at_once):
        end = min(begin + at_once, pairs)
        frames_BCHW = F.pad(frames_TCHW[begin : end + 1].float(), border, mode="replicate")
        frames_BCHW = 2 * (frames_BCHW / 255.0) - 1.0
        if last_BCHW is None:
            features_BCHW = model.fnet(frames_BCHW)
        else:
            features_BCHW = torch.cat([last_BCHW, model.fnet(frames_BCHW[1:])])
        last_BCHW = features_BCHW[-1:]
        flow_BCHW = model(frames_BCHW[:-1], features_BCHW[:-1], features_BCHW[1:], ITERATIONS)
        lengths_BP = flow_BCHW.square().sum(dim=1).sqrt().flatten(1)
        yield from lengths_BP.topk(top, dim=1, sorted=False).values.mean(dim=1).tolist()
