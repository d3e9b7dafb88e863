"""From a rough guess of where a character is to a clean, steady, soft-edged alpha.

All work happens in a region of interest at a reduced size; only the last step goes to full size.
Images are uint8 RGB, probabilities and alphas float32 in 0..1. cv2 runs on one thread here and its
random numbers are seeded, so the same frames give the same alphas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Lab bins of the colour model: coarse in lightness, which shading changes.
_BINS = (16, 32, 32)
_MOSAIC_FRAMES = 9


def logit(p: Floats) -> Floats:
    clipped = np.clip(p, 0.01, 0.99)
    result: Floats = np.log(clipped / (1 - clipped)).astype(np.float32)
    return result


def expit(x: Floats) -> Floats:
    result: Floats = (1 / (1 + np.exp(-x))).astype(np.float32)
    return result


def spread(count: int, wanted: int) -> list[int]:
    """``wanted`` indices (or all) spread evenly over ``range(count)``."""
    return sorted({round(i) for i in np.linspace(0, count - 1, min(wanted, count)).tolist()})


def colour_evidence(frames_NHWC: Images, prior_NHW: Floats) -> Floats:
    """P(character | colour), one colour model for the whole clip, learned from ``prior_NHW``.

    The prior's squares are the weights: what it is sure of teaches, what it doubts hardly counts.
    """
    lab = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2LAB) for frame in frames_NHWC])
    bins = (lab[..., 0] >> 4).astype(np.int32)
    for channel in (1, 2):
        bins = bins * 32 + (lab[..., channel] >> 3)
    taught = spread(len(frames_NHWC), _MOSAIC_FRAMES)
    sizes = int(np.prod(_BINS))
    histograms = []
    for weights in (prior_NHW[taught] ** 2, (1 - prior_NHW[taught]) ** 2):
        counts = np.bincount(bins[taught].ravel(), weights.ravel(), sizes).astype(np.float64)
        histograms.append(_blurred(counts) / max(counts.sum(), 1.0))
    own, other = histograms
    share: Floats = ((own + 1e-6) / (own + other + 2e-6)).astype(np.float32)
    return share[bins]


def _blurred(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bins share a quarter of their count with each neighbour, along each axis."""
    cube = counts.reshape(_BINS)
    for axis in range(3):
        pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        wide = np.pad(cube, pad, mode="edge")
        n = cube.shape[axis]
        low, mid, high = (np.take(wide, range(s, s + n), axis) for s in range(3))
        cube = 0.25 * low + 0.5 * mid + 0.25 * high
    return cube.ravel()


def correspondences(frames_NHWC: Images) -> list[dict[int, Floats]]:
    """For each frame: neighbour's index -> where in it each pixel lies, [height, width, (x, y)].

    Dense optical flow (DIS, Kroeger et al. 2016).
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    grey = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_NHWC]
    height, width = frames_NHWC.shape[1:3]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    return [
        {
            other: grid + flow.calc(grey[n], grey[other], None)
            for other in (n - 1, n + 1)
            if 0 <= other < len(grey)
        }
        for n in range(len(grey))
    ]


def steady(values_NHW: Floats, there: Sequence[Mapping[int, Floats]]) -> Floats:
    """``values_NHW`` averaged with those of both neighbours, which count half.

    ``there``: the frames' ``correspondences``, so that what moves is averaged along its way.
    """
    result = np.empty_like(values_NHW)
    for n, own in enumerate(values_NHW):
        total = 2.0 * own
        for other, place in there[n].items():
            total = total + cv2.remap(
                values_NHW[other], place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        result[n] = total / (2.0 + len(there[n]))
    return result


def seeds(probability_HW: Floats, allowed_HW: NDArray[np.bool_]) -> Images:
    """GrabCut's four labels from a probability; nothing outside ``allowed_HW`` can be character.

    What is likely counts as certain without being shrunk first: a cut prefers short borders, and
    takes off ears and fingers that it is free to take.
    """
    labels = np.where(probability_HW > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    possible = cv2.dilate((probability_HW > 0.25).astype(np.uint8), np.ones((3, 3), np.uint8))
    labels[probability_HW > 0.8] = cv2.GC_FGD
    labels[(possible == 0) | ~allowed_HW] = cv2.GC_BGD
    return labels


def cut(
    frames_NHWC: Images, probability_NHW: Floats, allowed_NHW: NDArray[np.bool_], *, rounds: int = 1
) -> Images:
    """Graph cut of every frame, with one pair of colour mixtures for the whole clip: 0 or 1.

    The mixtures are learned on a mosaic of frames spread over the clip, so that a frame whose
    prior is poor is cut with what the others know.
    """
    taught = spread(len(frames_NHWC), _MOSAIC_FRAMES)
    labels = [seeds(p, a) for p, a in zip(probability_NHW, allowed_NHW, strict=True)]
    mosaic = np.concatenate([labels[n] for n in taught])
    result = np.zeros(probability_NHW.shape, np.uint8)
    if not (np.isin(mosaic, (cv2.GC_FGD, cv2.GC_PR_FGD)).any() and (mosaic == cv2.GC_BGD).any()):
        return result
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(1)  # GrabCut starts from k-means
    picture = np.concatenate([frames_NHWC[n] for n in taught])
    mode = cv2.GC_INIT_WITH_MASK
    cv2.grabCut(picture, mosaic, None, background, foreground, rounds, mode)
    for n, frame in enumerate(frames_NHWC):
        if not (labels[n] != cv2.GC_BGD).any():
            continue
        mode = cv2.GC_EVAL_FREEZE_MODEL
        cv2.grabCut(frame, labels[n], None, background.copy(), foreground.copy(), 1, mode)
        result[n] = labels[n] & 1
    return result


def tidy(mask_HW: Images, *, keep: float = 0.15) -> Images:
    """Without specks (components below ``keep`` of the largest) and without pinholes."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask_HW, connectivity=4)
    if count < 2:
        return mask_HW
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    kept = np.isin(labels, np.flatnonzero(areas >= keep * areas.max())).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - kept, connectivity=4)
    holes = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < 0.005 * kept.sum())
    kept[np.isin(labels, holes) & (kept == 0)] = 1
    return kept


