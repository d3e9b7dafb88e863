"""``background_consistency``: does the scene stay the same? CLIP ViT-B/32 on every frame."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.frame_features import consistency, embed
from mimix_core.benchmark.vbench.image_transforms import clip_frames
from mimix_core.benchmark.vbench.networks import clip_image
from mimix_core.benchmark.vbench.video_reader import Video

DIMENSION = "background_consistency"
FILES = (vbench_weights.CLIP_B,)


def load(weights_dir: Path, device: torch.device) -> clip_image.ImageEncoder:
    """CLIP's image encoder. Raises BadInput for weights of something else."""
    return clip_image.load(weights_dir / vbench_weights.CLIP_B, device)


def score(model: clip_image.ImageEncoder, video: Video) -> float:
    """0..1, 1 for a still. Raises Unmeasurable for a single frame."""
    prepare = partial(clip_frames, as_bytes=False)
    return consistency(embed(model, prepare, video, model.proj.device))
