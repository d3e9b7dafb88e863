"""Locate characters in clips with one of several backends (paper, section 3.2).

``create_locator`` is the entry point. Every locator returns a ``BoxTrack`` per character: one box
or None per frame.
"""

from mimix_core.stages.cutouts.locate.box_annotations import (
    BoxAnnotationLocator,
    BoxKeyframe,
    clip_content_rect,
    interpolate_box,
    load_box_annotations,
    map_box_to_clip,
    read_box_names,
)
from mimix_core.stages.cutouts.locate.box_track import Box, BoxTrack, FrameBoxes, Locator
from mimix_core.stages.cutouts.locate.boxes_io import (
    LOCATIONS_FILE,
    LOCATIONS_SCHEMA,
    LocationRow,
    build_location_rows,
    load_locations,
    write_locations,
)
from mimix_core.stages.cutouts.locate.custom_locator import CustomLocator
from mimix_core.stages.cutouts.locate.locator_factory import create_locator
from mimix_core.stages.cutouts.locate.locator_inputs import (
    CharacterReference,
    CustomLocatorInputs,
    EmbeddingLocatorInputs,
    FaceLocatorInputs,
    LocatorInputs,
    Sam3LocatorInputs,
    VlmLocatorInputs,
)

__all__ = [
    "LOCATIONS_FILE",
    "LOCATIONS_SCHEMA",
    "Box",
    "BoxAnnotationLocator",
    "BoxKeyframe",
    "BoxTrack",
    "CharacterReference",
    "CustomLocator",
    "CustomLocatorInputs",
    "EmbeddingLocatorInputs",
    "FaceLocatorInputs",
    "FrameBoxes",
    "LocationRow",
    "Locator",
    "LocatorInputs",
    "Sam3LocatorInputs",
    "VlmLocatorInputs",
    "build_location_rows",
    "clip_content_rect",
    "create_locator",
    "interpolate_box",
    "load_box_annotations",
    "load_locations",
    "map_box_to_clip",
    "read_box_names",
    "write_locations",
]
