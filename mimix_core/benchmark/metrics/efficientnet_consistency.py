"""``subject_consistency/efficientnet-lite0``: does the subject stay the same?

VBench's rule with another network: for each frame the mean of its cosine similarity to the
previous frame and to the first, negative values clipped to 0, averaged over all frames but the
first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.metric_errors import Unmeasurable
from mimix_core.benchmark.metrics.video_features import VideoFeatures
from mimix_core.networks.efficientnet import MEAN, STD, load_network

_FRAMES = 11
_SIZE = 224


def build_subject_consistency() -> Callable[[VideoFeatures], float]:
    """Load the network and return the metric function.

    Raises MissingModel when the packages with the network and its weights are not installed.
    """
    network = load_network()

    def measure(features: VideoFeatures) -> float:
        return frame_consistency(embed_frames(network, list(features.sample_frames(_FRAMES))))

    return measure


def frame_consistency(embeddings_ND: NDArray[np.float64]) -> float:
    """Apply the module's rule to unit-length embeddings. Raises Unmeasurable for one frame."""
    if len(embeddings_ND) < 2:
        raise Unmeasurable("consistency needs at least two frames")
    to_previous = (embeddings_ND[1:] * embeddings_ND[:-1]).sum(axis=1).clip(min=0)
    to_first = (embeddings_ND[1:] @ embeddings_ND[0]).clip(min=0)
    return float(((to_previous + to_first) / 2).mean())


def embed_frames(network: Any, frames_HWC: list[NDArray[np.uint8]]) -> NDArray[np.float64]:
    """Return unit-length embeddings_ND of RGB frames, resized to the network's square input."""
    import torch

    pixels_NHWC = np.stack(
        [cv2.resize(f, (_SIZE, _SIZE), interpolation=cv2.INTER_AREA) for f in frames_HWC]
    ).astype(np.float32)
    batch_NCHW = torch.from_numpy((pixels_NHWC - MEAN) / STD).permute(0, 3, 1, 2)
    with torch.no_grad():
        pooled_ND = network.extract_features(batch_NCHW.contiguous()).mean(dim=(2, 3)).double()
    unit_ND: NDArray[np.float64] = torch.nn.functional.normalize(pooled_ND, dim=1).numpy()
    return unit_ND
