"""``dynamic_degree``: does the video move? RAFT on frames an eighth of a second apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.batch_size import correlation_batch_size
from mimix_core.benchmark.vbench.networks.raft import STRIDE, Raft
from mimix_core.benchmark.vbench.video_reader import DecodedVideo

ITERATIONS = 20
SAMPLE_RATE = 8
"""Frames sampled per second."""
MIN_SIDE = 8 * STRIDE
"""Shortest side in pixels: the coarsest correlation level is 1/8 of the feature map's size."""
_TOP_SHARE = 0.05


def load_model(weights_dir: Path, device: torch.device) -> Raft:
    """Load RAFT. Raises BadInput for weights of another network."""
    path = weights_dir / vbench_weights.RAFT
    tensors = {
        name.removeprefix("module."): value
        for name, value in vbench_weights.load_tensors(path).items()
    }
    with torch.device("meta"):
        network = Raft()
    return vbench_weights.assign_weights(network, tensors, path, device)


def score_video(model: Raft, video: DecodedVideo) -> float:
    """Return 1 for a dynamic video, else 0. Stops computing flow once that is decided.

    Raises Unmeasurable for frames that are too small for the network.
    """
    frames_TCHW = video.to_tensor(next(model.parameters()).device)
    frames_TCHW = frames_TCHW[:: frame_interval(video.fps)]
    magnitudes = top_flow_magnitudes(model, frames_TCHW)
    return float(is_dynamic(magnitudes, len(frames_TCHW), min(frames_TCHW.shape[-2:])))


def frame_interval(fps: float) -> int:
    """Return the number of frames from one sampled frame to the next."""
    return max(1, round(fps / SAMPLE_RATE))


def is_dynamic(magnitudes: Iterable[float], frames: int, short_side: int) -> bool:
    """Decide whether 4 in 16 of the sampled ``frames``, rounded half to even, move.

    ``magnitudes``: mean length in pixels of the longest flow vectors of each frame but the last; a
    frame moves if it exceeds 6 / 256 of the short side. Two frames are always dynamic, because
    upstream's rounding then requires 0 moving frames; a single frame never is.
    """
    threshold, required = 6.0 * (short_side / 256.0), round(4 * (frames / 16.0))
    moving = 0
    for magnitude in magnitudes:
        moving += magnitude > threshold
        if moving >= required:
            return True
    return False


@torch.no_grad()
def top_flow_magnitudes(model: Raft, frames_TCHW: Tensor) -> Iterator[float]:
    """Yield the mean length in pixels of the 5 % longest flow vectors from each frame to the next.

    ``frames_TCHW``: uint8. Flow is computed lazily, one batch of frame pairs at a time.
    """
    height, width = frames_TCHW.shape[-2:]
    pad_height, pad_width = -height % STRIDE, -width % STRIDE
    padding = (
        pad_width // 2,
        pad_width - pad_width // 2,
        pad_height // 2,
        pad_height - pad_height // 2,
    )
    if min(height + pad_height, width + pad_width) < MIN_SIDE:
        raise Unmeasurable(f"a frame of {height} x {width} is too small")
    pairs = len(frames_TCHW) - 1
    batch_size = correlation_batch_size(
        height + pad_height, width + pad_width, 1, frames_TCHW.device
    )
    top_count = int((height + pad_height) * (width + pad_width) * _TOP_SHARE)
    last_features_BCHW: Tensor | None = None
    for begin in range(0, pairs, batch_size):
        end = min(begin + batch_size, pairs)
        frames_BCHW = F.pad(frames_TCHW[begin : end + 1].float(), padding, mode="replicate")
        frames_BCHW = 2 * (frames_BCHW / 255.0) - 1.0
        if last_features_BCHW is None:
            features_BCHW = model.fnet(frames_BCHW)
        else:
            features_BCHW = torch.cat([last_features_BCHW, model.fnet(frames_BCHW[1:])])
        last_features_BCHW = features_BCHW[-1:]
        flow_BCHW = model(frames_BCHW[:-1], features_BCHW[:-1], features_BCHW[1:], ITERATIONS)
        lengths_BP = flow_BCHW.square().sum(dim=1).sqrt().flatten(1)
        yield from lengths_BP.topk(top_count, dim=1, sorted=False).values.mean(dim=1).tolist()
