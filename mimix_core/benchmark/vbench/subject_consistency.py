"""``subject_consistency``: does the subject stay the same? DINO ViT-B/16 on every frame."""

from __future__ import annotations

from pathlib import Path

import torch

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.frame_features import consistency, embed
from mimix_core.benchmark.vbench.image_transforms import dino_frames
from mimix_core.benchmark.vbench.networks import dino
from mimix_core.benchmark.vbench.video_reader import Video

DIMENSION = "subject_consistency"
FILES = (vbench_weights.DINO,)


def load(weights_dir: Path, device: torch.device) -> dino.Dino:
    """DINO. Raises BadInput for weights of something else."""
    return dino.load(weights_dir / vbench_weights.DINO, device)


def score(model: dino.Dino, video: Video) -> float:
    """0..1, 1 for a still. Raises Unmeasurable for a single frame."""
    return consistency(embed(model, dino_frames, video, model.cls_token.device))
