"""Shot boundary detection and shot measurements in one decode of each episode.

- ``frame_downscale``: frames at reduced size, in integer arithmetic;
- ``content_detectors``: hard cuts, with PySceneDetect's detectors;
- ``frame_distances``: thumbnails of all frames, and the distances between them;
- ``gradual_transitions``: dissolves, fades and low-contrast cuts, from these distances;
- ``color_share``: how much color counts in the score of hard cuts;
- ``contrast_dissolves``: dissolves with motion, from the contrast of the thumbnails;
- ``wipes``, ``wipe_evidence``: wipes, slides and irises, from the thumbnails;
- ``transnetv2``: TransNet V2, optional;
- ``analysis``: the single pass over the frames;
- ``stage``: the rows.

Source: paper, section 3.3 ("scene by scene"). Why these detectors: docs/decisions/0007.
"""

from mimix_core.stages.scenes.stage import STAGE, SceneInputs, failure_report, run

__all__ = ["STAGE", "SceneInputs", "failure_report", "run"]
