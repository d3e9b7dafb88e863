"""Load SAM 3 from a folder of facebook/sam3: the detector with its tracker, or the tracker alone.

The processors of transformers are not used: they need torchvision, the models do not. Neither is
the code for GPUs that transformers would download from a hub when the package kernels is installed;
what it does is done here (``distinct_detections``), or later at the clip's size (matting).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers.models.sam3_video import modeling_sam3_video

from mimix_core.networks.sam3_folder import (
    VOCABULARY,
    WEIGHTS,
    check_sam3_folder,
    damaged_file,
)

Precision = Literal["fp32", "bf16"]

# Also keeps transformers from looking for the code on a hub.
modeling_sam3_video.cv_utils_kernel = False


class Sam3ConceptModel(transformers.Sam3VideoModel):  # type: ignore[misc]  # no types
    """Sam3VideoModel that drops repeated detections of one figure in a frame.

    transformers leaves this out without the package kernels: a figure would become several tracks.
    """

    def run_detection(self, inference_session: Any, vision_embeds: Any) -> dict[int, Any]:
        """Detect what each prompt names; of detections that overlap, keep the surest."""
        found = super().run_detection(inference_session, vision_embeds)
        return {
            prompt: _select(detections, distinct_detections(detections, self.det_nms_thresh))
            for prompt, detections in found.items()
        }


def distinct_detections(detections: dict[str, torch.Tensor], max_iou: float) -> list[int]:
    """Return the detections left by non-maximum suppression of their masks, the surest first.

    ``detections``: ``mask`` logits [detections, h, w] and ``scores`` [detections].
    """
    masks_NP = (detections["mask"] > 0).flatten(1).float()
    shared_NN = masks_NP @ masks_NP.T
    areas_N = masks_NP.sum(dim=1)
    ious_NN = shared_NN / (areas_N[:, None] + areas_N[None] - shared_NN).clamp(min=1)
    overlapping: Sequence[Sequence[bool]] = (ious_NN > max_iou).tolist()
    kept: list[int] = []
    for index in torch.argsort(detections["scores"], descending=True, stable=True).tolist():
        if not any(overlapping[index][other] for other in kept):
            kept.append(index)
    return kept


def _select(detections: dict[str, torch.Tensor], indices: Sequence[int]) -> dict[str, torch.Tensor]:
    return {name: values[list(indices)] for name, values in detections.items()}


def load_concept_model(
    folder: Path, setting: str, *, precision: Precision, device: torch.device
) -> tuple[Any, Any]:
    """Load the detector with its tracker, and the tokenizer of its prompts.

    ``setting``: the key that names the folder, for errors. Raises MissingModel for a folder that is
    missing, incomplete, damaged or of another model.
    """
    check_sam3_folder(folder, setting)
    model = _load(Sam3ConceptModel, folder, setting, precision)
    try:
        tokenizer = transformers.CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise damaged_file(folder / VOCABULARY, str(error)) from error
    return model.to(device), tokenizer


def load_tracker(folder: Path, setting: str, *, precision: Precision, device: torch.device) -> Any:
    """Load the tracker with the image encoder. Raises MissingModel as load_concept_model does."""
    check_sam3_folder(folder, setting)
    return _load(transformers.Sam3TrackerVideoModel, folder, setting, precision).to(device)


def _load(model_class: Any, folder: Path, setting: str, precision: Precision) -> Any:
    # Names a missing or misshapen parameter, where transformers would fill in random numbers.
    try:
        model, loading = model_class.from_pretrained(
            folder,
            dtype=torch.bfloat16 if precision == "bf16" else torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise damaged_file(folder / WEIGHTS, f"{type(error).__name__}: {error}") from error
    lacking = sorted({*loading["missing_keys"], *(one[0] for one in loading["mismatched_keys"])})
    if lacking:
        raise damaged_file(
            folder / WEIGHTS,
            f"{len(lacking)} parameters are missing or of another shape, first: {lacking[0]}",
        )
    return model.eval().requires_grad_(False)
