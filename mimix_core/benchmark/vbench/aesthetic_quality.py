"""``aesthetic_quality``: how people would rate the frames' looks. CLIP ViT-L/14 and LAION's head.

The head is the linear layer of LAION-AI/aesthetic-predictor, which rates 0..10; the score is a
tenth of that.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.frame_features import embed_frames
from mimix_core.benchmark.vbench.image_transforms import clip_transform
from mimix_core.benchmark.vbench.networks import clip_image
from mimix_core.benchmark.vbench.video_reader import DecodedVideo


@dataclass(frozen=True)
class AestheticPredictor:
    """CLIP's image encoder and the rating head on its unit-length embeddings."""

    encoder: clip_image.ImageEncoder
    head: nn.Linear


def load_model(weights_dir: Path, device: torch.device) -> AestheticPredictor:
    """Load encoder and head. Raises BadInput for weights of another network."""
    path = weights_dir / vbench_weights.LAION
    tensors = vbench_weights.load_tensors(path)
    with vbench_weights.missing_tensor_as_bad_input(path), torch.device("meta"):
        head = nn.Linear(tensors["weight"].shape[1], tensors["weight"].shape[0])
    return AestheticPredictor(
        clip_image.load_image_encoder(weights_dir / vbench_weights.CLIP_L, device),
        vbench_weights.assign_weights(head, tensors, path, device),
    )


@torch.no_grad()
def score_video(model: AestheticPredictor, video: DecodedVideo) -> float:
    """Return the mean rating over all frames, divided by 10."""
    transform = partial(clip_transform, round_to_uint8=False)
    embeddings_TD = embed_frames(model.encoder, transform, video, model.head.weight.device)
    unit_TD = F.normalize(embeddings_TD.float(), dim=-1)
    return float((model.head(unit_TD) / 10).mean())
