"""Backend ``selfie``: MediaPipe's person mask, refined with the clip's colors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mimix_core.errors import MissingModel
from mimix_core.media.opencv_threads import opencv_single_thread
from mimix_core.stages.cutouts import matting
from mimix_core.stages.cutouts.backends.work_region import (
    Floats,
    WorkRegion,
    combine_evidence,
    compute_matte,
    crop_work_region,
    expand_to_pixels,
    rasterize_allowed,
)
from mimix_core.stages.cutouts.locate import BoxTrack, FrameBoxes
from mimix_core.stages.cutouts.segmenter import CharacterMatte, Images, LocatedClip


class SelfieSegmenter:
    """Segment with MediaPipe's selfie network, a color model of the clip and a graph cut.

    The network (256 x 256, Apache-2.0) sees each frame three times: the complete frame, the box
    with a small margin and the box with a large one. The mean of the three is the prior, so pixels
    that only one view takes for a person are uncertain.
    """

    name = "selfie"
    batch_size = 1
    _VIEW_MARGINS = (0.15, 0.5)  # around the box, as shares of its size

    def __init__(self, weights: Path) -> None:
        """Raises MissingModel when ``weights`` is not the expected network."""
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._network: Any = Interpreter(model_path=str(weights), num_threads=1)
        except ValueError as error:
            raise MissingModel(
                f"not readable as a tflite model ({error})", where=str(weights)
            ) from error
        self._network.allocate_tensors()
        self._input = self._network.get_input_details()[0]
        self._output = self._network.get_output_details()[0]["index"]
        if tuple(self._input["shape"]) != (1, 256, 256, 3):
            raise MissingModel(
                f"input shape is {self._input['shape'].tolist()}, expected [1, 256, 256, 3]",
                where=str(weights),
                fix="Use the square selfie_segmentation.tflite.",
            )

    def segment_batch(self, clips: Sequence[LocatedClip]) -> list[dict[str, CharacterMatte]]:
        return [self.segment(clip.frames_NHWC, clip.tracks) for clip in clips]

    def segment(
        self, frames_NHWC: Images, tracks: Mapping[str, BoxTrack]
    ) -> dict[str, CharacterMatte]:
        with opencv_single_thread():
            full_views = [self._person_logits(frame) for frame in frames_NHWC]
            return {
                name: self._segment_character(frames_NHWC, full_views, track.boxes)
                for name, track in tracks.items()
            }

    def _segment_character(
        self, frames_NHWC: Images, full_views: Sequence[Floats], boxes: FrameBoxes
    ) -> CharacterMatte:
        region = crop_work_region(frames_NHWC, boxes)
        allowed = rasterize_allowed(region, boxes)
        prior = np.zeros(allowed.shape, np.float32)
        height, width = frames_NHWC.shape[1:3]
        for n, box in enumerate(boxes):
            if box is None:
                continue
            total: Floats = _resample(full_views[n], (0, 0, width, height), region)
            for margin in self._VIEW_MARGINS:
                x0, y0, x1, y1 = view = expand_to_pixels(box, margin, width, height)
                logits = self._person_logits(frames_NHWC[n, y0:y1, x0:x1])
                total = total + _resample(logits, view, region)
            mean: Floats = total / np.float32(1 + len(self._VIEW_MARGINS))
            prior[n] = matting.expit(mean) * allowed[n]
        color = matting.color_likelihood(region.frames_NHWC, prior)
        return compute_matte(frames_NHWC, region, allowed, combine_evidence(prior, color, allowed))

    def _person_logits(self, image_HWC: Images) -> Floats:
        """Logits of the person mask, 256 x 256 over the complete image."""
        square = cv2.resize(image_HWC, (256, 256), interpolation=cv2.INTER_AREA)
        self._network.set_tensor(self._input["index"], (square.astype(np.float32) / 255)[None])
        self._network.invoke()
        return matting.logit(self._network.get_tensor(self._output)[0, ..., 0])


def _resample(logits_HW: Floats, view: tuple[int, int, int, int], region: WorkRegion) -> Floats:
    """Sample the 256 x 256 logits of a view at the pixels of the region."""
    height, width = region.shape
    x0, y0, x1, y1 = view
    per_x, per_y = 256 / (x1 - x0), 256 / (y1 - y0)
    step_x, step_y = (region.x1 - region.x0) / width, (region.y1 - region.y0) / height
    # Pixel centers: region pixel u lies at x = region.x0 + (u + 0.5) step - 0.5.
    matrix = np.array(
        [
            [step_x * per_x, 0, (region.x0 - x0 + 0.5 * step_x) * per_x - 0.5],
            [0, step_y * per_y, (region.y0 - y0 + 0.5 * step_y) * per_y - 0.5],
        ]
    )
    resampled: Floats = cv2.warpAffine(
        logits_HW,
        matrix,
        (width, height),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return resampled
