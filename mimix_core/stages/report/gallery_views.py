"""Values that the report's galleries show: one view for each clip, cutout, composite or video."""

from __future__ import annotations

from dataclasses import dataclass

from mimix_core.stages.report.labels import CaptionSpan
from mimix_core.stages.report.thumbnails import EmbeddedImage


@dataclass(frozen=True)
class LinkedVideo:
    """A complete video: its path relative to the page ("" if it was not copied) and its size."""

    path: str
    size: str


@dataclass(frozen=True)
class ClipView:
    """A clip with its caption, its dialogue and the complete video."""

    id: str
    show: str
    show_title: str
    style: str
    position: str
    preview: EmbeddedImage
    caption: tuple[CaptionSpan, ...]
    missing_caption: str
    dialogue: str
    video: LinkedVideo = LinkedVideo("", "")


@dataclass(frozen=True)
class CutoutView:
    """A character in a clip, and the isolated character (None without a mask)."""

    character: str
    color: int
    show_title: str
    backends: str
    in_clip: EmbeddedImage
    isolated: EmbeddedImage | None
    rejection: str
    detail: str


@dataclass(frozen=True)
class CompositeView:
    """A composite with its source, its cutout and its background."""

    character: str
    color: int
    character_style: str
    source_show: str
    show: str
    style: str
    source: EmbeddedImage
    cutout: EmbeddedImage
    background: EmbeddedImage
    result: EmbeddedImage
    caption: tuple[CaptionSpan, ...]
    video: LinkedVideo = LinkedVideo("", "")


@dataclass(frozen=True)
class SampleView:
    """A generated video."""

    prompt: tuple[CaptionSpan, ...]
    category: str
    seed: int
    preview: EmbeddedImage
    format: str
    video: LinkedVideo = LinkedVideo("", "")


@dataclass(frozen=True)
class PreviewView:
    """A prompt's video at one training step."""

    step: int
    seed: int
    prompt: tuple[CaptionSpan, ...]
    preview: EmbeddedImage
