"""Where a character is: one interface, several backends (paper, section 3.2).

``make_locator`` is the way in; what any locator finds is ``Located``, one box or none a frame.
"""

from mimix_core.stages.cutouts.locate.box_annotations import (
    BoxesLocator,
    Keyframe,
    box_at,
    in_clip,
    picture_in,
    read_boxes,
)
from mimix_core.stages.cutouts.locate.box_track import Box, Located, Locator, Track
from mimix_core.stages.cutouts.locate.boxes_io import (
    LOCATIONS,
    LOCATIONS_FILE,
    location_rows,
    read_locations,
    write_locations,
)
from mimix_core.stages.cutouts.locate.locator_factory import make_locator
from mimix_core.stages.cutouts.locate.locator_inputs import (
    EmbeddingInputs,
    Known,
    LocatorInputs,
    ReferenceInputs,
    VlmInputs,
)

__all__ = [
    "LOCATIONS",
    "LOCATIONS_FILE",
    "Box",
    "BoxesLocator",
    "EmbeddingInputs",
    "Keyframe",
    "Known",
    "Located",
    "Locator",
    "LocatorInputs",
    "ReferenceInputs",
    "Track",
    "VlmInputs",
    "box_at",
    "in_clip",
    "location_rows",
    "make_locator",
    "picture_in",
    "read_boxes",
    "read_locations",
    "write_locations",
]
