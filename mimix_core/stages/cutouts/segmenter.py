"""From frames and boxes to an alpha per frame: one interface, several backends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.errors import MissingModel
from mimix_core.settings import CutoutSettings
from mimix_core.stages.cutouts import matting
from mimix_core.stages.cutouts.locate import Box, Located, Track

Images = NDArray[np.uint8]
Floats = NDArray[np.float32]

# Pixels of the region that a cut is computed on; its edge is refined at full size.
_WORK_PIXELS = 45_000
# How far outside its box a character may reach: hand-given boxes are no better than this.
_SLACK = 0.04


@dataclass(frozen=True)
class Segmented:
    """One character of a clip: uint8 alphas [frames, height, width], and the backend's confidence.

    ``scores``: one a frame in 0..1, 0 where there is no mask; to be compared within a backend only.
    """

    alpha_NHW: Images
    scores: list[float]


Shot = tuple[Images, Mapping[str, Located]]
"""A clip: its frames, uint8 RGB [frames, height, width, 3], and where each character is."""


class Segmenter(Protocol):
    """Cuts characters out of clips.

    All characters of a clip come in one call, so that a backend which tracks several at once (SAM2)
    keeps their masks apart. Where a character has no box it has no mask, unless the backend sees
    it there all the same. ``clips_at_once``: as many clips are best given to ``segment_all``.
    """

    @property
    def name(self) -> str: ...

    @property
    def clips_at_once(self) -> int: ...

    def segment_all(self, shots: Sequence[Shot]) -> list[dict[str, Segmented]]: ...

    def segment(
        self, frames_NHWC: Images, located: Mapping[str, Located]
    ) -> dict[str, Segmented]: ...


_WEIGHTS = {"selfie": "selfie_segmentation.tflite", "sam2": "a checkpoint of SAM2.1"}


def make_segmenter(settings: CutoutSettings, weights: Path | None) -> Segmenter:
    """The backend that the settings name. Raises MissingModel when its weights are not there."""
    if settings.backend == "grabcut":
        return GrabCutSegmenter()
    if weights is None:
        raise MissingModel(
            f"the cutout backend '{settings.backend}' needs {_WEIGHTS[settings.backend]}",
            where="settings, key cutouts.weights",
            fix="Name the file there, or choose the backend 'grabcut', which needs no weights.",
        )
    if settings.backend == "selfie":
        return SelfieSegmenter(weights)
    from mimix_core.stages.cutouts.sam2.sam2_segmenter import make_sam2

    return make_sam2(settings.sam2, weights)


@dataclass(frozen=True)
class _Region:
    """The part of the frames around all of a track's boxes, at the size it is worked on."""

    x0: int
    y0: int
    x1: int
    y1: int
    scale: float
    frames_NHWC: Images

    @property
    def shape(self) -> tuple[int, int]:
        return self.frames_NHWC.shape[1], self.frames_NHWC.shape[2]


class GrabCutSegmenter:
    """Weights-free: colours inside the box against those outside, by graph cut.

    Good where a character's colours are its own; poor where it looks like what is behind it.
    """

    name = "grabcut"
    clips_at_once = 1

    def segment_all(self, shots: Sequence[Shot]) -> list[dict[str, Segmented]]:
        return [self.segment(*shot) for shot in shots]

    def segment(self, frames_NHWC: Images, located: Mapping[str, Located]) -> dict[str, Segmented]:
        with single_thread():
            return {name: self._one(frames_NHWC, place.boxes) for name, place in located.items()}

    def _one(self, frames_NHWC: Images, track: Track) -> Segmented:
        region = _region(frames_NHWC, track)
        allowed = _allowed(region, track)
        prior = np.stack([_dome(a) for a in allowed])
        evidence = matting.colour_evidence(region.frames_NHWC, prior)
        return _finish(frames_NHWC, region, allowed, _combined(prior, evidence, allowed))


