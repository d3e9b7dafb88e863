"""Hard cuts by PySceneDetect's detectors."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from mimix_core.settings import SceneSettings
from mimix_core.stages.scenes.frame_downscale import Bytes

_WINDOW = 2
"""Frames on each side that the adaptive detector compares a frame with."""

_NOMINAL_RATE = Fraction(24)
"""The detectors count frames; the rate they want beside the count decides nothing."""


class _Both(AdaptiveDetector):  # type: ignore[misc]  # the package has no types
    """AdaptiveDetector and ContentDetector over one score: computing it is most of their work."""

    def __init__(self, content_threshold: float, **options: Any) -> None:
        super().__init__(**options)
        self._content_threshold = content_threshold

    def process_frame(self, timecode: FrameTimecode, frame_img: Bytes) -> list[FrameTimecode]:
        cuts: list[FrameTimecode] = super().process_frame(timecode, frame_img)
        if self._frame_score >= self._content_threshold:
            return [*cuts, timecode]
        return cuts


class Cuts:
    """Feeds detectors and gives the numbers of the frames that open a shot.

    The first and the last picture are shown a few times more: the adaptive detector's window would
    otherwise hide a cut beside the ends of the episode.
    """

    def __init__(self, settings: SceneSettings) -> None:
        self._detector = _detector(settings)
        self._frames = self._shown = 0
        self._last: Bytes | None = None
        self._found: set[int] = set()

    def add(self, bgr: Bytes) -> None:
        """The next frame: uint8 BGR [height, width, 3]."""
        if self._detector is not None:
            self._show(bgr, _WINDOW + 1 if self._last is None else 1)
            self._last = bgr
            self._frames += 1

    def finish(self) -> Iterable[int]:
        """All cuts, in order."""
        if self._last is not None:
            self._show(self._last, _WINDOW)
        return sorted(cut for cut in self._found if 0 < cut < self._frames)

    def _show(self, bgr: Bytes, times: int) -> None:
        for _ in range(times):
            timecode = FrameTimecode(self._shown, fps=_NOMINAL_RATE)
            self._shown += 1
            cuts = self._detector.process_frame(timecode, bgr)
            self._found.update(cut.frame_num - _WINDOW for cut in cuts)


def _detector(settings: SceneSettings) -> Any:
    adaptive = {
        "adaptive_threshold": settings.adaptive_threshold,
        "min_scene_len": 1,
        "window_width": _WINDOW,
    }
    if "content" not in settings.detectors:
        return AdaptiveDetector(**adaptive) if "adaptive" in settings.detectors else None
    if "adaptive" in settings.detectors:
        return _Both(settings.content_threshold, **adaptive)
    return ContentDetector(threshold=settings.content_threshold, min_scene_len=0)
