"""The overlay rectangle of an episode: where subtitles stand, what credits are, what is kept.

Source: paper, section 3.3 (bottom text overlays are cropped). Decision: docs/decisions/0009.
"""

from mimix_core.stages.overlays.stage import STAGE, OverlayInputs, run

__all__ = ["STAGE", "OverlayInputs", "run"]
