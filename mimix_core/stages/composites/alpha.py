"""Process a figure's alpha edge: stable over time, soft, without its old background."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.composites.linear_light import Floats, Images

_KERNEL_3 = np.ones((3, 3), np.uint8)
_KERNEL_5 = np.ones((5, 5), np.uint8)
_SOLID_ALPHA = 250
"""Alpha from which a pixel shows only the figure."""

_BLUR_SIGMA, _BLUR_KERNEL = 2.0, (11, 11)
"""Gaussian by which colors extend from the solid core to the rim."""

_MIN_CORE_WEIGHT, _FULL_CORE_WEIGHT = 0.002, 0.03
"""Blurred weight of the solid core: below the first a pixel is hair and keeps its color, from the
second on it is rim and gets the core's color, with a linear transition. A sharp threshold would
draw a dotted line along ears and tails."""


def smooth_alpha(alphas_NHW: Images, n: int) -> Images:
    """Average the alpha of frame ``n`` with both neighbors at half weight.

    The edge moves by at most a pixel: a jittering mask becomes stable, and that of a moving figure
    stays in place.
    """
    own = alphas_NHW[n]
    before, after = alphas_NHW[max(n - 1, 0)], alphas_NHW[min(n + 1, len(alphas_NHW) - 1)]
    around = cv2.addWeighted(before, 0.5, after, 0.5, 0)
    mean = cv2.addWeighted(own, 0.5, around, 0.5, 0)
    result: Images = np.clip(mean, cv2.erode(own, _KERNEL_3), cv2.dilate(own, _KERNEL_3))
    return result


def feather_alpha(alpha_HW: Images, feather: float) -> Images:
    """Soften the edge of an alpha inwards by about ``feather`` pixels.

    Inwards, because the outermost pixels of a character contain its old background. Sides at the
    frame's border stay sharp.
    """
    if feather == 0:
        return alpha_HW
    soft = cv2.GaussianBlur(
        cv2.erode(alpha_HW, _KERNEL_3), (0, 0), sigmaX=feather / 2, borderType=cv2.BORDER_REPLICATE
    )
    result: Images = np.minimum(soft, alpha_HW)
    return result


def extend_edge_colors(light_HWC: Floats, alpha_HW: Images) -> tuple[Floats, NDArray[np.bool_]]:
    """Replace the colors of the figure's rim by those from further inside; also return the rim.

    Camera and encoder mix a character's border, two pixels wide, with its background; pasted
    elsewhere, that is visible as a halo. Without solid pixels further inside (hair), the colors
    stay. Compositors call this edge extension.
    """
    core = cv2.erode((alpha_HW >= _SOLID_ALPHA).view(np.uint8), _KERNEL_5)
    weight = cv2.GaussianBlur(core.astype(np.float32), _BLUR_KERNEL, sigmaX=_BLUR_SIGMA)
    rim: NDArray[np.bool_] = (core == 0) & (alpha_HW > 0) & (weight > _MIN_CORE_WEIGHT)
    indices = np.flatnonzero(rim)
    if not indices.size:
        return light_HWC, rim
    inner = cv2.GaussianBlur(cv2.copyTo(light_HWC, core), _BLUR_KERNEL, sigmaX=_BLUR_SIGMA)
    core_weight, own = weight.reshape(-1, 1)[indices], light_HWC.reshape(-1, 3)[indices]
    extended = inner.reshape(-1, 3)[indices] / core_weight
    blend = np.minimum(core_weight / _FULL_CORE_WEIGHT, 1)
    result = light_HWC.copy()
    result.reshape(-1, 3)[indices] = own + blend * (extended - own)
    return result, rim
