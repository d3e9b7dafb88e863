"""Scenes of an episode: one decode finds the cuts and says what each shot is like.

Cuts are found on frame numbers by PySceneDetect's detectors; PTS, the integers that everything
later relies on, are attached to the numbers here. Source: paper, section 3.3 ("scene by scene").
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scenedetect.common import FrameTimecode
from scenedetect.detectors import AdaptiveDetector, ContentDetector

from mimix_core import ids, progress, tables
from mimix_core.keys import Immaterial
from mimix_core.library import Style
from mimix_core.media import NoVideoStream, UnreadableVideo, VideoInfo, open_video
from mimix_core.refs import FileRef, Frozen
from mimix_core.settings import SceneSettings
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import Reason, Row

_DETECTOR_WINDOW = 2
"""Frames on each side that the adaptive detector compares a frame with."""

_NOMINAL_RATE = Fraction(24)
"""The detectors count frames; the rate they want beside the count decides nothing."""

_BLACK_LUMA = 20
"""A pixel below this (of 255) counts as black."""

_BLACK_PIXELS = 0.98
"""A frame with more black pixels than this share is black."""

_STILL_DIFFERENCE = 2.0
"""Two frames are the same picture when no part of them differs by more (mean luma levels)."""

_STILL_PARTS = (16, 9)
"""The parts: columns, rows."""

_STILL_SECONDS = Fraction(1, 2)
"""Shorter stills are drawn animation (a picture held for 2 to 4 frames), not a frozen picture."""


class SceneInputs(Frozen):
    """One episode."""

    unit: Annotated[str, Immaterial()]
    show: str
    style: Style
    video: FileRef


@dataclass(frozen=True)
class Frame:
    """What the analysis keeps of a frame. ``difference``: to the frame before, 0..1."""

    pts: int
    difference: float
    sharpness: float
    black: bool
    still: bool


@dataclass(frozen=True)
class Analysis:
    """All frames of an episode, and the numbers of the frames that open a new scene."""

    info: VideoInfo
    frames: Sequence[Frame]
    cuts: Sequence[int]
    end_pts: int


def run(inputs: SceneInputs, settings: SceneSettings, out: Path) -> StageReport:
    """One row per scene; an episode that cannot be read is one failed row."""
    episode = ids.episode_id(inputs.show, inputs.video.sha256)
    try:
        analysis = analyse(inputs.video.path, settings)
    except UnreadableVideo as error:
        reason = (
            Reason.NO_VIDEO_STREAM if isinstance(error, NoVideoStream) else Reason.UNREADABLE_VIDEO
        )
        values = _values(inputs, episode, None, 0, 0)
        return StageReport([tables.failed(reason, error.what, **values)], rows_in=1)
    starts = [0, *analysis.cuts]
    ends = [*analysis.cuts, len(analysis.frames)]
    rows = [
        _row(inputs, settings, episode, analysis, start, end)
        for start, end in zip(starts, ends, strict=True)
    ]
    return StageReport(rows, rows_in=len(starts), notes={"frames": len(analysis.frames)})


STAGE = Stage(
    name="scenes",
    version=1,
    inputs=SceneInputs,
    settings=SceneSettings,
    table=tables.SCENES,
    run=run,
)


def analyse(path: Path, settings: SceneSettings) -> Analysis:
    """Decode a video once, at ``analysis_height``. Raises UnreadableVideo."""
    frames: list[Frame] = []
    cuts: list[int] = []
    detector = _Cuts(settings)
    with open_video(path, threads=settings.decode_threads) as video:
        before: NDArray[np.uint8] | None = None
        still = _Stills(video.info.time_base)
        end = 0
        for frame in video.frames():
            image = _analysis_image(frame, settings.analysis_height)
            luma = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            cuts += detector.add(image)
            still.add(frame.pts, luma)
            frames.append(_measure(frame.pts, luma, before))
            end = frame.pts + _duration(frame, frames, video.info)
            before = luma
            if len(frames) % 240 == 0:
                progress.advance(len(frames), video.info.expected_frames, "frames analysed")
        cuts += detector.finish()
        held = still.finish(end)
    marked = [
        Frame(frame.pts, frame.difference, frame.sharpness, frame.black, is_still)
        for frame, is_still in zip(frames, held, strict=True)
    ]
    return Analysis(video.info, marked, cuts, end)


class _Cuts:
    """Feeds a detector and gives the numbers of the frames that open a scene.

    The first and the last picture are shown to the detector a few times more: its window would
    otherwise hide a cut beside the ends of the episode.
    """

    def __init__(self, settings: SceneSettings) -> None:
        self._detector: Any = (
            AdaptiveDetector(
                adaptive_threshold=settings.threshold,
                min_scene_len=settings.min_scene_frames,
                window_width=_DETECTOR_WINDOW,
            )
            if settings.detector == "adaptive"
            else ContentDetector(
                threshold=settings.threshold, min_scene_len=settings.min_scene_frames
            )
        )
        self._shown = 0
        self._last: NDArray[np.uint8] | None = None

    def add(self, image: NDArray[np.uint8]) -> Iterator[int]:
        repeat = _DETECTOR_WINDOW + 1 if self._last is None else 1
        self._last = image
        return self._show(image, repeat)

    def finish(self) -> Iterator[int]:
        if self._last is None:
            return iter(())
        return self._show(self._last, _DETECTOR_WINDOW)

    def _show(self, image: NDArray[np.uint8], times: int) -> Iterator[int]:
        for _ in range(times):
            timecode = FrameTimecode(self._shown, fps=_NOMINAL_RATE)
            self._shown += 1
            for cut in self._detector.process_frame(timecode, image):
                yield cut.frame_num - _DETECTOR_WINDOW


class _Stills:
    """Marks the frames that belong to a stretch in which the picture stands still.

    Each frame is compared with the first of its stretch, so that a slow fade is no still.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._minimum = _STILL_SECONDS / time_base
        self._anchor: NDArray[np.uint8] | None = None
        self._stretch: list[int] = []
        self._marks: list[bool] = []

    def add(self, pts: int, luma: NDArray[np.uint8]) -> None:
        if self._anchor is None or not _same(self._anchor, luma):
            self._end(pts)
            self._anchor = luma
        self._stretch.append(pts)

    def finish(self, end: int) -> list[bool]:
        self._end(end)
        return self._marks

    def _end(self, end: int) -> None:
        if self._stretch:
            frozen = len(self._stretch) > 1 and end - self._stretch[0] >= self._minimum
            self._marks += [frozen] * len(self._stretch)
        self._stretch = []


