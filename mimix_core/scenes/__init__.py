"""Scenes of an episode: one decode finds where shots begin and end, and what each is like.

- ``pictures``: frames at reduced size, in whole numbers;
- ``cuts``: PySceneDetect's detectors, hard cuts;
- ``blends``: dissolves and fades, and cuts between faint pictures, from distances of thumbnails;
- ``network``: TransNet V2 as a choice;
- ``analysis``: the one pass over the frames;
- ``stage``: rows.

Source: paper, section 3.3 ("scene by scene"). Why these detectors: docs/decisions/0007.
"""

from mimix_core.scenes.stage import STAGE, SceneInputs, broken, run

__all__ = ["STAGE", "SceneInputs", "broken", "run"]
