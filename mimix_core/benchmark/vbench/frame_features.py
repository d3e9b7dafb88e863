"""Frame sampling and frame embeddings that several dimensions share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.vbench.video_reader import DecodedVideo

BATCH_SIZE = 32
"""Frames per batch; results depend on it by rounding only."""


def middle_frame_indices(count: int, total: int) -> list[int]:
    """Return the middle frame of each of ``count`` equal parts of a video of ``total`` frames.

    A shorter video contributes all its frames, the last one repeated. VBench's
    ``get_frame_indices(sample="middle")``.
    """
    borders = np.linspace(0, total, min(count, total) + 1).astype(int)
    indices = [int(a + b - 1) // 2 for a, b in pairwise(borders)]
    return indices + indices[-1:] * (count - len(indices))


@torch.no_grad()
def embed_frames(
    network: Callable[[Tensor], Tensor],
    transform: Callable[[Tensor], Tensor],
    video: DecodedVideo,
    device: torch.device,
) -> Tensor:
    """Return the network's embeddings_TD of all frames, computed ``BATCH_SIZE`` at a time."""
    batches_BD = [
        network(transform(pixels_BCHW))
        for pixels_BCHW in torch.split(video.to_tensor(device), BATCH_SIZE)
    ]
    return torch.cat(batches_BD)


def embedding_consistency(embeddings_TD: Tensor) -> float:
    """Measure how similar the frames of a video remain: 1 for a still.

    The mean over all frames but the first of (cosine to the previous frame + cosine to the first)
    / 2, negative cosines clipped to 0. Cosines have the embeddings' precision, as in VBench. Raises
    Unmeasurable for a single frame.
    """
    if len(embeddings_TD) < 2:
        raise Unmeasurable("consistency needs at least two frames")
    unit_TD = F.normalize(embeddings_TD, dim=-1)
    to_previous_T = F.cosine_similarity(unit_TD[:-1], unit_TD[1:]).clamp(min=0)
    to_first_T = F.cosine_similarity(unit_TD[:1], unit_TD[1:]).clamp(min=0)
    return float(((to_previous_T.double() + to_first_T.double()) / 2).mean())
