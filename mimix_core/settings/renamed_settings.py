"""Report settings under their old names, with the new ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mimix_core.engine.yaml_files import LineNumbers, format_location
from mimix_core.errors import BadInput

_VLM_KEYS = {
    "attempts": "max_attempts",
    "batch_poll_seconds": "batch_poll_interval_seconds",
    "batch_requests": "max_batch_requests",
    "concurrency": "max_concurrency",
    "patience_seconds": "rate_limit_timeout_seconds",
    "timeout_seconds": "request_timeout_seconds",
}

_VLM_SECTIONS = ("captions.vlm", "cutouts.vlm.vlm", "judge.vlm")

RENAMED_KEYS: Mapping[str, str] = {
    "run.memory_gb": "run.memory_limit_gb",
    "run.review": "run.require_approval",
    "run.runner": "run.task_runner",
    "run.stall_minutes": "run.stall_timeout_minutes",
    "run.workers": "run.max_workers",
    "scenes.blend_misfit": "scenes.dissolve_max_contrast_residual",
    "scenes.blend_residual": "scenes.dissolve_max_residual",
    "scenes.network_threshold": "scenes.transnetv2_threshold",
    "overlays.min_share": "overlays.min_text_share",
    "clips.encoders": "clips.encoder_workers",
    "clips.margin": "clips.scene_margin_seconds",
    "clips.stride": "clips.stride_seconds",
    "duplicates.min_likeness": "duplicates.min_frame_similarity",
    "duplicates.min_motion": "duplicates.min_motion_similarity",
    "duplicates.min_overlap": "duplicates.min_overlap_seconds",
    "transcripts.model": "transcripts.asr_model",
    "transcripts.speech": "transcripts.asr_backend",
    "captions.asked_again": "captions.max_reprompts",
    "captions.frames": "captions.num_frames",
    "captions.min_overlap": "captions.min_overlap_seconds",
    "captions.neighbours": "captions.caption_context",
    "captions.picture_side": "captions.image_size",
    "captions.same_caption_alarm": "captions.identical_caption_warning_count",
    "captions.send": "captions.visual_input",
    "captions.unavailable_share": "captions.max_failure_rate",
    "cutouts.embedding.every": "cutouts.embedding.frame_stride",
    "cutouts.face.every": "cutouts.face.frame_stride",
    "cutouts.face.min_face": "cutouts.face.min_face_size",
    "cutouts.min_box_covered": "cutouts.min_box_coverage",
    "cutouts.min_inside_box": "cutouts.min_share_in_box",
    "cutouts.reference": "cutouts.face",
    "cutouts.reference.every": "cutouts.face.frame_stride",
    "cutouts.reference.min_face": "cutouts.face.min_face_size",
    "cutouts.sam2.batch": "cutouts.sam2.frame_batch_size",
    "cutouts.sam2.clips": "cutouts.sam2.clip_batch_size",
    "cutouts.vlm.frames": "cutouts.vlm.num_frames",
    "cutouts.vlm.min_certainty": "cutouts.vlm.min_confidence",
    "cutouts.vlm.picture_side": "cutouts.vlm.image_size",
    "cutouts.vlm.unavailable_share": "cutouts.vlm.max_failure_rate",
    "composites.alone_only": "composites.solo_actions_only",
    "composites.located_only": "composites.require_located_characters",
    "composites.max_covered": "composites.max_occlusion",
    "composites.placebo": "composites.same_style_share",
    "lora.batch": "lora.global_batch_size",
    "lora.checkpoint_every": "lora.checkpoint_interval",
    "lora.clip_norm": "lora.max_grad_norm",
    "lora.micro_batch": "lora.micro_batch_size",
    "lora.preview_every": "lora.preview_interval",
    "lora.preview_frames": "lora.preview_num_frames",
    "lora.preview_guidance": "lora.preview_guidance_scale",
    "lora.preview_steps": "lora.preview_num_inference_steps",
    "lora.processes": "lora.num_processes",
    "lora.saved_activations_gb": "lora.activation_budget_gb",
    "lora.targets": "lora.target_modules",
    "lora.timesteps": "lora.timestep_sampling",
    "lora.validate_every": "lora.validation_interval",
    "lora.weighting": "lora.loss_weighting",
    "samples.adapter": "samples.adapter_mode",
    "samples.frames": "samples.num_frames",
    "samples.guidance": "samples.guidance_scale",
    "samples.guidance_batch": "samples.batched_guidance",
    "samples.steps": "samples.num_inference_steps",
    "judge.control_videos": "judge.negative_control_videos",
    "judge.longest_seconds": "judge.max_video_seconds",
    "judge.picture_side": "judge.image_size",
    "judge.samples": "judge.samples_per_question",
    "judge.send": "judge.visual_input",
    "judge.sheet_side": "judge.reference_sheet_size",
    "judge.unavailable_share": "judge.max_failure_rate",
    **{
        f"{section}.{old}": f"{section}.{new}"
        for section in _VLM_SECTIONS
        for old, new in _VLM_KEYS.items()
    },
}
"""Old dotted keys of the settings file and their new ones."""

RENAMED_VALUES: Mapping[str, Mapping[str, str]] = {
    "scenes.detectors": {"blend": "gradual"},
    "captions.caption_context": {"before": "previous"},
    "cutouts.locator_realistic": {"reference": "face"},
    "lora.loss_weighting": {"bell": "gaussian"},
    "samples.adapter_mode": {"beside": "unmerged"},
}
"""Old values of settings and their new ones, by the new key of the setting."""


def reject_renamed_settings(document: Any, path: Path, lines: LineNumbers) -> None:
    """Raise one BadInput that names the line and the new name of every old key and value.

    ``document`` is the content of the settings file ``path``.
    """
    problems = [
        f"{format_location(path, lines, tuple(key.split('.')))}: {change}"
        for key, change in _find_renamed(document, "")
    ]
    if problems:
        raise BadInput("; ".join(problems), fix="Use the new names.")


def _find_renamed(section: Any, prefix: str) -> Iterator[tuple[str, str]]:
    if not isinstance(section, Mapping):
        return
    for name, value in section.items():
        key = f"{prefix}{name}"
        current_key = RENAMED_KEYS.get(key, key)
        changes = [] if current_key == key else [f"renamed to {current_key}"]
        renamed_values = RENAMED_VALUES.get(current_key, {})
        changes += [
            f"the value {entry} is renamed to {renamed_values[entry]}"
            for entry in (value if isinstance(value, list) else [value])
            if isinstance(entry, str) and entry in renamed_values
        ]
        if changes:
            yield key, ", and ".join(changes)
        yield from _find_renamed(value, f"{key}.")