class SelfieSegmenter:
    """MediaPipe's person mask, taught the clip's colours, cut and softened.

    The net (256 x 256, Apache-2.0) looks at each frame three times: whole, at the box and with
    much around the box. What only one of the three takes for a person is doubtful.
    """

    name = "selfie"
    clips_at_once = 1
    _VIEWS = (0.15, 0.5)  # margin around the box, in shares of its size

    def __init__(self, weights: Path) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._net: Any = Interpreter(model_path=str(weights), num_threads=1)
        except ValueError as error:
            raise MissingModel(
                f"not readable as a tflite model ({error})", where=str(weights)
            ) from error
        self._net.allocate_tensors()
        self._input = self._net.get_input_details()[0]
        self._output = self._net.get_output_details()[0]["index"]
        if tuple(self._input["shape"]) != (1, 256, 256, 3):
            raise MissingModel(
                f"takes {self._input['shape'].tolist()}, wanted [1, 256, 256, 3]",
                where=str(weights),
                fix="Use the square selfie_segmentation.tflite.",
            )

    def segment_all(self, shots: Sequence[Shot]) -> list[dict[str, Segmented]]:
        return [self.segment(*shot) for shot in shots]

    def segment(self, frames_NHWC: Images, located: Mapping[str, Located]) -> dict[str, Segmented]:
        with single_thread():
            whole = [self._person(frame) for frame in frames_NHWC]
            return {
                name: self._one(frames_NHWC, whole, place.boxes) for name, place in located.items()
            }

    def _one(self, frames_NHWC: Images, whole: Sequence[Floats], track: Track) -> Segmented:
        region = _region(frames_NHWC, track)
        allowed = _allowed(region, track)
        prior = np.zeros(allowed.shape, np.float32)
        height, width = frames_NHWC.shape[1:3]
        for n, box in enumerate(track):
            if box is None:
                continue
            total: Floats = _seen(whole[n], (0, 0, width, height), region)
            for margin in self._VIEWS:
                x0, y0, x1, y1 = view = _window(box, margin, width, height)
                total = total + _seen(self._person(frames_NHWC[n, y0:y1, x0:x1]), view, region)
            mean: Floats = total / np.float32(1 + len(self._VIEWS))
            prior[n] = matting.expit(mean) * allowed[n]
        evidence = matting.colour_evidence(region.frames_NHWC, prior)
        return _finish(frames_NHWC, region, allowed, _combined(prior, evidence, allowed))

    def _person(self, image_HWC: Images) -> Floats:
        """Logit of the person mask, 256 x 256 over the whole image."""
        square = cv2.resize(image_HWC, (256, 256), interpolation=cv2.INTER_AREA)
        self._net.set_tensor(self._input["index"], (square.astype(np.float32) / 255)[None])
        self._net.invoke()
        return matting.logit(self._net.get_tensor(self._output)[0, ..., 0])


def _combined(prior_NHW: Floats, evidence_NHW: Floats, allowed_NHW: NDArray[np.bool_]) -> Floats:
    """Position and colour as independent witnesses; a colour counts more than a place."""
    both: Floats = 0.6 * matting.logit(prior_NHW) + 1.0 * matting.logit(evidence_NHW)
    probability: Floats = matting.expit(both) * allowed_NHW
    return probability


def _finish(
    frames_NHWC: Images, region: _Region, allowed: NDArray[np.bool_], probability_NHW: Floats
) -> Segmented:
    there = matting.correspondences(region.frames_NHWC)
    probability_NHW = matting.steady(probability_NHW, there) * allowed
    masks = matting.cut(region.frames_NHWC, probability_NHW, allowed)
    steadied = matting.steady(masks.astype(np.float32), there) * allowed
    alphas = np.zeros(frames_NHWC.shape[:3], np.uint8)
    scores = [0.0] * len(frames_NHWC)
    for n, small in enumerate(region.frames_NHWC):
        mask = matting.tidy((steadied[n] >= 0.5).astype(np.uint8))
        if mask.any():
            full = frames_NHWC[n, region.y0 : region.y1, region.x0 : region.x1]
            alpha = matting.soft_edge(small, mask, full)
            alphas[n, region.y0 : region.y1, region.x0 : region.x1] = np.rint(alpha * 255)
            # How sure the evidence was of what the cut took.
            scores[n] = round(float(probability_NHW[n][mask > 0].mean()), 4)
    return Segmented(alphas, scores)


