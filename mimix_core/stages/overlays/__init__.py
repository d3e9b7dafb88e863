"""Find burned-in text, black borders and credits, and compute an episode's crop rectangle.

Source: paper, section 3.3 (text overlays at the bottom are cropped). Decision: docs/decisions/0009.
"""

from mimix_core.stages.overlays.stage import STAGE, OverlayInputs, run

__all__ = ["STAGE", "OverlayInputs", "run"]
