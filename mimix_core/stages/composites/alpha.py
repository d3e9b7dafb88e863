"""The edge of a figure: steady in time, soft, and free of the background it was cut out of."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.composites.linear_light import Floats, Images

_NEAR = np.ones((3, 3), np.uint8)
_RIM = np.ones((5, 5), np.uint8)
_SOLID = 250
"""Alpha from which a pixel shows nothing but the figure."""

_REACH, _REACH_PIXELS = 2.0, (11, 11)
"""How far the rim's colours are fetched from: sigma, and the pixels looked at."""

_LEAST_WEIGHT, _SURE_WEIGHT = 0.002, 0.03
"""Share of what lies within reach that is solid: with less a pixel is a hair, with more it is the
rim, in between some of both. A sharp bound would draw a dotted line along ears and tails."""


def steady(alphas_NHW: Images, n: int) -> Images:
    """Alpha of frame ``n``, averaged with those of its two neighbours, which count half.

    The edge moves by no more than a pixel: a mask that trembles becomes quiet, and one that moves
    stays where the figure is in its own frame.
    """
    own = alphas_NHW[n]
    before, after = alphas_NHW[max(n - 1, 0)], alphas_NHW[min(n + 1, len(alphas_NHW) - 1)]
    around = cv2.addWeighted(before, 0.5, after, 0.5, 0)
    mean = cv2.addWeighted(own, 0.5, around, 0.5, 0)
    result: Images = np.clip(mean, cv2.erode(own, _NEAR), cv2.dilate(own, _NEAR))
    return result


def soften(alpha_HW: Images, feather: float) -> Images:
    """Alpha with an edge of about ``feather`` pixels, drawn inwards.

    Inwards, because the outermost pixels of a character hold its old background. Sides that the
    picture cuts stay sharp.
    """
    if feather == 0:
        return alpha_HW
    soft = cv2.GaussianBlur(
        cv2.erode(alpha_HW, _NEAR), (0, 0), sigmaX=feather / 2, borderType=cv2.BORDER_REPLICATE
    )
    result: Images = np.minimum(soft, alpha_HW)
    return result


def extended(light_HWC: Floats, alpha_HW: Images) -> tuple[Floats, NDArray[np.bool_]]:
    """``light_HWC`` with the rim's colours taken from further inside, and the rim.

    A camera and an encoder mix a character's border, two pixels wide, with what was behind it;
    pasted elsewhere, that shows as a ring. Where nothing lies further inside (hairs), the colours
    stay. Known to compositors as extending the edge.
    """
    core = cv2.erode((alpha_HW >= _SOLID).view(np.uint8), _RIM)
    weight = cv2.GaussianBlur(core.astype(np.float32), _REACH_PIXELS, sigmaX=_REACH)
    rim: NDArray[np.bool_] = (core == 0) & (alpha_HW > 0) & (weight > _LEAST_WEIGHT)
    there = np.flatnonzero(rim)
    if not there.size:
        return light_HWC, rim
    inner = cv2.GaussianBlur(cv2.copyTo(light_HWC, core), _REACH_PIXELS, sigmaX=_REACH)
    near, own = weight.reshape(-1, 1)[there], light_HWC.reshape(-1, 3)[there]
    fetched = inner.reshape(-1, 3)[there] / near
    result = light_HWC.copy()
    result.reshape(-1, 3)[there] = own + np.minimum(near / _SURE_WEIGHT, 1) * (fetched - own)
    return result, rim
