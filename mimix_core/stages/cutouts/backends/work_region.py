"""The reduced region around a track in which a CPU backend computes a character's matte."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.stages.cutouts import matting
from mimix_core.stages.cutouts.locate import Box, FrameBoxes
from mimix_core.stages.cutouts.segmenter import CharacterMatte, Images

Floats = NDArray[np.float32]

# Pixels of the region that the graph cut runs on; the edge is refined at full resolution.
_WORK_PIXELS = 45_000
# Margin by which a character may extend beyond its box: manual boxes are not more precise.
_BOX_TOLERANCE = 0.04


@dataclass(frozen=True)
class WorkRegion:
    """The part of the frames around all boxes of a track, at the working resolution.

    ``x0`` .. ``y1``: the region in full-resolution pixels; ``frames_NHWC``: its reduced frames.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    scale: float
    frames_NHWC: Images

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width at the working resolution."""
        return self.frames_NHWC.shape[1], self.frames_NHWC.shape[2]


def crop_work_region(frames_NHWC: Images, boxes: FrameBoxes) -> WorkRegion:
    """Crop the frames around all boxes of a track and reduce them to about 45,000 pixels."""
    height, width = frames_NHWC.shape[1:3]
    present = [box for box in boxes if box is not None]
    union = (
        min(b[0] for b in present),
        min(b[1] for b in present),
        max(b[2] for b in present),
        max(b[3] for b in present),
    )
    x0, y0, x1, y1 = expand_to_pixels(union, 0.15, width, height)
    scale = min(1.0, (_WORK_PIXELS / ((x1 - x0) * (y1 - y0))) ** 0.5)
    size = (max(8, round((x1 - x0) * scale)), max(8, round((y1 - y0) * scale)))
    reduced = [
        cv2.resize(frame[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA) for frame in frames_NHWC
    ]
    return WorkRegion(x0, y0, x1, y1, scale, np.stack(reduced))


def expand_to_pixels(box: Box, margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    """Expand a box by ``margin`` of its size on each side, to integer pixels inside the frame."""
    x0, y0, x1, y1 = box
    dx, dy = margin * (x1 - x0), margin * (y1 - y0)
    left, top = max(0, int(x0 - dx)), max(0, int(y0 - dy))
    right, bottom = min(width, int(np.ceil(x1 + dx))), min(height, int(np.ceil(y1 + dy)))
    return left, top, max(right, left + 2), max(bottom, top + 2)


def rasterize_allowed(region: WorkRegion, boxes: FrameBoxes) -> NDArray[np.bool_]:
    """Rasterize each frame's box, with a small tolerance: where the character may be."""
    loose: list[Box | None] = []
    for box in boxes:
        if box is None:
            loose.append(None)
            continue
        dx, dy = _BOX_TOLERANCE * (box[2] - box[0]), _BOX_TOLERANCE * (box[3] - box[1])
        loose.append((box[0] - dx, box[1] - dy, box[2] + dx, box[3] + dy))
    return matting.rasterize_boxes(loose, (region.x0, region.y0), region.scale, region.shape)


def combine_evidence(
    prior_NHW: Floats, color_NHW: Floats, allowed_NHW: NDArray[np.bool_]
) -> Floats:
    """Combine position and color as independent evidence; color weighs more than position."""
    log_odds: Floats = 0.6 * matting.logit(prior_NHW) + 1.0 * matting.logit(color_NHW)
    probability: Floats = matting.expit(log_odds) * allowed_NHW
    return probability


def compute_matte(
    frames_NHWC: Images,
    region: WorkRegion,
    allowed_NHW: NDArray[np.bool_],
    probability_NHW: Floats,
) -> CharacterMatte:
    """Cut the character out of the region by its probability and refine the edge at full size."""
    flow_maps = matting.neighbor_flow_maps(region.frames_NHWC)
    probability_NHW = matting.smooth_over_time(probability_NHW, flow_maps) * allowed_NHW
    masks = matting.graph_cut(region.frames_NHWC, probability_NHW, allowed_NHW)
    smoothed = matting.smooth_over_time(masks.astype(np.float32), flow_maps) * allowed_NHW
    alphas = np.zeros(frames_NHWC.shape[:3], np.uint8)
    scores = [0.0] * len(frames_NHWC)
    for n, reduced in enumerate(region.frames_NHWC):
        mask = matting.remove_specks((smoothed[n] >= 0.5).astype(np.uint8))
        if mask.any():
            full = frames_NHWC[n, region.y0 : region.y1, region.x0 : region.x1]
            alpha = matting.refine_edge(reduced, mask, full)
            alphas[n, region.y0 : region.y1, region.x0 : region.x1] = np.rint(alpha * 255)
            # Mean probability of the pixels that the graph cut selected.
            scores[n] = round(float(probability_NHW[n][mask > 0].mean()), 4)
    return CharacterMatte(alphas, scores)
