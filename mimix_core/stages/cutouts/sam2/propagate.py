"""SAM2's memory propagation over clips that are in memory, many tracks in one batch.

sam2's own ``SAM2VideoPredictor`` reads a file or a folder of JPEGs, works on one frame of one
character at a time and goes through the clip twice. Here the frames' features are computed in
batches, and every character's way forward and its way back from its best frame are *lanes* of one
batch, over several clips where there are several. What a lane computes is what the predictor does:
``SAM2Base.track_step`` with the same memory of six frames and sixteen object pointers; a way back
is a way forward through the frames in reverse (the predictor's time encodings depend on the
distance alone). Two differences, of no account: the predictor rounds its memory to bf16 in every
precision, and a way back of its second pass also sees memories of the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch

from mimix_core.stages.cutouts.sam2.preprocess import Fitting
from mimix_core.stages.cutouts.sam2.visual_prompts import Prompt

_KEPT = ("obj_ptr", "maskmem_features")
"""Of a step's output, what later steps look up (besides ``maskmem_pos_enc``, always the same)."""


@dataclass(frozen=True)
class Features:
    """A clip's image features, finest level first: ``levels`` [frames, channels, h, w] each, and
    their position encodings, which no frame changes, [1, channels, h, w] each."""

    levels: tuple[torch.Tensor, ...]
    positions: tuple[torch.Tensor, ...]

    @property
    def nbytes(self) -> int:
        return sum(level.nbytes for level in self.levels)


@dataclass(frozen=True)
class Lane:
    """One way of one character: ``frames`` of clip ``clip`` in the order they are gone through.

    ``points`` and ``labels`` are given at the first of them, in SAM2's picture.
    """

    clip: int
    frames: Sequence[int]
    points: Sequence[tuple[float, float]]
    labels: Sequence[int]


@dataclass(frozen=True)
class Tracked:
    """One character over a clip: mask logits [frames, h, w], and P(it is there) [frames]."""

    logits_Nhw: torch.Tensor
    present_N: torch.Tensor


def computing(device: torch.device, precision: Literal["fp32", "bf16"]) -> Any:
    """Where no gradients are kept and matmuls and convolutions run in ``precision``."""
    half: AbstractContextManager[None] = (
        torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
    )
    return half


def encode(model: Any, frames_NHWC: torch.Tensor, fitting: Fitting, batch: int) -> Features:
    """Image features of all frames (uint8 RGB, on any device), ``batch`` frames at a time."""
    count = model.num_feature_levels
    levels: list[torch.Tensor] = []
    positions: tuple[torch.Tensor, ...] = ()
    for first in range(0, len(frames_NHWC), batch):
        picked = frames_NHWC[first : first + batch].to(model.device)
        out = model.forward_image(fitting.prepare(picked))
        found = out["backbone_fpn"][-count:]
        if not levels:
            positions = tuple(each[:1].clone() for each in out["vision_pos_enc"][-count:])
            levels = [each.new_empty((len(frames_NHWC), *each.shape[1:])) for each in found]
        for level, part in zip(levels, found, strict=True):
            level[first : first + len(picked)] = part
    return Features(tuple(levels), positions)


def track(
    model: Any,
    clips: Sequence[Features],
    prompts: Sequence[Sequence[Prompt]],
    fittings: Sequence[Fitting],
) -> list[list[Tracked]]:
    """Every prompted character of every clip over all frames; ``prompts`` by clip.

    All lanes are one batch: memory grows with their number, see ``propagate``.
    """
    lanes: list[Lane] = []
    for clip, (features, wanted, fitting) in enumerate(zip(clips, prompts, fittings, strict=True)):
        count = len(features.levels[0])
        for prompt in wanted:
            points, labels = fitting.points(prompt)
            for frames in (range(prompt.frame, count), range(prompt.frame, -1, -1)):
                lanes.append(Lane(clip, frames, points, labels))
    ways = iter(propagate(model, clips, lanes))
    return [[_joined(next(ways), next(ways)) for _ in wanted] for wanted in prompts]


