"""Create the segmentation backend named in the settings."""

from __future__ import annotations

from pathlib import Path

from mimix_core.errors import MissingModel
from mimix_core.settings import CutoutSettings
from mimix_core.stages.cutouts.backends.episode_masks import EpisodeMasks, EpisodeMaskSegmenter
from mimix_core.stages.cutouts.segmenter import Segmenter

_WEIGHTS = {
    "selfie": "selfie_segmentation.tflite",
    "sam2": "a checkpoint of SAM2.1",
    "sam3": "the folder of facebook/sam3",
}


def create_segmenter(
    settings: CutoutSettings, weights: Path | None, masks: EpisodeMasks | None = None
) -> Segmenter:
    """Create the backend named in the settings. Raises MissingModel without its weights.

    ``masks``: of the episode, for the backend ``masks``; without them its clips fail.
    """
    if settings.backend == "masks":
        return EpisodeMaskSegmenter(masks)
    if settings.backend == "grabcut":
        from mimix_core.stages.cutouts.backends.grabcut import GrabCutSegmenter

        return GrabCutSegmenter()
    if weights is None:
        raise MissingModel(
            f"the cutout backend '{settings.backend}' needs {_WEIGHTS[settings.backend]}",
            where="settings, key cutouts.weights",
            fix="Set it to the path, or choose the backend 'grabcut', which needs no weights.",
        )
    if settings.backend == "selfie":
        from mimix_core.stages.cutouts.backends.selfie import SelfieSegmenter

        return SelfieSegmenter(weights)
    if settings.backend == "sam3":
        from mimix_core.stages.cutouts.sam3.sam3_segmenter import create_sam3_segmenter

        return create_sam3_segmenter(settings.sam3, weights)
    from mimix_core.stages.cutouts.sam2.sam2_segmenter import create_sam2_segmenter

    return create_sam2_segmenter(settings.sam2, weights)
