"""The propagation against that of sam2's own ``SAM2VideoPredictor``."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
import pytest
import torch

from mimix_core.stages.cutouts.sam2.preprocess import plan_padded_resize
from mimix_core.stages.cutouts.sam2.propagate import (
    ClipFeatures,
    TrackedMasks,
    encode_frames,
    propagate_lanes,
    track_characters,
)
from mimix_core.stages.cutouts.sam2.visual_prompts import VisualPrompt
from tests.stages.cutouts.moving_figures import moving_figures
from tests.stages.cutouts.tiny_sam2 import IMAGE_SIZE, build_tiny_sam2

FRAMES, HEIGHT, WIDTH = 21, 48, 80
FIT = plan_padded_resize(HEIGHT, WIDTH, 0.05, IMAGE_SIZE)
PICTURES, WHERE = moving_figures(FRAMES, HEIGHT, WIDTH)
PROMPTS = (
    VisualPrompt(9, WHERE["Red"].boxes[9] or (0, 0, 1, 1)),
    VisualPrompt(14, WHERE["Blue"].boxes[14] or (0, 0, 1, 1), ((30.0, 24.0, 0), (50.0, 20.0, 1))),
)
# Of logits that reach 10. The predictor rounds its memory to bf16, in fp32 too.
TOLERANCE = 1e-3


@pytest.fixture(scope="module")
def model() -> Any:
    """Random weights whose memory matters: sam2 starts its fuser at a millionth."""
    model = build_tiny_sam2(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "memory_encoder" in name and name.endswith("gamma"):
                parameter.fill_(1.0)
            elif name.startswith(("memory_attention", "sam_mask_decoder")) and parameter.ndim > 1:
                parameter.mul_(2.0)
        model.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.fill_(4.0)
    return model


@pytest.fixture(scope="module")
def features(model: Any) -> ClipFeatures:
    with torch.inference_mode():
        return encode_frames(model, torch.from_numpy(PICTURES), FIT, 5)


@pytest.fixture(scope="module")
def ours(model: Any, features: ClipFeatures) -> list[TrackedMasks]:
    with torch.inference_mode():
        return track_characters(model, [features], [PROMPTS], [FIT])[0]


def predictor(model: Any, prompt: VisualPrompt, *, reverse: bool) -> dict[int, torch.Tensor]:
    """Mask logits in the padded frame by sam2's predictor, its state made of the same pictures."""
    names = (
        "point_inputs_per_obj mask_inputs_per_obj cached_features constants output_dict_per_obj "
        "temp_output_dict_per_obj frames_tracked_per_obj"
    )
    state: dict[str, Any] = {name: {} for name in names.split()}
    state |= {
        "images": FIT.preprocess(torch.from_numpy(PICTURES)),
        "num_frames": FRAMES,
        "offload_video_to_cpu": False,
        "offload_state_to_cpu": False,
        "video_height": HEIGHT + 2 * FIT.margin,
        "video_width": WIDTH + 2 * FIT.margin,
        "device": torch.device("cpu"),
        "storage_device": torch.device("cpu"),
        "obj_id_to_idx": OrderedDict(),
        "obj_idx_to_id": OrderedDict(),
        "obj_ids": [],
    }
    padded = np.array(prompt.box, np.float32) + FIT.margin
    points = np.array([[x, y] for x, y, _ in prompt.points], np.float32).reshape(-1, 2)
    model.add_new_points_or_box(
        state,
        prompt.frame,
        1,
        points=points + FIT.margin,
        labels=np.array([label for *_, label in prompt.points], np.int32),
        box=padded,
    )
    ways = model.propagate_in_video(state, start_frame_idx=prompt.frame, reverse=reverse)
    return {frame: masks[0, 0] for frame, _, masks in ways}


@pytest.mark.parametrize("reverse", [False, True])
def test_both_ways_are_those_of_sam2s_predictor(
    model: Any, ours: list[TrackedMasks], reverse: bool
) -> None:
    m = FIT.margin
    for prompt, found in zip(PROMPTS, ours, strict=True):
        with torch.inference_mode():
            theirs = predictor(model, prompt, reverse=reverse)
            mine = FIT.restore(found.logits_Nhw)
        frames = range(prompt.frame + 1) if reverse else range(prompt.frame, FRAMES)
        assert set(theirs) == set(frames)
        for frame, masks in theirs.items():
            cropped = masks[m : m + HEIGHT, m : m + WIDTH]
            assert float((cropped - mine[frame]).abs().max()) < TOLERANCE


def test_what_was_seen_before_matters(
    model: Any, features: ClipFeatures, ours: list[TrackedMasks]
) -> None:
    """Else the test above would say nothing about memory."""
    with torch.inference_mode():
        other = track_characters(
            model, [features], [[VisualPrompt(9, (1.0, 1.0, 12.0, 12.0))]], [FIT]
        )[0][0]
    for frame, wanted in ((10, 50), (20, 10)):
        difference = (ours[0].logits_Nhw[frame] - other.logits_Nhw[frame]).abs().max()
        assert float(difference) > wanted * TOLERANCE


def test_who_else_is_in_the_batch_does_not_matter(
    model: Any, features: ClipFeatures, ours: list[TrackedMasks]
) -> None:
    """Another clip, shorter, and a character whose best frame is an end of it."""
    late = ClipFeatures(tuple(level[11:] for level in features.levels), features.positions)
    moved = [VisualPrompt(0, PROMPTS[0].box), VisualPrompt(9, PROMPTS[0].box)]
    with torch.inference_mode():
        alone = track_characters(model, [late], [moved], [FIT])[0]
        together = track_characters(model, [features, late], [PROMPTS, moved], [FIT, FIT])
    assert [len(found.logits_Nhw) for found in alone] == [10, 10]
    for one, two in zip([*ours, *alone], [*together[0], *together[1]], strict=True):
        assert one.logits_Nhw.shape == two.logits_Nhw.shape
        assert torch.allclose(one.logits_Nhw, two.logits_Nhw, atol=TOLERANCE)
        assert torch.allclose(one.present_N, two.present_N, atol=1e-4)


def test_nobody_asked_for_nobody_tracked(model: Any, features: ClipFeatures) -> None:
    assert propagate_lanes(model, [features], []) == []
