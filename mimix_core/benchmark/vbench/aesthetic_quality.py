"""``aesthetic_quality``: how people would rate the frames' looks. CLIP ViT-L/14 and LAION's head.

The head is LAION-AI/aesthetic-predictor's linear layer: 0..10, here by 10.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.frame_features import embed
from mimix_core.benchmark.vbench.image_transforms import clip_frames
from mimix_core.benchmark.vbench.networks import clip_image
from mimix_core.benchmark.vbench.video_reader import Video

DIMENSION = "aesthetic_quality"
FILES = (vbench_weights.CLIP_L, vbench_weights.LAION)


@dataclass(frozen=True)
class Critic:
    """The image encoder, and the rating on its unit-length embeddings."""

    encoder: clip_image.ImageEncoder
    rating: nn.Linear


def load(weights_dir: Path, device: torch.device) -> Critic:
    """Encoder and head. Raises BadInput for weights of something else."""
    path = weights_dir / vbench_weights.LAION
    found = vbench_weights.tensors(path)
    with vbench_weights.named_sizes(path), torch.device("meta"):
        head = nn.Linear(found["weight"].shape[1], found["weight"].shape[0])
    return Critic(
        clip_image.load(weights_dir / vbench_weights.CLIP_L, device),
        vbench_weights.fill(head, found, path, device),
    )


@torch.no_grad()
def score(model: Critic, video: Video) -> float:
    """The mean rating over all frames, by 10."""
    prepare = partial(clip_frames, as_bytes=False)
    embeddings_TD = embed(model.encoder, prepare, video, model.rating.weight.device)
    unit_TD = F.normalize(embeddings_TD.float(), dim=-1)
    return float((model.rating(unit_TD) / 10).mean())