def soft_edge(
    small_HWC: Images, mask_HW: Images, full_HWC: Images, *, radius: int = 3, smooth: float = 4e-4
) -> Floats:
    """Alpha at the size of ``full_HWC`` from a hard mask at the size of ``small_HWC``.

    A colour guided filter (He, Sun, Tang: Guided Image Filtering, 2013; subsampled as in their
    Fast Guided Filter, 2015): alpha is a local linear function of colour near the mask's edge, so
    the edge follows the picture's own. Far from the edge the mask stays as it is.
    """
    guide_HWC: Floats = (small_HWC / 255).astype(np.float32)
    a, b = _local_lines(guide_HWC, mask_HW.astype(np.float32), radius, smooth)
    size = (full_HWC.shape[1], full_HWC.shape[0])
    a_full = cv2.resize(a, size, interpolation=cv2.INTER_LINEAR)
    b_full = cv2.resize(b, size, interpolation=cv2.INTER_LINEAR)
    alpha = cv2.transform(full_HWC.astype(np.float32) / 255 * a_full, np.ones((1, 3))) + b_full
    # The filter leaves a veil of a few percent on either side: stretch it away.
    alpha = np.clip((alpha - 0.15) / 0.7, 0, 1)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    inner = cv2.erode(mask_HW, kernel)
    outer = cv2.dilate(mask_HW, kernel)
    low = cv2.resize(inner, size, interpolation=cv2.INTER_LINEAR)
    high = cv2.resize(outer, size, interpolation=cv2.INTER_LINEAR)
    result: Floats = np.clip(alpha, low, high).astype(np.float32)
    return result


def _local_lines(
    guide_HWC: Floats, p_HW: Floats, radius: int, smooth: float
) -> tuple[Floats, Floats]:
    """Mean coefficients (a [H, W, 3], b [H, W]) of p = a . guide + b around each pixel."""

    def mean(x: Floats) -> Floats:
        size = (2 * radius + 1, 2 * radius + 1)
        blurred: Floats = cv2.boxFilter(x, -1, size, borderType=cv2.BORDER_REFLECT)
        return blurred

    red, green, blue = cv2.split(guide_HWC)
    m_red, m_green, m_blue = cv2.split(mean(guide_HWC))
    m_p = mean(p_HW)
    c_red, c_green, c_blue = cv2.split(
        mean(guide_HWC * p_HW[..., None]) - cv2.merge([m_red * m_p, m_green * m_p, m_blue * m_p])
    )
    rr = mean(red * red) - m_red * m_red + smooth
    rg = mean(red * green) - m_red * m_green
    rb = mean(red * blue) - m_red * m_blue
    gg = mean(green * green) - m_green * m_green + smooth
    gb = mean(green * blue) - m_green * m_blue
    bb = mean(blue * blue) - m_blue * m_blue + smooth
    # Inverse of the symmetric 3 x 3 covariance, written out.
    i_rr, i_rg, i_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    i_gg, i_gb, i_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = i_rr * rr + i_rg * rg + i_rb * rb
    a_red = (i_rr * c_red + i_rg * c_green + i_rb * c_blue) / determinant
    a_green = (i_rg * c_red + i_gg * c_green + i_gb * c_blue) / determinant
    a_blue = (i_rb * c_red + i_gb * c_green + i_bb * c_blue) / determinant
    b = m_p - a_red * m_red - a_green * m_green - a_blue * m_blue
    return mean(cv2.merge([a_red, a_green, a_blue])), mean(b)


def boxes_allowed(
    boxes: Sequence[tuple[float, float, float, float] | None],
    origin: tuple[int, int],
    scale: float,
    shape: tuple[int, int],
) -> NDArray[np.bool_]:
    """[frames, height, width]: what lies in each frame's box, in a region's scaled pixels."""
    height, width = shape
    allowed = np.zeros((len(boxes), height, width), np.bool_)
    for n, box in enumerate(boxes):
        if box is not None:
            x0, x1 = (round((x - origin[0]) * scale) for x in (box[0], box[2]))
            y0, y1 = (round((y - origin[1]) * scale) for y in (box[1], box[3]))
            allowed[n, max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return allowed
