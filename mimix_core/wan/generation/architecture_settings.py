"""Check that the settings of generation are implemented for the backbone's architecture."""

from __future__ import annotations

from mimix_core.errors import BadInput
from mimix_core.settings import SampleSettings
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
