"""Collect what annotation tools are given: videos with captions, measures, boxes and masks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mimix_core.studio.studio_item import StudioItem

Box = tuple[float, float, float, float]
"""x, y, width and height in pixels."""


@dataclass(frozen=True)
class CharacterTrack:
    """A character that was cut out of a clip.

    ``boxes``: of its mask, one for each frame; None where it is not there. ``masks``: the file of
    its masks (``mimix_core.media.masks``). ``confidence``: of the segmenter, in 0..1.
    """

    character: str
    boxes: tuple[Box | None, ...]
    masks: Path | None
    confidence: float | None


@dataclass(frozen=True)
class ToolSample:
    """A clip, composite or generated video with its file.

    ``rate``: frames per second. ``tags``: kind, split, show, style and verdict. ``fields``: texts
    by name. ``numbers``: measures and scores by name.
    """

    id: str
    video: Path
    sha256: str
    width: int
    height: int
    frames: int
    rate: float
    caption: str
    characters: tuple[str, ...]
    tags: tuple[str, ...]
    fields: dict[str, str]
    numbers: dict[str, float]
    tracks: list[CharacterTrack] = field(default_factory=list)

    @property
    def file(self) -> str:
        """The path of the video in an exported folder; ids are unique and plain ASCII."""
        return f"videos/{self.id}{self.video.suffix}"


def collect_samples(items: Iterable[StudioItem], root: Path) -> list[ToolSample]:
    """Return the items that have a video, the rejected ones too, with the tracks of clips.

    ``root``: of the store, which the paths of items are relative to.
    """
    samples: dict[str, ToolSample] = {}
    for item in items:
        video = item.files.get("video")
        if item.kind == "cutout":
            clip = samples.get(str(item.data.get("clip")))
            if clip is not None and item.status == "ok":
                clip.tracks.append(_track(item, root))
        elif item.kind in ("clip", "composite", "video") and video and item.digest:
            samples[item.id] = _sample(item, root / video)
    return list(samples.values())


def _sample(item: StudioItem, video: Path) -> ToolSample:
    tags = (item.kind, item.split, item.show, item.style, item.status, item.reason)
    fields = {
        "kind": item.kind,
        "show": item.show,
        "episode": item.episode,
        "style": item.style,
        "split": item.split,
        "stage": item.stage,
        "status": item.status,
        "reason": item.reason,
        "detail": item.detail,
        "dialogue": item.dialogue,
        "sha256": item.digest,
    }
    return ToolSample(
        id=item.id,
        video=video,
        sha256=item.digest,
        width=int(item.data["width"]),
        height=int(item.data["height"]),
        frames=int(item.data["frames"]),
        rate=float(item.data["rate"]),
        caption=item.caption,
        characters=item.characters,
        tags=tuple(dict.fromkeys(tag for tag in tags if tag)),
        fields={name: text for name, text in fields.items() if text},
        numbers={name: float(value) for name, value in item.numbers.items() if value is not None},
    )


def _track(item: StudioItem, root: Path) -> CharacterTrack:
    masks = item.files.get("masks")
    return CharacterTrack(
        character=item.characters[0],
        boxes=tuple(_box(corners) for corners in item.details["boxes"]),
        masks=root / masks if masks else None,
        confidence=item.numbers.get("confidence"),
    )


def _box(corners: Iterable[float]) -> Box | None:
    left, top, right, bottom = corners
    return (left, top, right - left, bottom - top) if right > left and bottom > top else None
