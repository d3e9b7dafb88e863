"""Propagate SAM2 masks through clips in memory, many tracks in one batch.

sam2's own ``SAM2VideoPredictor`` reads a file or a folder of JPEGs, processes one frame of one
character at a time and passes over the clip twice. Here the image features are computed in batches
of frames, and the forward and the backward propagation of every character from its prompt frame are
*lanes* (elements) of one batch, over several clips if there are several. Each lane computes what
the predictor computes: ``SAM2Base.track_step`` with the same memory of six frames and sixteen
object pointers. Backward propagation is forward propagation over the reversed frames (the
predictor's time encodings depend on the distance only). Two negligible differences: the predictor
rounds its memory to bf16 in every precision, and the backward propagation of its second pass also
attends to memories of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from mimix_core.stages.cutouts.sam2.preprocess import PaddedResize
from mimix_core.stages.cutouts.sam2.visual_prompts import VisualPrompt

_MEMORY_OUTPUTS = ("obj_ptr", "maskmem_features")
"""The outputs of a step that later steps read, besides ``maskmem_pos_enc``, which is constant."""


@dataclass(frozen=True)
class ClipFeatures:
    """Image features of a clip, finest level first.

    ``levels``: [frames, channels, h, w] each. ``positions``: their position encodings, the same
    for all frames, [1, channels, h, w] each.
    """

    levels: tuple[torch.Tensor, ...]
    positions: tuple[torch.Tensor, ...]

    @property
    def nbytes(self) -> int:
        return sum(level.nbytes for level in self.levels)


@dataclass(frozen=True)
class BatchLane:
    """One propagation direction of one character: frame numbers of clip ``clip`` in this order.

    ``points`` and ``labels``: the prompt at the first of the frames, in SAM2's input pixels.
    """

    clip: int
    frames: Sequence[int]
    points: Sequence[tuple[float, float]]
    labels: Sequence[int]


@dataclass(frozen=True)
class TrackedMasks:
    """Mask logits of one character [frames, h, w], and P(it is present) [frames]."""

    logits_Nhw: torch.Tensor
    present_N: torch.Tensor


def autocast_context(device: torch.device, precision: Literal["fp32", "bf16"]) -> Any:
    """Return a context in which matmuls and convolutions run in ``precision``."""
    context: AbstractContextManager[None] = (
        torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    )
    return context


def encode_frames(
    model: Any, frames_NHWC: torch.Tensor, resize: PaddedResize, batch: int
) -> ClipFeatures:
    """Encode all frames (uint8 RGB, on any device), ``batch`` frames at a time."""
    count = model.num_feature_levels
    levels: list[torch.Tensor] = []
    positions: tuple[torch.Tensor, ...] = ()
    for first in range(0, len(frames_NHWC), batch):
        frames = frames_NHWC[first : first + batch].to(model.device)
        out = model.forward_image(resize.preprocess(frames))
        features = out["backbone_fpn"][-count:]
        if not levels:
            positions = tuple(each[:1].clone() for each in out["vision_pos_enc"][-count:])
            levels = [each.new_empty((len(frames_NHWC), *each.shape[1:])) for each in features]
        for level, batch_level in zip(levels, features, strict=True):
            level[first : first + len(frames)] = batch_level
    return ClipFeatures(tuple(levels), positions)


def track_characters(
    model: Any,
    clips: Sequence[ClipFeatures],
    prompts: Sequence[Sequence[VisualPrompt]],
    resizes: Sequence[PaddedResize],
) -> list[list[TrackedMasks]]:
    """Track every prompted character of every clip over all frames; ``prompts`` by clip.

    All lanes form one batch: memory grows with their number, see ``propagate_lanes``.
    """
    lanes: list[BatchLane] = []
    for clip, (features, clip_prompts, resize) in enumerate(
        zip(clips, prompts, resizes, strict=True)
    ):
        count = len(features.levels[0])
        for prompt in clip_prompts:
            points, labels = resize.prompt_points(prompt)
            for frames in (range(prompt.frame, count), range(prompt.frame, -1, -1)):
                lanes.append(BatchLane(clip, frames, points, labels))
    results = iter(propagate_lanes(model, clips, lanes))
    return [
        [_join_directions(next(results), next(results)) for _ in clip_prompts]
        for clip_prompts in prompts
    ]


def _join_directions(forward: TrackedMasks, backward: TrackedMasks) -> TrackedMasks:
    """Concatenate both directions in time order; the shared start frame counts once."""
    return TrackedMasks(
        torch.cat([backward.logits_Nhw.flip(0)[:-1], forward.logits_Nhw]),
        torch.cat([backward.present_N.flip(0)[:-1], forward.present_N]),
    )


def propagate_lanes(
    model: Any, clips: Sequence[ClipFeatures], lanes: Sequence[BatchLane]
) -> list[TrackedMasks]:
    """Compute mask logits along each lane, in the order of ``lanes``.

    A lane leaves the batch after its last frame. Only outputs that later steps read stay in
    memory, so its size does not depend on the length of the clips.
    """
    order = sorted(range(len(lanes)), key=lambda index: -len(lanes[index].frames))
    batch = [lanes[index] for index in order]
    if not batch:
        return []
    outputs: dict[str, dict[int, dict[str, Any]]] = {
        "cond_frame_outputs": {},
        "non_cond_frame_outputs": {},
    }
    count = max(len(features.levels[0]) for features in clips)

    def run_step(
        active: Sequence[BatchLane], step: int, points: dict[str, torch.Tensor] | None
    ) -> Any:
        feats, positions, sizes = _gather(clips, active, step)
        return model.track_step(
            frame_idx=step,
            is_init_cond_frame=step == 0,
            current_vision_feats=feats,
            current_vision_pos_embeds=positions,
            feat_sizes=sizes,
            point_inputs=points,
            mask_inputs=None,
            output_dict=outputs,
            num_frames=count,
        )

    small = model.image_size // 4
    logits = [torch.empty(len(lane.frames), small, small, device=model.device) for lane in batch]
    present = [torch.empty(len(lane.frames), device=model.device) for lane in batch]
    # The position encoding of a memory is the same at every step: share the first one.
    position: list[torch.Tensor] | None = None
    for step in range(len(batch[0].frames)):
        active = sum(len(lane.frames) > step for lane in batch)
        _drop_finished(outputs, active)
        out = (
            run_step(batch[:active], step, None)
            if step
            else _run_prompt_step(batch, model.device, run_step)
        )
        position = position or out["maskmem_pos_enc"]
        memory = {name: out[name] for name in _MEMORY_OUTPUTS}
        memory["maskmem_pos_enc"] = list(position)
        outputs["non_cond_frame_outputs" if step else "cond_frame_outputs"][step] = memory
        outputs["non_cond_frame_outputs"].pop(step - model.max_obj_ptrs_in_encoder, None)
        masks = out["pred_masks"][:, 0].float()
        probability = out["object_score_logits"][:, 0].float().sigmoid()
        for lane in range(active):
            logits[lane][step] = masks[lane]
            present[lane][step] = probability[lane]
    tracked = {index: TrackedMasks(logits[n], present[n]) for n, index in enumerate(order)}
    return [tracked[index] for index in range(len(lanes))]


def _run_prompt_step(
    lanes: Sequence[BatchLane],
    device: torch.device,
    run_step: Callable[[Sequence[BatchLane], int, dict[str, torch.Tensor]], Any],
) -> dict[str, Any]:
    """Run the first step, at the prompt frames; outputs in the order of ``lanes``.

    Lanes with the same number of points run together. (Padding with points of label -1 would
    change the masks: each is a token that the decoder attends to.)
    """
    order: list[int] = []
    parts = []
    for points in sorted({len(lane.labels) for lane in lanes}):
        indices = [n for n, lane in enumerate(lanes) if len(lane.labels) == points]
        group = [lanes[n] for n in indices]
        coords = torch.tensor([lane.points for lane in group], device=device)
        labels = torch.tensor([lane.labels for lane in group], dtype=torch.int32, device=device)
        parts.append(run_step(group, 0, {"point_coords": coords, "point_labels": labels}))
        order += indices
    inverse = torch.tensor([order.index(n) for n in range(len(lanes))], device=device)
    merged = {
        name: torch.cat([part[name] for part in parts])[inverse]
        for name in (*_MEMORY_OUTPUTS, "pred_masks", "object_score_logits")
    }
    encodings = zip(*(part["maskmem_pos_enc"] for part in parts), strict=True)
    return merged | {"maskmem_pos_enc": [torch.cat(same) for same in encodings]}


def _drop_finished(outputs: dict[str, dict[int, dict[str, Any]]], active: int) -> None:
    """Drop the memories of the lanes from index ``active`` on, which have ended."""
    for outputs_by_step in outputs.values():
        for out in outputs_by_step.values():
            for name in _MEMORY_OUTPUTS:
                out[name] = out[name][:active]
            out["maskmem_pos_enc"] = [each[:active] for each in out["maskmem_pos_enc"]]


def _gather(
    clips: Sequence[ClipFeatures], lanes: Sequence[BatchLane], step: int
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[tuple[int, int]]]:
    """Gather each lane's features at its frame of ``step``, as ``track_step`` takes them:
    (h w) b c."""
    levels = range(len(clips[0].levels))
    feats = [
        torch.stack([clips[lane.clip].levels[level][lane.frames[step]] for lane in lanes])
        for level in levels
    ]
    sizes = [(level.shape[-2], level.shape[-1]) for level in feats]
    positions = [
        clips[0].positions[level].expand(len(lanes), -1, -1, -1).flatten(2).permute(2, 0, 1)
        for level in levels
    ]
    return [level.flatten(2).permute(2, 0, 1) for level in feats], positions, sizes
