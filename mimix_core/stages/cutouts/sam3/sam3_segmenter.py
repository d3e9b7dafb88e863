"""Backend ``sam3``: SAM 3's tracker, prompted as SAM 2 is, through transformers.

Each character is prompted with the box of one frame (``visual_prompts``) and followed in both
directions. The image features of a clip are computed once and shared by its characters, each of
which has a session of its own: sessions of transformers follow all their objects from one frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import (
    Sam3TrackerVideoInferenceCache,
    Sam3TrackerVideoInferenceSession,
)

from mimix_core.engine.torch_runtime import select_device, set_num_threads
from mimix_core.settings.segmenter_settings import Sam3Settings
from mimix_core.stages.cutouts.locate import BoxTrack
from mimix_core.stages.cutouts.sam2.preprocess import PaddedResize, plan_padded_resize
from mimix_core.stages.cutouts.sam2.propagate import TrackedMasks
from mimix_core.stages.cutouts.sam2.sam2_segmenter import build_mattes
from mimix_core.stages.cutouts.sam2.visual_prompts import VisualPrompt, build_prompts
from mimix_core.stages.cutouts.sam3.concept_tracks import square_frames
from mimix_core.stages.cutouts.sam3.sam3_weights import load_tracker
from mimix_core.stages.cutouts.segmenter import CharacterMatte, LocatedClip

Images = NDArray[np.uint8]


@dataclass(frozen=True)
class Sam3Segmenter:
    """Segment characters with SAM 3's tracker.

    A character also gets a mask in frames without a box if the tracker sees it there.
    """

    model: Any
    settings: Sam3Settings
    name: str = "sam3"

    @property
    def batch_size(self) -> int:
        return 1

    def segment_batch(self, clips: Sequence[LocatedClip]) -> list[dict[str, CharacterMatte]]:
        return [self.segment(clip.frames_NHWC, clip.tracks) for clip in clips]

    def segment(
        self, frames_NHWC: Images, tracks: Mapping[str, BoxTrack]
    ) -> dict[str, CharacterMatte]:
        """Segment the characters located in a clip's uint8 RGB frames."""
        if self.model.device.type == "cpu":
            set_num_threads(self.settings.threads)
        count, height, width, _ = frames_NHWC.shape
        resize = plan_padded_resize(
            height, width, self.settings.margin, self.model.config.image_size
        )
        prompts = build_prompts(tracks, width, height)
        tracked = track_boxes(self.model, frames_NHWC, list(prompts.values()), resize)
        mattes = dict(
            zip(
                prompts,
                build_mattes(frames_NHWC, tracked, resize, self.settings.threads),
                strict=True,
            )
        )
        empty = CharacterMatte(np.zeros((count, height, width), np.uint8), [0.0] * count)
        return {name: mattes.get(name, empty) for name in tracks}


def create_sam3_segmenter(settings: Sam3Settings, folder: Path) -> Sam3Segmenter:
    """Create the backend with the weights in ``folder``. Raises MissingModel."""
    model = load_tracker(
        folder,
        "cutouts.weights",
        precision=settings.precision,
        device=select_device(settings.device),
    )
    return Sam3Segmenter(model, settings)


def track_boxes(
    model: Any, frames_NHWC: Images, prompts: Sequence[VisualPrompt], resize: PaddedResize
) -> list[TrackedMasks]:
    """Follow each prompted character through all frames, in both directions from its prompt."""
    if not prompts:
        return []
    device, dtype = model.device, model.dtype
    with torch.inference_mode():
        video = torch.cat(
            [
                square_frames(
                    torch.from_numpy(frame_HWC)[None].to(device), resize.size, resize.margin
                ).to(dtype)
                for frame_HWC in frames_NHWC
            ]
        )
        features = Sam3TrackerVideoInferenceCache(device, device, len(frames_NHWC))
        return [_track_box(model, video, features, prompt, resize) for prompt in prompts]


def _track_box(
    model: Any, video: torch.Tensor, features: Any, prompt: VisualPrompt, resize: PaddedResize
) -> TrackedMasks:
    session = Sam3TrackerVideoInferenceSession(
        video=video,
        video_height=resize.height,
        video_width=resize.width,
        inference_device=video.device,
        inference_state_device=video.device,
        video_storage_device=video.device,
        dtype=video.dtype,
    )
    session.cache = features
    points, labels = resize.prompt_points(prompt)
    character = session.obj_id_to_idx(1)
    session.add_point_inputs(
        character,
        prompt.frame,
        {
            "point_coords": torch.tensor([[points]], dtype=torch.float32),
            "point_labels": torch.tensor([[labels]], dtype=torch.int32),
        },
    )
    session.obj_with_new_inputs = [1]
    side = model.config.image_size * 4 // model.config.vision_config.backbone_config.patch_size
    logits_Nhw = torch.empty(len(video), side, side, device=video.device)
    present_N = torch.empty(len(video), device=video.device)
    for reverse in (False, True):
        for out in model.propagate_in_video_iterator(
            session, start_frame_idx=prompt.frame, reverse=reverse
        ):
            logits_Nhw[out.frame_idx] = out.pred_masks[0, 0].float()
            present_N[out.frame_idx] = out.object_score_logits.flatten()[0].float().sigmoid()
    return TrackedMasks(logits_Nhw, present_N)
