"""Describe a frame by the features of its cells, on which everything else here is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mimix_core.benchmark.characters.discriminant import Floats
from mimix_core.errors import MissingModel
from mimix_core.media.images import RgbImage

ROWS = 20
"""Rows of cells in a frame, whatever its size; columns follow from its aspect."""

PACKAGED, DINOV2 = "efficientnet-lite0", "dinov2"
BACKENDS = (PACKAGED, DINOV2)


@dataclass(frozen=True)
class CellEncoder:
    """A network that describes the cells of a frame. ``cell``: side of one in its input, pixels.

    ``extract``: from an RGB image, whose sides are multiples of ``multiple``, to features_YXD.
    """

    name: str
    cell: int
    multiple: int
    extract: Callable[[RgbImage], Floats]

    def encode(self, frame_HWC: RgbImage) -> Floats:
        """Return features_YXD of a frame in ``ROWS`` rows."""
        height, width = frame_HWC.shape[:2]
        step = self.multiple // self.cell
        columns = max(step, round(width / height * ROWS / step) * step)
        size = (columns * self.cell, ROWS * self.cell)
        enlarges = size[0] > width
        resized = cv2.resize(
            frame_HWC, size, interpolation=cv2.INTER_CUBIC if enlarges else cv2.INTER_AREA
        )
        return self.extract(resized.astype(np.uint8))


def load_cell_encoder(backend: str, weights: Path | None, device: str = "cpu") -> CellEncoder:
    """Load the encoder of a backend. Raises MissingModel without its package or its folder."""
    if backend == PACKAGED:
        from mimix_core.networks.efficientnet import (
            CELL,
            STRIDE,
            extract_cell_features,
            load_network,
        )

        return CellEncoder(PACKAGED, CELL, STRIDE, partial(extract_cell_features, load_network()))
    if weights is None or not (weights / "config.json").is_file():
        raise MissingModel(
            f"the backend {backend} needs a model folder",
            where="settings, key character_scores.weights",
            fix="Set it to a folder with config.json and model.safetensors of DINOv2 "
            "(docs/character-scores.md).",
        )
    return _load_dinov2(weights, device)


def _load_dinov2(weights: Path, device: str) -> CellEncoder:
    """Load DINOv2 (Oquab et al. 2023) with transformers: its patches are the cells."""
    import torch
    from transformers import Dinov2Model

    network: Any = Dinov2Model.from_pretrained(weights, local_files_only=True).to(device).eval()
    patch = int(network.config.patch_size)
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    deviation = np.array([0.229, 0.224, 0.225], np.float32)

    def extract(image_HWC: RgbImage) -> Floats:
        pixels_HWC = (image_HWC.astype(np.float32) / 255 - mean) / deviation
        batch = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None].to(device)
        with torch.no_grad():
            tokens = network(batch).last_hidden_state[0, 1:]
        rows, columns = (side // patch for side in image_HWC.shape[:2])
        cells: Floats = tokens.reshape(rows, columns, -1).float().cpu().numpy()
        return cells

    return CellEncoder(DINOV2, patch, patch, extract)
