"""Backend ``reference``: faces that are those of the reference images. For live action.

Faces are found on every few frames and followed: a face that overlaps one of the frames before is
the same person's, since a clip is one unbroken shot. Whose it is, all of its appearances decide
together, and only against everybody else of the show: one look at a crying face behind a hand is
no evidence, five seconds of it are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimix_core.errors import BadInput
from mimix_core.media import UnreadableVideo, read_rgb
from mimix_core.media.images import GREY, reference_rgb
from mimix_core.settings.locator_settings import FaceLocatorSettings
from mimix_core.stages.cutouts.locate.box_track import (
    MIN_LINK,
    Box,
    Located,
    Sighting,
    iou,
    joined,
    nowhere,
    sampled,
    within,
)
from mimix_core.stages.cutouts.locate.face_reader import Face, FaceReader
from mimix_core.stages.cutouts.locate.locator_inputs import Known, ReferenceInputs
from mimix_core.tables import Row

# A person around a face box of w x h (brows to chin), after the canon of eight heads and
# anthropometry: the head with its hair reaches 0.5 h above the box and 0.35 w beside it, and is
# 1.5 h high; the shoulders begin 0.4 h below the chin, and with the arms are 3 w wide; a standing
# figure is 7.5 heads high.
_HAIR_ABOVE, _HEAD_BESIDE = 0.5, 0.35
_NECK, _BODY_BESIDE = 0.4, 1.0
_FIGURE = 7.5 * 1.5

_REFERENCE_FACE = 40
"""Pixels of the smallest face that is looked for in a reference image."""


def person_box(face: Box, width: int, height: int) -> Box | None:
    """The box of the person with that face, cut to a frame of ``width`` x ``height``.

    Where the frame ends above the shoulders, it is the box of the head. The rest of the body is
    taken to be upright below the head: for somebody lying down the box is wrong, and the check of
    the mask against it is what finds that. None when nothing of it is in the frame.
    """
    x0, y0, x1, y1 = face
    wide, high = x1 - x0, y1 - y0
    top = y0 - _HAIR_ABOVE * high
    beside = _BODY_BESIDE if y1 + _NECK * high < height else _HEAD_BESIDE
    whole = (x0 - beside * wide, top, x1 + beside * wide, top + _FIGURE * high)
    return within(whole, width, height)


@dataclass
class FaceTrack:
    """Appearances of one face: by frame number."""

    faces: dict[int, Face] = field(default_factory=dict)

    @property
    def last(self) -> int:
        return max(self.faces)


def tracks(seen: Mapping[int, Sequence[Face]], max_gap: int) -> list[FaceTrack]:
    """Faces by frame number, linked: the pairs that overlap most first.

    A face that is not seen is waited for, ``max_gap`` frames long.
    """
    found: list[FaceTrack] = []
    for number, faces in sorted(seen.items()):
        open_ = [track for track in found if number - track.last <= max_gap]
        pairs = sorted(
            (
                (-iou(track.faces[track.last].box, face.box), t, f)
                for (t, track), (f, face) in product(enumerate(open_), enumerate(faces))
            ),
        )
        linked_tracks: set[int] = set()
        linked_faces: set[int] = set()
        for overlap, t, f in pairs:
            if -overlap < MIN_LINK or t in linked_tracks or f in linked_faces:
                continue
            open_[t].faces[number] = faces[f]
            linked_tracks.add(t)
            linked_faces.add(f)
        found += [
            FaceTrack({number: face}) for f, face in enumerate(faces) if f not in linked_faces
        ]
    return found


Descriptors = NDArray[np.float64]


def identity(
    track: FaceTrack, known: Mapping[str, Descriptors], settings: FaceLocatorSettings
) -> tuple[str, float] | None:
    """Whose face it is and how far it is from the reference; None when that is not sure.

    ``known``: by character, the descriptors [references, 128] of the reference images. The
    distance is the median of the nearest third of the track's appearances, to the nearest
    reference each: faces turned away or hidden say little of who it is.
    """
    faces = np.stack([face.descriptor for _, face in sorted(track.faces.items())])
    distances = {}
    for name, references in known.items():
        apart = np.linalg.norm(faces[:, None] - references[None], axis=2).min(axis=1)
        third = np.sort(apart)[: -(-len(apart) // 3)]
        distances[name] = float(np.median(third))
    order = sorted(distances, key=lambda name: (distances[name], name))
    if not order or distances[order[0]] > settings.max_distance:
        return None
    if len(order) > 1 and distances[order[1]] - distances[order[0]] < settings.min_margin:
        return None
    return order[0], distances[order[0]]


class ReferenceLocator:
    """Looks for faces in some frames of a clip. Scores are 1 - distance to the reference."""

    name = "reference/dlib"

    def __init__(self, inputs: ReferenceInputs, folder: Path) -> None:
        """Raises BadInput for a reference image that does not show exactly one face, MissingModel
        for models that are not the known ones.
        """
        self._settings = inputs.settings
        self._folder = folder
        self._reader = FaceReader(inputs.landmarks.path, inputs.network.path)
        self._known = {
            one.name: self._described(one) for one in inputs.characters if one.references
        }

    def locate(self, clip: Row, characters: Sequence[str]) -> dict[str, Located]:
        found = {name: nowhere(clip["frames"]) for name in characters}
        if not any(name in self._known for name in characters):
            return found
        try:
            frames_NHWC = read_rgb(self._folder / clip["file"])
        except UnreadableVideo as error:
            return {name: nowhere(clip["frames"], str(error)) for name in characters}
        count, height, width = frames_NHWC.shape[:3]
        seen = {
            number: self._reader.faces(frames_NHWC[number], self._settings.min_face)
            for number in sampled(count, self._settings.every)
        }
        for name, sightings in self._people(seen, width, height).items():
            if name in found:
                found[name] = joined(sightings, count, self._settings.max_gap)
        return found

    def _people(
        self, seen: Mapping[int, Sequence[Face]], width: int, height: int
    ) -> dict[str, dict[int, Sighting]]:
        """Sightings of each character; where two tracks claim one, the nearer one has it."""
        claims = []
        for number, track in enumerate(tracks(seen, self._settings.max_gap)):
            who = identity(track, self._known, self._settings)
            if who is not None:
                claims.append((who[1], number, who[0], track))
        people: dict[str, dict[int, Sighting]] = {}
        for distance, _, name, track in sorted(claims, key=lambda claim: claim[:3]):
            mine = people.setdefault(name, {})
            for number, face in track.faces.items():
                box = person_box(face.box, width, height)
                if box is not None:
                    mine.setdefault(number, Sighting(box, max(0.0, 1 - distance)))
        return people

    def _described(self, one: Known) -> Descriptors:
        described = []
        for file in one.references:
            faces = self._reader.faces(reference_rgb(file.path, GREY), _REFERENCE_FACE)
            if len(faces) != 1:
                raise BadInput(
                    f"the reference image of {one.name} shows {len(faces)} faces, wanted is 1",
                    where=str(file.path),
                    fix="Crop it to the face with some room around, or choose another image.",
                )
            described.append(faces[0].descriptor)
        return np.stack(described)
