"""Backend ``sam2``: SAM2's masks at the clip's size, without overlaps, with soft edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mimix_core.engine.torch_runtime import select_device, set_num_threads
from mimix_core.media.opencv_threads import opencv_single_thread
from mimix_core.settings.segmenter_settings import Sam2Settings
from mimix_core.stages.cutouts import matting
from mimix_core.stages.cutouts.locate import BoxTrack
from mimix_core.stages.cutouts.sam2 import model_zoo, preprocess
from mimix_core.stages.cutouts.sam2.propagate import (
    TrackedMasks,
    autocast_context,
    encode_frames,
    track_characters,
)
from mimix_core.stages.cutouts.sam2.visual_prompts import build_prompts
from mimix_core.stages.cutouts.segmenter import CharacterMatte, LocatedClip

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

# SAM2's masks are coherent: remove only components of a few pixels (share of the largest one).
_MIN_COMPONENT_SHARE = 0.02
# Pixels around a mask's box in which its edge is refined.
_EDGE_MARGIN = 8
# Pixels with logits within +-1 are uncertain (the stability score of SAM's mask generator).
_STABILITY_OFFSET = 1.0


@dataclass(frozen=True)
class Sam2Segmenter:
    """Segment characters with SAM2's video predictor; ``name`` includes the weights.

    A character also gets a mask in frames without a box if SAM2 detects it there.
    """

    model: Any
    settings: Sam2Settings
    name: str

    @property
    def batch_size(self) -> int:
        return self.settings.clip_batch_size

    def segment(
        self, frames_NHWC: Images, tracks: Mapping[str, BoxTrack]
    ) -> dict[str, CharacterMatte]:
        return self.segment_videos([(frames_NHWC, tracks)])[0]

    def segment_batch(self, clips: Sequence[LocatedClip]) -> list[dict[str, CharacterMatte]]:
        return self.segment_videos([(clip.frames_NHWC, clip.tracks) for clip in clips])

    def segment_videos(
        self, clips: Sequence[tuple[Images, Mapping[str, BoxTrack]]]
    ) -> list[dict[str, CharacterMatte]]:
        """Segment the characters located in each clip's frames."""
        if self.model.device.type == "cpu":
            set_num_threads(self.settings.threads)
        resizes = [self._plan_resize(frames_NHWC) for frames_NHWC, _ in clips]
        prompts = [
            build_prompts(tracks, resize.width, resize.height)
            for (_, tracks), resize in zip(clips, resizes, strict=True)
        ]
        with torch.inference_mode(), autocast_context(self.model.device, self.settings.precision):
            features = [
                encode_frames(
                    self.model,
                    torch.from_numpy(frames_NHWC),
                    resize,
                    self.settings.frame_batch_size,
                )
                for (frames_NHWC, _), resize in zip(clips, resizes, strict=True)
            ]
            tracked = track_characters(
                self.model, features, [list(each.values()) for each in prompts], resizes
            )
        results = []
        for (frames_NHWC, tracks), prompted, masks, resize in zip(
            clips, prompts, tracked, resizes, strict=True
        ):
            alphas = build_mattes(frames_NHWC, masks, resize, self.settings.threads)
            mattes = dict(zip(prompted, alphas, strict=True))
            empty = CharacterMatte(
                np.zeros(frames_NHWC.shape[:3], np.uint8), [0.0] * len(frames_NHWC)
            )
            results.append({name: mattes.get(name, empty) for name in tracks})
        return results

    def _plan_resize(self, frames_NHWC: Images) -> preprocess.PaddedResize:
        _, height, width, _ = frames_NHWC.shape
        return preprocess.plan_padded_resize(
            height, width, self.settings.margin, self.settings.image_size
        )


def create_sam2_segmenter(settings: Sam2Settings, checkpoint: Path) -> Sam2Segmenter:
    """Create the backend with the weights of ``checkpoint``.

    Raises MissingModel, see ``model_zoo.load_predictor``.
    """
    device = select_device(settings.device)
    model = model_zoo.load_predictor(
        settings.model,
        checkpoint,
        settings.sha256,
        image_size=settings.image_size,
        device=str(device),
    )
    if settings.compile == "on":
        model_zoo.compile_predictor(model)
    name = f"sam2.1-{settings.model}"
    return Sam2Segmenter(
        model, settings, name if settings.sha256 is None else f"{name}/{settings.sha256[:8]}"
    )


