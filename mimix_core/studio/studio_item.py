"""One thing to look at in the studio."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class StudioItem:
    """One thing to look at.

    ``stage``, ``status``, ``reason`` and ``detail``: of the last stage that judged it. ``numbers``:
    measures to filter and sort by. ``data``: what the page shows at once; ``details``: what it
    shows of the opened item only. ``files``: by role (video, audio, masks, frame, crop-0, ...), the
    path relative to the store, or for a track to the folder of proposals. ``digest``: of the video;
    ``masks_digest``: of the masks file.
    """

    kind: str
    id: str
    show: str = ""
    episode: str = ""
    style: str = ""
    stage: str = ""
    status: str = ""
    reason: str = ""
    detail: str = ""
    split: str = ""
    review: str = ""
    characters: tuple[str, ...] = ()
    caption: str = ""
    dialogue: str = ""
    digest: str = ""
    masks_digest: str = ""
    numbers: dict[str, float] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    details: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
