"""``background_consistency``: does the scene stay the same? CLIP ViT-B/32 on every frame."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.frame_features import embed_frames, embedding_consistency
from mimix_core.benchmark.vbench.image_transforms import clip_transform
from mimix_core.benchmark.vbench.networks import clip_image
from mimix_core.benchmark.vbench.video_reader import DecodedVideo


def load_model(weights_dir: Path, device: torch.device) -> clip_image.ImageEncoder:
    """Load CLIP's image encoder. Raises BadInput for weights of another network."""
    return clip_image.load_image_encoder(weights_dir / vbench_weights.CLIP_B, device)


def score_video(model: clip_image.ImageEncoder, video: DecodedVideo) -> float:
    """Return 0..1, 1 for a still. Raises Unmeasurable for a single frame."""
    transform = partial(clip_transform, round_to_uint8=False)
    return embedding_consistency(embed_frames(model, transform, video, model.proj.device))
