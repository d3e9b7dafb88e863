"""Where a character is: one interface, several backends (paper, section 3.2).

``make_locator`` is the way in; what any locator finds is ``Located``, one box or none a frame.
"""

from mimix_core.cutouts.locate.boxes import (
    BoxesLocator,
    Keyframe,
    box_at,
    in_clip,
    picture_in,
    read_boxes,
)
from mimix_core.cutouts.locate.inputs import (
    EmbeddingInputs,
    Known,
    LocatorInputs,
    ReferenceInputs,
    VlmInputs,
)
from mimix_core.cutouts.locate.making import make_locator
from mimix_core.cutouts.locate.rows import (
    LOCATIONS,
    LOCATIONS_FILE,
    location_rows,
    read_locations,
    write_locations,
)
from mimix_core.cutouts.locate.track import Box, Located, Locator, Track

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
