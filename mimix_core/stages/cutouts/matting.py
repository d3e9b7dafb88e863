"""Turn a rough probability of where a character is into a clean, stable, soft-edged alpha.

All work happens in a region of interest at a reduced size; only the last step works at full size.
Images are uint8 RGB, probabilities and alphas float32 in 0..1. OpenCV runs on one thread here and
its random numbers are seeded, so the same frames give the same alphas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.images import evenly_spaced_indices

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Lab bins of the color model: coarse in lightness, which shading changes.
_BINS = (16, 32, 32)
_TRAINING_FRAMES = 9


def logit(p: Floats) -> Floats:
    """Log-odds of probabilities, clipped to 0.01 .. 0.99."""
    clipped = np.clip(p, 0.01, 0.99)
    result: Floats = np.log(clipped / (1 - clipped)).astype(np.float32)
    return result


def expit(x: Floats) -> Floats:
    """Logistic sigmoid, the inverse of ``logit``."""
    result: Floats = (1 / (1 + np.exp(-x))).astype(np.float32)
    return result


def color_likelihood(frames_NHWC: Images, prior_NHW: Floats) -> Floats:
    """Compute P(character | color) with one color model per clip, learned from ``prior_NHW``.

    The squared prior weights the pixels: certain ones dominate, uncertain ones hardly count.
    """
    lab = np.stack([cv2.cvtColor(frame, cv2.COLOR_RGB2LAB) for frame in frames_NHWC])
    bins = (lab[..., 0] >> 4).astype(np.int32)
    for channel in (1, 2):
        bins = bins * 32 + (lab[..., channel] >> 3)
    training = evenly_spaced_indices(len(frames_NHWC), _TRAINING_FRAMES)
    bin_count = int(np.prod(_BINS))
    histograms = []
    for weights in (prior_NHW[training] ** 2, (1 - prior_NHW[training]) ** 2):
        counts = np.bincount(bins[training].ravel(), weights.ravel(), bin_count).astype(np.float64)
        histograms.append(_blur_histogram(counts) / max(counts.sum(), 1.0))
    character, background = histograms
    likelihood: Floats = ((character + 1e-6) / (character + background + 2e-6)).astype(np.float32)
    return likelihood[bins]


def _blur_histogram(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Move a quarter of each bin's count to each neighbor, along each axis."""
    cube = counts.reshape(_BINS)
    for axis in range(3):
        pad = [(1, 1) if a == axis else (0, 0) for a in range(3)]
        wide = np.pad(cube, pad, mode="edge")
        n = cube.shape[axis]
        low, mid, high = (np.take(wide, range(s, s + n), axis) for s in range(3))
        cube = 0.25 * low + 0.5 * mid + 0.25 * high
    return cube.ravel()


def neighbor_flow_maps(frames_NHWC: Images) -> list[dict[int, Floats]]:
    """Map each frame's pixels to both neighboring frames by optical flow.

    For each frame: index of the neighbor -> position there of each pixel, [height, width, (x, y)].
    Dense optical flow (DIS, Kroeger et al. 2016).
    """
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    gray = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames_NHWC]
    height, width = frames_NHWC.shape[1:3]
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).astype(np.float32)
    return [
        {
            other: grid + flow.calc(gray[n], gray[other], None)
            for other in (n - 1, n + 1)
            if 0 <= other < len(gray)
        }
        for n in range(len(gray))
    ]


def smooth_over_time(values_NHW: Floats, flow_maps: Sequence[Mapping[int, Floats]]) -> Floats:
    """Average each frame's values with both neighbors at half weight, along the motion.

    ``flow_maps``: the frames' ``neighbor_flow_maps``.
    """
    result = np.empty_like(values_NHW)
    border = cv2.BORDER_REPLICATE
    for n, own in enumerate(values_NHW):
        total = 2.0 * own
        for other, positions in flow_maps[n].items():
            total = total + cv2.remap(
                values_NHW[other], positions, None, cv2.INTER_LINEAR, borderMode=border
            )
        result[n] = total / (2.0 + len(flow_maps[n]))
    return result


def grabcut_labels(probability_HW: Floats, allowed_HW: NDArray[np.bool_]) -> Images:
    """Convert a probability to GrabCut's four labels; pixels outside ``allowed_HW`` are background.

    Likely pixels become certain foreground without erosion: a graph cut prefers short borders and
    would remove ears and fingers that are only probable.
    """
    labels = np.where(probability_HW > 0.5, cv2.GC_PR_FGD, cv2.GC_PR_BGD).astype(np.uint8)
    possible = cv2.dilate((probability_HW > 0.25).astype(np.uint8), np.ones((3, 3), np.uint8))
    labels[probability_HW > 0.8] = cv2.GC_FGD
    labels[(possible == 0) | ~allowed_HW] = cv2.GC_BGD
    return labels


