"""Backend ``grabcut``: graph cut from colors inside and outside the box. Needs no weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.media.opencv_threads import opencv_single_thread
from mimix_core.stages.cutouts import matting
from mimix_core.stages.cutouts.backends.work_region import (
    Floats,
    combine_evidence,
    compute_matte,
    crop_work_region,
    rasterize_allowed,
)
from mimix_core.stages.cutouts.locate import BoxTrack, FrameBoxes
from mimix_core.stages.cutouts.segmenter import CharacterMatte, Images, LocatedClip


class GrabCutSegmenter:
    """Segment by graph cut between the colors inside the box and those outside.

    Good where a character's colors differ from the background's, poor where they do not.
    """

    name = "grabcut"
    batch_size = 1

    def segment_batch(self, clips: Sequence[LocatedClip]) -> list[dict[str, CharacterMatte]]:
        return [self.segment(clip.frames_NHWC, clip.tracks) for clip in clips]

    def segment(
        self, frames_NHWC: Images, tracks: Mapping[str, BoxTrack]
    ) -> dict[str, CharacterMatte]:
        with opencv_single_thread():
            return {
                name: self._segment_character(frames_NHWC, track.boxes)
                for name, track in tracks.items()
            }

    def _segment_character(self, frames_NHWC: Images, boxes: FrameBoxes) -> CharacterMatte:
        region = crop_work_region(frames_NHWC, boxes)
        allowed = rasterize_allowed(region, boxes)
        prior = np.stack([_center_prior(mask) for mask in allowed])
        color = matting.color_likelihood(region.frames_NHWC, prior)
        return compute_matte(frames_NHWC, region, allowed, combine_evidence(prior, color, allowed))


def _center_prior(allowed_HW: NDArray[np.bool_]) -> Floats:
    """Prior inside a box: high in the center, low towards the sides; 0 outside."""
    distance = cv2.distanceTransform(allowed_HW.astype(np.uint8), cv2.DIST_L2, 3)
    peak = max(float(distance.max()), 1.0)
    prior: Floats = np.clip(0.35 + 0.6 * distance / peak, 0, 0.95).astype(np.float32) * allowed_HW
    return prior