def _dome(allowed_HW: NDArray[np.bool_]) -> Floats:
    """Inside a box: likely in the middle, doubtful at the sides; 0 outside."""
    distance = cv2.distanceTransform(allowed_HW.astype(np.uint8), cv2.DIST_L2, 3)
    peak = max(float(distance.max()), 1.0)
    dome: Floats = np.clip(0.35 + 0.6 * distance / peak, 0, 0.95).astype(np.float32) * allowed_HW
    return dome


def _window(box: Box, margin: float, width: int, height: int) -> tuple[int, int, int, int]:
    """Whole pixels around a box with ``margin`` shares of its size added on each side."""
    x0, y0, x1, y1 = box
    dx, dy = margin * (x1 - x0), margin * (y1 - y0)
    left, top = max(0, int(x0 - dx)), max(0, int(y0 - dy))
    right, bottom = min(width, int(np.ceil(x1 + dx))), min(height, int(np.ceil(y1 + dy)))
    return left, top, max(right, left + 2), max(bottom, top + 2)


def _region(frames_NHWC: Images, track: Track) -> _Region:
    height, width = frames_NHWC.shape[1:3]
    boxes = [box for box in track if box is not None]
    around = (
        min(b[0] for b in boxes),
        min(b[1] for b in boxes),
        max(b[2] for b in boxes),
        max(b[3] for b in boxes),
    )
    x0, y0, x1, y1 = _window(around, 0.15, width, height)
    scale = min(1.0, (_WORK_PIXELS / ((x1 - x0) * (y1 - y0))) ** 0.5)
    size = (max(8, round((x1 - x0) * scale)), max(8, round((y1 - y0) * scale)))
    small = [
        cv2.resize(frame[y0:y1, x0:x1], size, interpolation=cv2.INTER_AREA) for frame in frames_NHWC
    ]
    return _Region(x0, y0, x1, y1, scale, np.stack(small))


def _allowed(region: _Region, track: Track) -> NDArray[np.bool_]:
    loose: list[Box | None] = []
    for box in track:
        if box is None:
            loose.append(None)
            continue
        dx, dy = _SLACK * (box[2] - box[0]), _SLACK * (box[3] - box[1])
        loose.append((box[0] - dx, box[1] - dy, box[2] + dx, box[3] + dy))
    return matting.boxes_allowed(loose, (region.x0, region.y0), region.scale, region.shape)


def _seen(logits_HW: Floats, view: tuple[int, int, int, int], region: _Region) -> Floats:
    """A view's 256 x 256 answer, sampled at the region's pixels."""
    height, width = region.shape
    x0, y0, x1, y1 = view
    per_x, per_y = 256 / (x1 - x0), 256 / (y1 - y0)
    step_x, step_y = (region.x1 - region.x0) / width, (region.y1 - region.y0) / height
    # Pixel centres: region pixel u lies at x = region.x0 + (u + 0.5) step - 0.5.
    matrix = np.array(
        [
            [step_x * per_x, 0, (region.x0 - x0 + 0.5 * step_x) * per_x - 0.5],
            [0, step_y * per_y, (region.y0 - y0 + 0.5 * step_y) * per_y - 0.5],
        ]
    )
    seen: Floats = cv2.warpAffine(
        logits_HW,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return seen


@contextmanager
def single_thread() -> Iterator[None]:
    """cv2 on one thread: its sums do not depend on the machine, and clips run beside each other."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)
