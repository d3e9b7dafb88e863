"""Hard cut detection with PySceneDetect's content detectors.

Their score is the mean difference of hue, saturation and brightness. Where there is no color, two
of the three say nothing, or are noise: there brightness decides, and in between in proportion.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from typing import Any

import cv2
from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from mimix_core.settings import SceneSettings
from mimix_core.stages.scenes.frame_downscale import ByteArray

_WINDOW = 2
"""Neighbors on each side that the adaptive detector compares a frame with."""

_NOMINAL_RATE = Fraction(24)
"""The detectors need a frame rate, but only their frame counts are used."""


class _ColorAwareScore:
    """The score of both detectors; ``color_share`` is set for each frame before it is processed."""

    color_share = 1.0
    _previous_share = 1.0
    _previous: Sequence[Any] = ()

    def _calculate_frame_score(self, timecode: FrameTimecode, frame_img: ByteArray) -> float:
        planes = cv2.split(cv2.cvtColor(frame_img, cv2.COLOR_BGR2HSV))
        previous, self._previous = self._previous, planes
        # A cut from color to black and white is a change of color.
        share = max(self.color_share, self._previous_share)
        self._previous_share = self.color_share
        if not previous:
            return 0.0
        pixels = float(planes[0].size)
        hue, saturation, brightness = (
            cv2.norm(one, other, cv2.NORM_L1) / pixels
            for one, other in zip(planes, previous, strict=True)
        )
        in_color = float((hue + saturation + brightness) / 3.0)
        return in_color if share == 1 else share * in_color + (1 - share) * float(brightness)


class _Adaptive(_ColorAwareScore, AdaptiveDetector):  # type: ignore[misc]  # no types
    """AdaptiveDetector on the score that considers color."""


class _Content(_ColorAwareScore, ContentDetector):  # type: ignore[misc]  # no types
    """ContentDetector on the score that considers color."""


class _CombinedDetector(_Adaptive):
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

    def add(self, bgr: ByteArray, color_share: float = 1.0) -> None:
        """Add the next frame, uint8 BGR [height, width, 3], and how much its color counts."""
        if self._detector is not None:
            self._detector.color_share = color_share
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
        return _Adaptive(**adaptive) if "adaptive" in settings.detectors else None
    if "adaptive" in settings.detectors:
        return _CombinedDetector(settings.content_threshold, **adaptive)
    return _Content(threshold=settings.content_threshold, min_scene_len=0)
