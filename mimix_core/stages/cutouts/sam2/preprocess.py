"""Between a clip's frames and SAM2's square pictures: margin, size, and back.

SAM2 is poor at the picture's edge. Each frame gets a margin that goes on with its outermost pixels,
so that whoever is cut off by the frame has an outline there, and what SAM2 says of the margin is
thrown away.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.nn import functional

from mimix_core.stages.cutouts.locate import Box
from mimix_core.stages.cutouts.sam2.visual_prompts import Prompt

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""ImageNet's, which SAM2 was trained with (sam2/utils/misc.py)."""

# A prompt's side this close to the frame's edge (pixels) goes on through the margin.
_AT_EDGE = 2.0


@dataclass(frozen=True)
class Fitting:
    """How frames of ``height`` x ``width`` lie in SAM2's square picture of ``size`` pixels.

    ``margin``: pixels of the frame's scale added on each side. The sides are scaled each by its own
    factor, as SAM2 was trained.
    """

    height: int
    width: int
    margin: int
    size: int

    def prepare(self, frames_NHWC: torch.Tensor) -> torch.Tensor:
        """Normalised float32 [frames, 3, size, size] of uint8 RGB frames.

        As SAM2's own loader does it with Pillow: bicubic with antialiasing, first the widths and
        then the heights, to whole grey levels each time.
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
        """Mask logits of SAM2's (small) masks at the frame's size: float32 [frames, height, width].

        Bilinear; whoever wants a mask thresholds after this.
        """
        padded = (self.height + 2 * self.margin, self.width + 2 * self.margin)
        large = functional.interpolate(
            logits_Nhw[:, None].float(), padded, mode="bilinear", align_corners=False
        )[:, 0]
        m = self.margin
        return large[:, m : m + self.height, m : m + self.width]

    def points(self, prompt: Prompt) -> tuple[list[tuple[float, float]], list[int]]:
        """Points and labels in SAM2's picture: the box's corners (labels 2, 3), then the points."""
        x0, y0, x1, y1 = self._through_margin(prompt.box)
        corners = [(x0, y0, 2), (x1, y1, 3)]
        per_x = self.size / (self.width + 2 * self.margin)
        per_y = self.size / (self.height + 2 * self.margin)
        given = [*corners, *prompt.points]
        places = [((x + self.margin) * per_x, (y + self.margin) * per_y) for x, y, _ in given]
        return places, [label for _, _, label in given]

    def _through_margin(self, box: Box) -> Box:
        x0, y0, x1, y1 = box
        return (
            -self.margin if x0 <= _AT_EDGE else x0,
            -self.margin if y0 <= _AT_EDGE else y0,
            self.width + self.margin if x1 >= self.width - _AT_EDGE else x1,
            self.height + self.margin if y1 >= self.height - _AT_EDGE else y1,
        )


def fitting(height: int, width: int, margin_share: float, size: int) -> Fitting:
    """``margin_share``: the margin on each side, as a share of the frame's longer side."""
    return Fitting(height, width, round(margin_share * max(height, width)), size)


def apart(logits_CNHW: torch.Tensor) -> torch.Tensor:
    """Logits of several characters such that at most one of them is above 0 at any pixel.

    The highest stays, the others fall to -10 or below, as SAM2's own ``non_overlap_masks`` does.
    """
    if len(logits_CNHW) == 1:
        return logits_CNHW
    highest = logits_CNHW.argmax(dim=0, keepdim=True)
    index = torch.arange(len(logits_CNHW), device=logits_CNHW.device).view(-1, 1, 1, 1)
    return torch.where(highest == index, logits_CNHW, logits_CNHW.clamp(max=-10.0))
