"""Pictures of characters' whole figures, encoded at the heights of windows.

The network sees a figure of four cells otherwise than one of fifteen: of a large figure, parts may
be more like a small picture of it than the whole is. So a window is also compared with the
picture at its own height.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.characters.bank import Floats, normalize
from mimix_core.media.images import RgbImage
from mimix_core.networks.efficientnet import STRIDE, extract_features


class FigureExemplars:
    """The first exemplar of each character, encoded at each height that is asked for."""

    def __init__(self, network: Any, images: Mapping[str, RgbImage]) -> None:
        self._network = network
        self._images = images
        self._encoded: dict[tuple[str, int], Floats] = {}

    def similarity(
        self, name: str, unit_WD: Floats, center: Floats, rows_W: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return how similar each of W vectors is to the figure at the same height, rounded.

        ``rows_W``: heights of the vectors' windows in cells. ``center``: what was subtracted from
        the vectors before they were normalized.
        """
        alike_W = np.zeros(len(unit_WD))
        for rows in np.unique(rows_W):
            figure = normalize(self._encode(name, int(rows)) - center)
            same = rows_W == rows
            alike_W[same] = unit_WD[same] @ figure
        rounded: NDArray[np.float64] = alike_W.round(4)
        return rounded

    def _encode(self, name: str, rows: int) -> Floats:
        """Encode a picture as the mean features of its cells, ``rows`` of them in its height."""
        if (name, rows) not in self._encoded:
            image_HWC = self._images[name]
            height, width = image_HWC.shape[:2]
            size = (max(1, round(width / height * rows)) * STRIDE, rows * STRIDE)
            resized = cv2.resize(image_HWC, size, interpolation=cv2.INTER_AREA)
            cells_HWD = extract_features(self._network, resized.astype(np.uint8))
            self._encoded[name, rows] = cells_HWD.mean(axis=(0, 1))
        return self._encoded[name, rows]
