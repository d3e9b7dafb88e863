"""A tiny SAM2.1 with random weights, from the package's own classes, fast on a CPU."""

from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("sam2", reason="the package sam2 is installed by make setup")

OVERRIDES = (
    "++model.image_encoder.trunk.embed_dim=24",
    "++model.image_encoder.trunk.stages=[1,1,2,1]",
    "++model.image_encoder.trunk.global_att_blocks=[3]",
    "++model.image_encoder.neck.backbone_channel_list=[192,96,48,24]",
    "++model.memory_attention.num_layers=1",
)
IMAGE_SIZE = 128


def build_tiny_sam2(seed: int) -> Any:
    import torch

    from mimix_core.stages.cutouts.sam2 import model_zoo

    torch.manual_seed(seed)
    return model_zoo.build_predictor("tiny", image_size=IMAGE_SIZE, overrides=OVERRIDES)
