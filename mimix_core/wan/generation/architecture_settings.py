"""Check that settings suit the backbone: its frame rate, and what its architecture supports."""

from __future__ import annotations

from mimix_core.domain.timeline import CLIP_RATE, CLIP_SECONDS
from mimix_core.errors import BadInput
from mimix_core.settings import BackboneSettings, SampleSettings
from mimix_core.wan.backbone import Backbone
from mimix_core.wan.frozen_weights import WAN_CLASS
from mimix_core.wan.model_registry import get_backbone

# Settings that are implemented for Wan alone, with the values that any architecture supports.
_WAN_ONLY: dict[str, tuple[str | None, ...]] = {
    "solver": ("unipc",),
    "attention": ("auto",),
    "compile": ("auto", "off"),
    "step_cache": (None,),
}


def check_generation_settings(settings: SampleSettings, backbone: Backbone) -> None:
    """Raise BadInput for a setting that only Wan's transformer supports."""
    if backbone.transformer.class_name == WAN_CLASS:
        return
    for key, supported in _WAN_ONLY.items():
        value = getattr(settings, key)
        if value not in supported:
            raise BadInput(
                f"{key} {value} is not implemented for {backbone.name}",
                where=f"settings, key samples.{key}",
                fix=f"Set samples.{key} to {supported[0]}; only Wan supports it."
                if supported[0]
                else f"Leave out samples.{key}; only Wan supports it.",
            )


def check_clip_rate(settings: BackboneSettings, frame_rate: int) -> None:
    """Raise BadInput for a backbone of another frame rate than clips, unless it is accepted."""
    backbone = get_backbone(settings.name)
    if frame_rate == (backbone.frame_rate or CLIP_RATE):
        return
    if backbone.frame_rate is None:
        raise BadInput(
            f"{backbone.name} is told the frame rate, and MiMix tells it {CLIP_RATE}",
            where="settings, key clips.frame_rate",
            fix=f"Leave out clips.frame_rate; clips then have {CLIP_RATE} frames per second.",
        )
    if settings.accept_clip_rate:
        return
    longest = CLIP_SECONDS * backbone.frame_rate + 1
    raise BadInput(
        f"{backbone.name} was trained on {backbone.frame_rate} frames per second, but clips and "
        f"generated videos have {frame_rate}",
        where="settings, key clips.frame_rate",
        fix=f"Set clips.frame_rate to {backbone.frame_rate}, and clips.frames and "
        f"samples.num_frames to {longest} for {CLIP_SECONDS} seconds; or set "
        "backbone.accept_clip_rate to true: the adapter then has to learn the speed as well.",
    )
