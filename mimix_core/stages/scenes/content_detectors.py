"""Hard cut detection with PySceneDetect's content detectors."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from mimix_core.settings import SceneSettings
from mimix_core.stages.scenes.frame_downscale import ByteArray

_WINDOW = 2
"""Neighbors on each side that the adaptive detector compares a frame with."""

_NOMINAL_RATE = Fraction(24)
"""The detectors need a frame rate, but only their frame counts are used."""


class _CombinedDetector(AdaptiveDetector):  # type: ignore[misc]  # the package has no types
    """AdaptiveDetector and ContentDetector on a shared score, which is most of their work."""

    def __init__(self, content_threshold: float, **options: Any) -> None:
        super().__init__(**options)
        self._content_threshold = content_threshold

    def process_frame(self, timecode: FrameTimecode, frame_img: ByteArray) -> list[FrameTimecode]:
        cuts: list[FrameTimecode] = super().process_frame(timecode, frame_img)
        if self._frame_score >= self._content_threshold:
            return [*cuts, timecode]
        return cuts


class ContentCutDetector:
    """Detects hard cuts: the numbers of the frames that start a shot.

    The first and the last frame are fed repeatedly, because the adaptive detector's window would
    otherwise hide a cut near the ends of the episode.
    """

    def __init__(self, settings: SceneSettings) -> None:
        self._detector = _build_detector(settings)
        self._frames = self._fed = 0
        self._last: ByteArray | None = None
        self._cuts: set[int] = set()

    def add(self, bgr: ByteArray) -> None:
        """Add the next frame, uint8 BGR [height, width, 3]."""
        if self._detector is not None:
            self._feed(bgr, _WINDOW + 1 if self._last is None else 1)
            self._last = bgr
            self._frames += 1

    def finish(self) -> Iterable[int]:
        """Return all cuts, in order."""
        if self._last is not None:
            self._feed(self._last, _WINDOW)
        return sorted(cut for cut in self._cuts if 0 < cut < self._frames)

    def _feed(self, bgr: ByteArray, times: int) -> None:
        for _ in range(times):
            timecode = FrameTimecode(self._fed, fps=_NOMINAL_RATE)
            self._fed += 1
            cuts = self._detector.process_frame(timecode, bgr)
            self._cuts.update(cut.frame_num - _WINDOW for cut in cuts)


def _build_detector(settings: SceneSettings) -> Any:
    adaptive = {
        "adaptive_threshold": settings.adaptive_threshold,
        "min_scene_len": 1,
        "window_width": _WINDOW,
    }
    if "content" not in settings.detectors:
        return AdaptiveDetector(**adaptive) if "adaptive" in settings.detectors else None
    if "adaptive" in settings.detectors:
        return _CombinedDetector(settings.content_threshold, **adaptive)
    return ContentDetector(threshold=settings.content_threshold, min_scene_len=0)
