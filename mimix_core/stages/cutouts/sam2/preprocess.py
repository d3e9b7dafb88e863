"""Convert frames to SAM2's square input and masks back: margin, resize, normalization.

SAM2 is poor at the edge of its input. Each frame gets a margin that replicates its outermost
pixels, so a character cut off by the frame has an outline there; masks in the margin are discarded.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from mimix_core.stages.cutouts.locate import Box
from mimix_core.stages.cutouts.sam2.visual_prompts import VisualPrompt

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which SAM2 was trained with (sam2/utils/misc.py)."""

# A box side this close to the frame's edge (pixels) is extended through the margin.
_EDGE_TOLERANCE = 2.0


@dataclass(frozen=True)
class PaddedResize:
    """Pad frames of ``height`` x ``width`` and resize them to SAM2's square of ``size`` pixels.

    ``margin``: pixels at the frame's scale added on each side. Width and height are scaled
    independently, as in SAM2's training.
    """

    height: int
    width: int
    margin: int
    size: int

    def preprocess(self, frames_NHWC: torch.Tensor) -> torch.Tensor:
        """Convert uint8 RGB frames to normalized float32 [frames, 3, size, size].

        As SAM2's own loader does with Pillow: bicubic with antialiasing, first the widths and
        then the heights, rounded to integer levels each time.
        """
        frames_NCHW = frames_NHWC.permute(0, 3, 1, 2).float()
        square = functional.pad(frames_NCHW, (self.margin,) * 4, mode="replicate")
        for size in ((square.shape[2], self.size), (self.size, self.size)):
            square = functional.interpolate(
                square, size, mode="bicubic", antialias=True, align_corners=False
            )
            square = square.round().clamp(0, 255)
        mean, std = (
            torch.tensor(values, device=square.device).view(3, 1, 1) for values in (_MEAN, _STD)
        )
        return (square / 255 - mean) / std

    def restore(self, logits_Nhw: torch.Tensor) -> torch.Tensor:
        """Resize SAM2's small mask logits to the frame: float32 [frames, height, width].

        Bilinear; masks are thresholded after this.
        """
        padded = (self.height + 2 * self.margin, self.width + 2 * self.margin)
        large = functional.interpolate(
            logits_Nhw[:, None].float(), padded, mode="bilinear", align_corners=False
        )[:, 0]
        m = self.margin
        return large[:, m : m + self.height, m : m + self.width]

    def prompt_points(self, prompt: VisualPrompt) -> tuple[list[tuple[float, float]], list[int]]:
        """Convert a prompt to points and labels in SAM2's input pixels.

        The box's corners (labels 2, 3) come first, then the points.
        """
        x0, y0, x1, y1 = self._extend_to_margin(prompt.box)
        corners = [(x0, y0, 2), (x1, y1, 3)]
        per_x = self.size / (self.width + 2 * self.margin)
        per_y = self.size / (self.height + 2 * self.margin)
        labeled = [*corners, *prompt.points]
        points = [((x + self.margin) * per_x, (y + self.margin) * per_y) for x, y, _ in labeled]
        return points, [label for _, _, label in labeled]

    def _extend_to_margin(self, box: Box) -> Box:
        x0, y0, x1, y1 = box
        return (
            -self.margin if x0 <= _EDGE_TOLERANCE else x0,
            -self.margin if y0 <= _EDGE_TOLERANCE else y0,
            self.width + self.margin if x1 >= self.width - _EDGE_TOLERANCE else x1,
            self.height + self.margin if y1 >= self.height - _EDGE_TOLERANCE else y1,
        )


def plan_padded_resize(height: int, width: int, margin_share: float, size: int) -> PaddedResize:
    """Plan the padding and resize of a frame.

    ``margin_share``: the margin on each side, as a share of the frame's longer side.
    """
    return PaddedResize(height, width, round(margin_share * max(height, width)), size)


def resolve_overlaps(logits_CNHW: torch.Tensor) -> torch.Tensor:
    """Suppress overlapping masks: at most one character has a logit above 0 at any pixel.

    The highest logit stays, the others are clamped to -10, as SAM2's ``non_overlap_masks`` does.
    """
    if len(logits_CNHW) == 1:
        return logits_CNHW
    highest = logits_CNHW.argmax(dim=0, keepdim=True)
    index = torch.arange(len(logits_CNHW), device=logits_CNHW.device).view(-1, 1, 1, 1)
    return torch.where(highest == index, logits_CNHW, logits_CNHW.clamp(max=-10.0))