def _joined(forward: Tracked, back: Tracked) -> Tracked:
    """Both ways as one; the frame they start from counts once."""
    return Tracked(
        torch.cat([back.logits_Nhw.flip(0)[:-1], forward.logits_Nhw]),
        torch.cat([back.present_N.flip(0)[:-1], forward.present_N]),
    )


def propagate(model: Any, clips: Sequence[Features], lanes: Sequence[Lane]) -> list[Tracked]:
    """Mask logits along each lane, in the order of ``lanes``.

    A lane that has come to its end leaves the batch. Only what later steps look up is kept: the
    memory's size does not depend on the clips' length.
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

    def run(going: Sequence[Lane], step: int, points: dict[str, torch.Tensor] | None) -> Any:
        feats, positions, sizes = _gather(clips, going, step)
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
    # The encoding of a memory's place is the same at every step: the first serves all.
    position: list[torch.Tensor] | None = None
    for step in range(len(batch[0].frames)):
        active = sum(len(lane.frames) > step for lane in batch)
        _narrow(outputs, active)
        out = run(batch[:active], step, None) if step else _asked(batch, model.device, run)
        position = position or out["maskmem_pos_enc"]
        kept = {name: out[name] for name in _KEPT} | {"maskmem_pos_enc": list(position)}
        outputs["non_cond_frame_outputs" if step else "cond_frame_outputs"][step] = kept
        outputs["non_cond_frame_outputs"].pop(step - model.max_obj_ptrs_in_encoder, None)
        masks = out["pred_masks"][:, 0].float()
        there = out["object_score_logits"][:, 0].float().sigmoid()
        for lane in range(active):
            logits[lane][step] = masks[lane]
            present[lane][step] = there[lane]
    found = {index: Tracked(logits[n], present[n]) for n, index in enumerate(order)}
    return [found[index] for index in range(len(lanes))]


def _asked(
    lanes: Sequence[Lane],
    device: torch.device,
    run: Callable[[Sequence[Lane], int, dict[str, torch.Tensor]], Any],
) -> dict[str, Any]:
    """The first step, at the frames that the prompts are of; outputs in the order of ``lanes``.

    Lanes with as many points go together. (Filling up with points of label -1 would change the
    masks: each is a token that the decoder attends to.)
    """
    places: list[int] = []
    parts = []
    for points in sorted({len(lane.labels) for lane in lanes}):
        chosen = [n for n, lane in enumerate(lanes) if len(lane.labels) == points]
        group = [lanes[n] for n in chosen]
        coords = torch.tensor([lane.points for lane in group], device=device)
        labels = torch.tensor([lane.labels for lane in group], dtype=torch.int32, device=device)
        parts.append(run(group, 0, {"point_coords": coords, "point_labels": labels}))
        places += chosen
    back = torch.tensor([places.index(n) for n in range(len(lanes))], device=device)
    whole = {
        name: torch.cat([part[name] for part in parts])[back]
        for name in (*_KEPT, "pred_masks", "object_score_logits")
    }
    encodings = zip(*(part["maskmem_pos_enc"] for part in parts), strict=True)
    return whole | {"maskmem_pos_enc": [torch.cat(same) for same in encodings]}


def _narrow(outputs: dict[str, dict[int, dict[str, Any]]], active: int) -> None:
    """Forget the lanes from ``active`` on, which have come to their end."""
    for kind in outputs.values():
        for out in kind.values():
            for name in _KEPT:
                out[name] = out[name][:active]
            out["maskmem_pos_enc"] = [each[:active] for each in out["maskmem_pos_enc"]]


def _gather(
    clips: Sequence[Features], lanes: Sequence[Lane], step: int
) -> tuple[list[torch.Tensor], list[torch.Tensor], list[tuple[int, int]]]:
    """Each lane's features at its frame of ``step``, as ``track_step`` takes them: (h w) b c."""
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
