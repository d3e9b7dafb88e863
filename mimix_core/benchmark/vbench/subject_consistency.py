"""``subject_consistency``: does the subject stay the same? DINO ViT-B/16 on every frame."""

from __future__ import annotations

from pathlib import Path

import torch

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.frame_features import embed_frames, embedding_consistency
from mimix_core.benchmark.vbench.image_transforms import dino_transform
from mimix_core.benchmark.vbench.networks import dino
from mimix_core.benchmark.vbench.video_reader import DecodedVideo


def load_model(weights_dir: Path, device: torch.device) -> dino.Dino:
    """Load DINO. Raises BadInput for weights of another network."""
    return dino.load_dino(weights_dir / vbench_weights.DINO, device)


def score_video(model: dino.Dino, video: DecodedVideo) -> float:
    """Return 0..1, 1 for a still. Raises Unmeasurable for a single frame."""
    return embedding_consistency(embed_frames(model, dino_transform, video, model.cls_token.device))
