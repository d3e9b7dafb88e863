"""Cells of a frame, from the packaged network and from a DINOv2 folder with random weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimix_core.benchmark.characters.cell_features import load_cell_encoder
from mimix_core.errors import MissingModel

FRAME = np.random.default_rng(0).integers(0, 255, (90, 160, 3)).astype(np.uint8)


def test_a_frame_has_twenty_rows_whatever_its_size() -> None:
    cells = load_cell_encoder("efficientnet-lite0", None).encode(FRAME)
    assert cells.shape == (20, 36, 320)


@pytest.mark.e2e
def test_patches_of_dinov2_are_the_cells(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(
        hidden_size=24, num_hidden_layers=1, num_attention_heads=2, image_size=56, patch_size=14
    )
    Dinov2Model(config).save_pretrained(tmp_path)
    encoder = load_cell_encoder("dinov2", tmp_path)
    assert encoder.encode(FRAME).shape == (20, 36, 24)


def test_a_missing_model_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match=r"character_scores\.weights"):
        load_cell_encoder("dinov2", tmp_path)
