"""Which frames a dimension sees, and the two rules on frame embeddings that it may share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from mimix_core.benchmark.vbench.video_reader import Unmeasurable, Video

BATCH = 32
"""Frames a network sees at once: a result does not depend on it beyond rounding."""


def middles(count: int, total: int) -> list[int]:
    """The middle frame of each of ``count`` equal parts of a video of ``total`` frames.

    A shorter video gives each of its frames, and the last one again and again. VBench's
    ``get_frame_indices(sample="middle")``.
    """
    borders = np.linspace(0, total, min(count, total) + 1).astype(int)
    chosen = [int(a + b - 1) // 2 for a, b in pairwise(borders)]
    return chosen + chosen[-1:] * (count - len(chosen))


@torch.no_grad()
def embed(
    network: Callable[[Tensor], Tensor],
    prepare: Callable[[Tensor], Tensor],
    video: Video,
    device: torch.device,
) -> Tensor:
    """Embeddings_TD of all frames as the network gives them, ``BATCH`` at a time."""
    batches_BD = [
        network(prepare(pixels_BCHW)) for pixels_BCHW in torch.split(video.pixels(device), BATCH)
    ]
    return torch.cat(batches_BD)


def consistency(embeddings_TD: Tensor) -> float:
    """How much a video stays what it is: 1 is a still.

    The mean over all frames but the first of (cosine to the frame before + cosine to the first)
    / 2, negative cosines as 0. Cosines have the embeddings' precision, as VBench's have. Raises
    Unmeasurable for a single frame.
    """
    if len(embeddings_TD) < 2:
        raise Unmeasurable("one frame cannot change")
    unit_TD = F.normalize(embeddings_TD, dim=-1)
    to_previous_T = F.cosine_similarity(unit_TD[:-1], unit_TD[1:]).clamp(min=0)
    to_first_T = F.cosine_similarity(unit_TD[:1], unit_TD[1:]).clamp(min=0)
    return float(((to_previous_T.double() + to_first_T.double()) / 2).mean())