def graph_cut(
    frames_NHWC: Images, probability_NHW: Floats, allowed_NHW: NDArray[np.bool_], *, rounds: int = 1
) -> Images:
    """Segment every frame by graph cut with one pair of color mixtures per clip: 0 or 1.

    The mixtures are learned on a mosaic of frames spread over the clip, so a frame with a poor
    prior is segmented with the colors learned from the others.
    """
    training = evenly_spaced_indices(len(frames_NHWC), _TRAINING_FRAMES)
    labels = [grabcut_labels(p, a) for p, a in zip(probability_NHW, allowed_NHW, strict=True)]
    mosaic = np.concatenate([labels[n] for n in training])
    result = np.zeros(probability_NHW.shape, np.uint8)
    if not (np.isin(mosaic, (cv2.GC_FGD, cv2.GC_PR_FGD)).any() and (mosaic == cv2.GC_BGD).any()):
        return result
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.setRNGSeed(1)  # GrabCut starts from k-means
    image = np.concatenate([frames_NHWC[n] for n in training])
    mode = cv2.GC_INIT_WITH_MASK
    cv2.grabCut(image, mosaic, None, background, foreground, rounds, mode)
    for n, frame in enumerate(frames_NHWC):
        if not (labels[n] != cv2.GC_BGD).any():
            continue
        mode = cv2.GC_EVAL_FREEZE_MODEL
        cv2.grabCut(frame, labels[n], None, background.copy(), foreground.copy(), 1, mode)
        result[n] = labels[n] & 1
    return result


def remove_specks(mask_HW: Images, *, min_component_share: float = 0.15) -> Images:
    """Remove specks and pinholes from a mask.

    Specks are components smaller than ``min_component_share`` of the largest.
    """
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask_HW, connectivity=4)
    if count < 2:
        return mask_HW
    areas = stats[:, cv2.CC_STAT_AREA]
    areas[0] = 0
    large = np.flatnonzero(areas >= min_component_share * areas.max())
    result = np.isin(labels, large).astype(np.uint8)
    count, labels, stats, _ = cv2.connectedComponentsWithStats(1 - result, connectivity=4)
    holes = np.flatnonzero(stats[:, cv2.CC_STAT_AREA] < 0.005 * result.sum())
    result[np.isin(labels, holes) & (result == 0)] = 1
    return result


def refine_edge(
    small_HWC: Images, mask_HW: Images, full_HWC: Images, *, radius: int = 3, smooth: float = 4e-4
) -> Floats:
    """Compute a soft alpha at the size of ``full_HWC`` from a binary mask at that of ``small_HWC``.

    A color guided filter (He, Sun, Tang: Guided Image Filtering, 2013; subsampled as in their
    Fast Guided Filter, 2015): alpha is a local linear function of color near the mask's edge, so
    the edge aligns with the image's. Far from the edge the mask does not change.
    """
    guide_HWC: Floats = (small_HWC / 255).astype(np.float32)
    a, b = _local_linear_coefficients(guide_HWC, mask_HW.astype(np.float32), radius, smooth)
    size = (full_HWC.shape[1], full_HWC.shape[0])
    a_full = cv2.resize(a, size, interpolation=cv2.INTER_LINEAR)
    b_full = cv2.resize(b, size, interpolation=cv2.INTER_LINEAR)
    alpha = cv2.transform(full_HWC.astype(np.float32) / 255 * a_full, np.ones((1, 3))) + b_full
    # The filter leaves a few percent of alpha on either side: stretch the range to remove it.
    alpha = np.clip((alpha - 0.15) / 0.7, 0, 1)
    kernel = np.ones((2 * radius + 1, 2 * radius + 1), np.uint8)
    inner = cv2.erode(mask_HW, kernel)
    outer = cv2.dilate(mask_HW, kernel)
    low = cv2.resize(inner, size, interpolation=cv2.INTER_LINEAR)
    high = cv2.resize(outer, size, interpolation=cv2.INTER_LINEAR)
    result: Floats = np.clip(alpha, low, high).astype(np.float32)
    return result


def _local_linear_coefficients(
    guide_HWC: Floats, p_HW: Floats, radius: int, smooth: float
) -> tuple[Floats, Floats]:
    """Average the coefficients (a [H, W, 3], b [H, W]) of p = a . guide + b around each pixel."""

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
    # Closed-form inverse of the symmetric 3 x 3 covariance.
    i_rr, i_rg, i_rb = gg * bb - gb * gb, gb * rb - rg * bb, rg * gb - gg * rb
    i_gg, i_gb, i_bb = rr * bb - rb * rb, rb * rg - rr * gb, rr * gg - rg * rg
    determinant = i_rr * rr + i_rg * rg + i_rb * rb
    a_red = (i_rr * c_red + i_rg * c_green + i_rb * c_blue) / determinant
    a_green = (i_rg * c_red + i_gg * c_green + i_gb * c_blue) / determinant
    a_blue = (i_rb * c_red + i_gb * c_green + i_bb * c_blue) / determinant
    b = m_p - a_red * m_red - a_green * m_green - a_blue * m_blue
    return mean(cv2.merge([a_red, a_green, a_blue])), mean(b)


def rasterize_boxes(
    boxes: Sequence[tuple[float, float, float, float] | None],
    origin: tuple[int, int],
    scale: float,
    shape: tuple[int, int],
) -> NDArray[np.bool_]:
    """Rasterize each frame's box in a region's scaled pixels: [frames, height, width]."""
    height, width = shape
    allowed = np.zeros((len(boxes), height, width), np.bool_)
    for n, box in enumerate(boxes):
        if box is not None:
            x0, x1 = (round((x - origin[0]) * scale) for x in (box[0], box[2]))
            y0, y1 = (round((y - origin[1]) * scale) for y in (box[1], box[3]))
            allowed[n, max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)] = True
    return allowed
