"""Check that settings suit the backbone: its frame rate, and what its architecture supports."""

from __future__ import annotations

from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.errors import BadInput
from mimix_core.settings import BackboneSettings, SampleSettings
from mimix_core.wan.backbone import Backbone
from mimix_core.wan.frozen_weights import WAN_CLASS

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


def check_clip_rate(settings: BackboneSettings, backbone: Backbone) -> None:
    """Raise BadInput for a backbone of another frame rate than clips, unless it is accepted."""
    if backbone.frame_rate in (None, CLIP_RATE) or settings.accept_clip_rate:
        return
    raise BadInput(
        f"{backbone.name} was trained on {backbone.frame_rate} frames per second, but clips and "
        f"generated videos have {CLIP_RATE}",
        where="settings, key backbone.name",
        fix="Name a backbone of that rate, such as wan2.2-t2v-a14b, or one that is told the rate, "
        "such as ltx-video-0.9.5. Or set backbone.accept_clip_rate to true: the adapter then has "
        "to learn the speed as well.",
    )