def build_mattes(
    frames_NHWC: Images,
    tracked: Sequence[TrackedMasks],
    resize: preprocess.PaddedResize,
    threads: int,
) -> list[CharacterMatte]:
    """Build the soft-edged mattes of a clip's characters, without overlaps, and their scores."""
    if not tracked:
        return []
    with torch.inference_mode():
        masks_CNHW = _binary_masks(tracked, resize)
        scores = [_frame_scores(each) for each in tracked]
    alphas_CNHW = compute_soft_alphas(frames_NHWC, masks_CNHW, threads)
    return [CharacterMatte(alpha, score) for alpha, score in zip(alphas_CNHW, scores, strict=True)]


def _binary_masks(
    tracked: Sequence[TrackedMasks], resize: preprocess.PaddedResize
) -> NDArray[np.bool_]:
    """Threshold logits at the clip's size: non-overlapping [characters, frames, height, width]."""
    count = len(tracked[0].logits_Nhw)
    masks = np.empty((len(tracked), count, resize.height, resize.width), np.bool_)
    for frame in range(count):
        logits_C1HW = torch.stack(
            [resize.restore(each.logits_Nhw[frame : frame + 1]) for each in tracked]
        )
        masks[:, frame] = (preprocess.resolve_overlaps(logits_C1HW)[:, 0] > 0).cpu().numpy()
    return masks


def _frame_scores(tracked: TrackedMasks) -> list[float]:
    """P(the character is present) times the stability of its mask, for each frame.

    Stability: IoU of the masks at logits of +1 and -1, 0 without a mask.
    """
    certain = (tracked.logits_Nhw > _STABILITY_OFFSET).sum(dim=(1, 2)).float()
    possible = (tracked.logits_Nhw > -_STABILITY_OFFSET).sum(dim=(1, 2)).float()
    stability = certain / possible.clamp(min=1)
    return [round(value, 4) for value in (tracked.present_N * stability).cpu().tolist()]


def compute_soft_alphas(
    frames_NHWC: Images, masks_CNHW: NDArray[np.bool_], threads: int
) -> list[Images]:
    """Compute soft-edged alphas of each character that add up to at most 255 at every pixel.

    Frames are independent, so the number of ``threads`` does not change the result.
    """
    alphas = np.zeros(masks_CNHW.shape, np.uint8)

    def process_frame(frame: int) -> None:
        soft_CHW = np.stack(
            [_soft_alpha(frames_NHWC[frame], mask) for mask in masks_CNHW[:, frame]]
        )
        total = np.maximum(soft_CHW.sum(axis=0), 1.0)
        alphas[:, frame] = np.floor(soft_CHW / total * 255 + 1e-3)

    with opencv_single_thread(), ThreadPoolExecutor(threads) as pool:
        list(pool.map(process_frame, range(len(frames_NHWC))))
    return list(alphas)


def _soft_alpha(frame_HWC: Images, mask_HW: NDArray[np.bool_]) -> Floats:
    """Alpha of a mask in 0..1, without specks and pinholes, its edge aligned with the image's."""
    alpha = np.zeros(mask_HW.shape, np.float32)
    clean = matting.remove_specks(
        mask_HW.astype(np.uint8), min_component_share=_MIN_COMPONENT_SHARE
    )
    rows, columns = np.flatnonzero(clean.any(axis=1)), np.flatnonzero(clean.any(axis=0))
    if not rows.size:
        return alpha
    y0, y1 = max(rows[0] - _EDGE_MARGIN, 0), rows[-1] + 1 + _EDGE_MARGIN
    x0, x1 = max(columns[0] - _EDGE_MARGIN, 0), columns[-1] + 1 + _EDGE_MARGIN
    crop = np.ascontiguousarray(frame_HWC[y0:y1, x0:x1])
    alpha[y0:y1, x0:x1] = matting.refine_edge(crop, clean[y0:y1, x0:x1], crop)
    return alpha
