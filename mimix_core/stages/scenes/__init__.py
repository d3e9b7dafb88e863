"""Scenes of an episode: one decode finds where shots begin and end, and what each is like.

- ``pictures``: frames at reduced size, in whole numbers;
- ``cuts``: PySceneDetect's detectors, hard cuts;
- ``tape``: thumbnails of all frames, and the distances between them;
- ``blends``: dissolves and fades, and cuts between faint pictures, from these distances;
- ``dips``: dissolves amid motion, from the contrast of the thumbnails;
- ``network``: TransNet V2 as a choice;
- ``analysis``: the one pass over the frames;
- ``stage``: rows.

Source: paper, section 3.3 ("scene by scene"). Why these detectors: docs/decisions/0007.
"""

from mimix_core.stages.scenes.stage import STAGE, SceneInputs, broken, run

__all__ = ["STAGE", "SceneInputs", "broken", "run"]
