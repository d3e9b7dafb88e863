"""Track all figures that a noun names through the frames of a clip (promptable concepts of SAM 3).

In each frame the detector finds figures for each noun, and the tracker follows those that were
found before; the model associates the two, starts tracks, and takes back those that no detection
confirms in their first frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional
from transformers.models.sam3_video.modeling_sam3_video import Sam3VideoInferenceSession

from mimix_core.stages.cutouts import matting
from mimix_core.stages.cutouts.locate.box_track import Box, BoxDetection, clip_box

_MAX_TOKENS = 32
"""Length of a prompt that SAM 3's text encoder was trained with, start and end included."""

# Components of a mask below this share of the largest one are specks, which would widen the box.
_MIN_COMPONENT_SHARE = 0.02


@dataclass(frozen=True)
class ConceptTrack:
    """One figure that a noun names: its boxes by frame number, in pixels of the frames.

    The score of a box is the detector's when the track began, or the tracker's in that frame if
    that is lower.
    """

    noun: str
    detections: Mapping[int, BoxDetection]


@dataclass(frozen=True)
class ConceptTracker:
    """Track figures with SAM 3's detector and tracker, see ``load_concept_model``."""

    model: Any
    tokenizer: Any

    def track(self, frames_NHWC: NDArray[np.uint8], nouns: Sequence[str]) -> list[ConceptTrack]:
        """Track the figures of each noun through uint8 RGB frames; by noun, the earliest first."""
        with torch.inference_mode():
            session = self._start(frames_NHWC, nouns)
            _, height, width, _ = frames_NHWC.shape
            found: dict[int, dict[int, BoxDetection]] = {}
            hidden: set[int] = set()
            for out in self.model.propagate_in_video_iterator(session):
                hidden |= session.hotstart_removed_obj_ids
                for track, detection in _frame_detections(out, width, height):
                    found.setdefault(track, {})[int(out.frame_idx)] = detection
        tracks = [
            ConceptTrack(session.prompts[session.obj_id_to_prompt_id[track]], detections)
            for track, detections in sorted(found.items())
            if track not in hidden
        ]
        return sorted(tracks, key=lambda one: nouns.index(one.noun))

    def _start(self, frames_NHWC: NDArray[np.uint8], nouns: Sequence[str]) -> Any:
        _, height, width, _ = frames_NHWC.shape
        size, device, dtype = self.model.config.image_size, self.model.device, self.model.dtype
        frames = [
            square_frames(torch.from_numpy(frame_HWC)[None].to(device), size).to(dtype)
            for frame_HWC in frames_NHWC
        ]
        session = Sam3VideoInferenceSession(
            video=torch.cat(frames),
            video_height=height,
            video_width=width,
            inference_device=device,
            inference_state_device=device,
            video_storage_device=device,
            dtype=dtype,
        )
        for noun in nouns:
            prompt = session.add_prompt(noun)
            tokens = self.tokenizer(
                noun,
                return_tensors="pt",
                padding="max_length",
                truncation=True,
                max_length=_MAX_TOKENS,
            ).to(device)
            session.prompt_input_ids[prompt] = tokens.input_ids
            session.prompt_attention_masks[prompt] = tokens.attention_mask
        return session


def square_frames(frames_NHWC: torch.Tensor, size: int, margin: int = 0) -> torch.Tensor:
    """Convert uint8 RGB frames to SAM 3's input, float32 [frames, 3, size, size] in -1..1.

    ``margin``: pixels of padding on each side, which repeats the outermost ones. As the processors
    of transformers do: bilinear with antialiasing, width and height apart, rounded to levels.
    """
    frames_NCHW = frames_NHWC.permute(0, 3, 1, 2).float()
    padded = functional.pad(frames_NCHW, (margin,) * 4, mode="replicate")
    square = functional.interpolate(
        padded, (size, size), mode="bilinear", antialias=True, align_corners=False
    )
    return square.round().clamp(0, 255) / 127.5 - 1


def _frame_detections(out: Any, width: int, height: int) -> Iterator[tuple[int, BoxDetection]]:
    """Yield the tracks that are seen in one frame, with their boxes."""
    for track, mask_1hw in out.obj_id_to_mask.items():
        if track in out.suppressed_obj_ids:
            continue
        box = mask_box((mask_1hw[0] > 0).cpu().numpy(), width, height)
        if box is not None:
            score = min(out.obj_id_to_score[track], out.obj_id_to_tracker_score.get(track, 0.0))
            yield int(track), BoxDetection(box, round(max(score, 0.0), 4))


def mask_box(mask_hw: NDArray[np.bool_], width: int, height: int) -> Box | None:
    """Return the box around a mask without its specks, in pixels of a ``width`` x ``height`` frame.

    None for an empty mask, or one that is less than two pixels high or wide.
    """
    clean = matting.remove_specks(
        mask_hw.astype(np.uint8), min_component_share=_MIN_COMPONENT_SHARE
    )
    rows, columns = np.flatnonzero(clean.any(axis=1)), np.flatnonzero(clean.any(axis=0))
    if not rows.size:
        return None
    per_x, per_y = width / mask_hw.shape[1], height / mask_hw.shape[0]
    sides = (columns[0] * per_x, rows[0] * per_y, (columns[-1] + 1) * per_x, (rows[-1] + 1) * per_y)
    x0, y0, x1, y1 = (float(side) for side in sides)
    return clip_box((x0, y0, x1, y1), width, height)