def _same(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> bool:
    difference = cv2.resize(cv2.absdiff(one, other), _STILL_PARTS, interpolation=cv2.INTER_AREA)
    return float(difference.max()) <= _STILL_DIFFERENCE


def _measure(pts: int, luma: NDArray[np.uint8], before: NDArray[np.uint8] | None) -> Frame:
    difference = 0.0 if before is None else cv2.mean(cv2.absdiff(luma, before))[0] / 255
    black = float(np.count_nonzero(luma < _BLACK_LUMA)) / luma.size > _BLACK_PIXELS
    sharpness = float(cv2.meanStdDev(cv2.Laplacian(luma, cv2.CV_32F))[1][0, 0]) ** 2
    return Frame(pts, difference, sharpness, black, still=False)


def _analysis_image(frame: Any, height: int) -> NDArray[np.uint8]:
    """The coded picture at reduced size, BGR; never enlarged."""
    height = min(height, frame.height)
    width = max(2, round(frame.width * height / frame.height / 2) * 2)
    image: NDArray[np.uint8] = frame.reformat(
        width=width, height=height, format="bgr24", interpolation="AREA"
    ).to_ndarray()
    return image


def _duration(frame: Any, frames: Sequence[Frame], info: VideoInfo) -> int:
    """How long a frame is shown, in PTS: as stated, else as long as the frame before it."""
    if frame.duration:
        return int(frame.duration)
    if len(frames) > 1:
        return frames[-1].pts - frames[-2].pts
    return max(1, int(1 / (info.rate * info.time_base))) if info.rate else 1


def _row(
    inputs: SceneInputs,
    settings: SceneSettings,
    episode: str,
    analysis: Analysis,
    start: int,
    end: int,
) -> Row:
    frames = analysis.frames[start:end]
    last = end == len(analysis.frames)
    values = _values(
        inputs,
        episode,
        analysis,
        frames[0].pts,
        analysis.end_pts if last else analysis.frames[end].pts,
    )
    values |= {
        "frames": len(frames),
        # Differences inside the scene: that of its first frame is the cut.
        "motion": _mean([frame.difference for frame in frames[1:]]),
        "sharpness": _mean([frame.sharpness for frame in frames]),
        "black_share": _mean([float(frame.black) for frame in frames]),
        "frozen_share": _mean([float(frame.still) for frame in frames]),
    }
    for share, limit, reason, word in (
        ("black_share", settings.max_black_share, Reason.SCENE_BLACK, "black"),
        ("frozen_share", settings.max_frozen_share, Reason.SCENE_FROZEN, "frozen"),
    ):
        if values[share] > limit:
            detail = f"{values[share]:.0%} of the frames are {word}, {limit:.0%} allowed"
            return tables.rejected(reason, detail, **values)
    return tables.ok(**values)


def _values(
    inputs: SceneInputs, episode: str, analysis: Analysis | None, start: int, end: int
) -> Row:
    time_base = analysis.info.time_base if analysis else Fraction(0)
    return {
        "scene_id": ids.scene_id(episode, start),
        "episode_id": episode,
        "show": inputs.show,
        "style": inputs.style.value,
        "origin_pts": analysis.frames[0].pts if analysis else 0,
        "start_pts": start,
        "end_pts": end,
        "time_base_num": time_base.numerator,
        "time_base_den": time_base.denominator,
        "frames": 0,
        "width": analysis.info.geometry.width if analysis else 0,
        "height": analysis.info.geometry.height if analysis else 0,
        "motion": 0.0,
        "sharpness": 0.0,
        "black_share": 0.0,
        "frozen_share": 0.0,
    }


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
