"""All fuzz targets by name."""

from __future__ import annotations

from functools import cache
from importlib import import_module

from tests.fuzz.target import Target

_FAMILIES = {
    "yaml_targets": ("library", "settings", "scripts"),
    "subtitle_targets": ("subtitles",),
    "caption_targets": ("captions", "caption-files"),
    "table_targets": ("clip-tables", "clip-folders"),
    "adapter_targets": ("adapters",),
    "model_folder_targets": ("model-folders",),
    "reply_targets": ("replies", "provider-errors"),
    "studio_targets": ("studio-http", "studio-api"),
    "voice_targets": ("voice-recordings", "speaker-models"),
    "misbehaving_targets": ("misbehaving",),
}
"""Modules that define targets, imported when one of theirs is wanted, and the targets' names."""

TARGET_NAMES = tuple(name for names in _FAMILIES.values() for name in names)[:-1]
"""All but the last, which is for the watch's own test."""


@cache
def get_target(name: str) -> Target:
    """Return a target by its name."""
    [family] = [family for family, names in _FAMILIES.items() if name in names]
    targets: tuple[Target, ...] = import_module(f"tests.fuzz.{family}").TARGETS
    [found] = [target for target in targets if target.name == name]
    return found
