"""The backend ``sam2``: SAM2's masks at the clip's size, kept apart, with soft edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mimix_core.engine.torch_runtime import pick_device, pin_threads
from mimix_core.settings.segmenter_settings import Sam2Settings
from mimix_core.stages.cutouts import matting
from mimix_core.stages.cutouts.locate import Located
from mimix_core.stages.cutouts.sam2 import model_zoo, preprocess
from mimix_core.stages.cutouts.sam2.propagate import Tracked, computing, encode, track
from mimix_core.stages.cutouts.sam2.visual_prompts import prompts
from mimix_core.stages.cutouts.segmenter import Segmented, Shot, single_thread

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

# SAM2's masks are right as to what belongs together: only specks of the last few pixels go.
_KEEP = 0.02
# Around a mask's box, pixels in which its edge is softened.
_RIM = 8
# Logits between which a mask is uncertain (the stability score of SAM's mask generator).
_SURE = 1.0


@dataclass(frozen=True)
class Sam2Segmenter:
    """Cuts characters out by SAM2's video predictor; ``name`` says which weights.

    Where SAM2 sees the character it has a mask, also in frames without a box.
    """

    model: Any
    settings: Sam2Settings
    name: str

    @property
    def clips_at_once(self) -> int:
        return self.settings.clips

    def segment(self, frames_NHWC: Images, located: Mapping[str, Located]) -> dict[str, Segmented]:
        return self.segment_all([(frames_NHWC, located)])[0]

    def segment_all(self, shots: Sequence[Shot]) -> list[dict[str, Segmented]]:
        if self.model.device.type == "cpu":
            pin_threads(self.settings.threads)
        fittings = [self._fitting(frames_NHWC) for frames_NHWC, _ in shots]
        asked = [
            prompts(located, fitting.width, fitting.height)
            for (_, located), fitting in zip(shots, fittings, strict=True)
        ]
        with torch.inference_mode(), computing(self.model.device, self.settings.precision):
            clips = [
                encode(self.model, torch.from_numpy(frames_NHWC), fitting, self.settings.batch)
                for (frames_NHWC, _), fitting in zip(shots, fittings, strict=True)
            ]
            tracked = track(self.model, clips, [list(each.values()) for each in asked], fittings)
        found = []
        for (frames_NHWC, located), names, clip, fitting in zip(
            shots, asked, tracked, fittings, strict=True
        ):
            cuts = dict(zip(names, self._cuts(frames_NHWC, clip, fitting), strict=True))
            nowhere = Segmented(np.zeros(frames_NHWC.shape[:3], np.uint8), [0.0] * len(frames_NHWC))
            found.append({name: cuts.get(name, nowhere) for name in located})
        return found

    def _fitting(self, frames_NHWC: Images) -> preprocess.Fitting:
        _, height, width, _ = frames_NHWC.shape
        return preprocess.fitting(height, width, self.settings.margin, self.settings.image_size)

    def _cuts(
        self, frames_NHWC: Images, tracked: Sequence[Tracked], fitting: preprocess.Fitting
    ) -> list[Segmented]:
        if not tracked:
            return []
        with torch.inference_mode():
            masks_CNHW = _masks(tracked, fitting)
            scores = [_scores(each) for each in tracked]
        alphas_CNHW = soften(frames_NHWC, masks_CNHW, self.settings.threads)
        return [Segmented(alpha, score) for alpha, score in zip(alphas_CNHW, scores, strict=True)]


def make_sam2(settings: Sam2Settings, checkpoint: Path) -> Sam2Segmenter:
    """The backend with the weights of ``checkpoint``. Raises MissingModel, see ``weights.load``."""
    device = pick_device(settings.device)
    model = model_zoo.load(
        settings.model,
        checkpoint,
        settings.sha256,
        image_size=settings.image_size,
        device=str(device),
    )
    if settings.compile == "on":
        model_zoo.compiled(model)
    named = f"sam2.1-{settings.model}"
    return Sam2Segmenter(
        model, settings, named if settings.sha256 is None else f"{named}/{settings.sha256[:8]}"
    )


def _masks(tracked: Sequence[Tracked], fitting: preprocess.Fitting) -> NDArray[np.bool_]:
    """[characters, frames, height, width]: logits above 0 at the clip's size, none of two."""
    count = len(tracked[0].logits_Nhw)
    masks = np.empty((len(tracked), count, fitting.height, fitting.width), np.bool_)
    for frame in range(count):
        logits_C1HW = torch.stack(
            [fitting.restore(each.logits_Nhw[frame : frame + 1]) for each in tracked]
        )
        masks[:, frame] = (preprocess.apart(logits_C1HW)[:, 0] > 0).cpu().numpy()
    return masks


def _scores(tracked: Tracked) -> list[float]:
    """P(the character is there) times its mask's stability, for each frame.

    Stability: IoU of the masks at logits of +1 and -1, 0 where there is none.
    """
    sure = (tracked.logits_Nhw > _SURE).sum(dim=(1, 2)).float()
    possible = (tracked.logits_Nhw > -_SURE).sum(dim=(1, 2)).float()
    stability = sure / possible.clamp(min=1)
    return [round(value, 4) for value in (tracked.present_N * stability).cpu().tolist()]


def soften(frames_NHWC: Images, masks_CNHW: NDArray[np.bool_], threads: int) -> list[Images]:
    """Soft-edged alphas of each character, which nowhere add up to more than 255.

    Frames are independent: ``threads`` of them at a time change nothing.
    """
    alphas = np.zeros(masks_CNHW.shape, np.uint8)

    def one(frame: int) -> None:
        soft_CHW = np.stack([_soft(frames_NHWC[frame], mask) for mask in masks_CNHW[:, frame]])
        total = np.maximum(soft_CHW.sum(axis=0), 1.0)
        alphas[:, frame] = np.floor(soft_CHW / total * 255 + 1e-3)

    with single_thread(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, range(len(frames_NHWC))))
    return list(alphas)


def _soft(frame_HWC: Images, mask_HW: NDArray[np.bool_]) -> Floats:
    """A mask's alpha in 0..1: without specks and pinholes, its edge along the picture's own."""
    alpha = np.zeros(mask_HW.shape, np.float32)
    tidy = matting.tidy(mask_HW.astype(np.uint8), keep=_KEEP)
    rows, columns = np.flatnonzero(tidy.any(axis=1)), np.flatnonzero(tidy.any(axis=0))
    if not rows.size:
        return alpha
    y0, y1 = max(rows[0] - _RIM, 0), rows[-1] + 1 + _RIM
    x0, x1 = max(columns[0] - _RIM, 0), columns[-1] + 1 + _RIM
    part = np.ascontiguousarray(frame_HWC[y0:y1, x0:x1])
    alpha[y0:y1, x0:x1] = matting.soft_edge(part, tidy[y0:y1, x0:x1], part)
    return alpha
