"""Backend ``face``: faces that match those of the reference images. For live action.

Faces are detected on every few frames and linked: a face that overlaps one of the frames before
belongs to the same person, because a clip is one continuous shot. All appearances of a face
together decide its identity, and only in comparison with every other character of the show: one
frame of a crying face behind a hand proves little, five seconds of it do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimix_core.engine.limit_text import format_beside_limit
from mimix_core.errors import BadInput
from mimix_core.media import UnreadableVideo, read_rgb
from mimix_core.media.images import GRAY, RgbImage, load_reference_image
from mimix_core.settings.locator_settings import FaceLocatorSettings
from mimix_core.stages.cutouts.locate.box_track import (
    MIN_LINK_IOU,
    Box,
    BoxDetection,
    BoxTrack,
    FrameMatch,
    box_iou,
    clip_box,
    empty_track,
    interpolate_detections,
    strided_frame_indices,
)
from mimix_core.stages.cutouts.locate.face_encoder import Face, FaceEncoder
from mimix_core.stages.cutouts.locate.locator_inputs import CharacterReference, FaceLocatorInputs
from mimix_core.stages.cutouts.locate.reference_bank import (
    ReferenceDistances,
    measure_references,
)
from mimix_core.tables import ClipRow

# Proportions of a person around a face box of w x h (brows to chin), from the eight-heads canon
# and anthropometry: the head with its hair extends 0.5 h above the box and 0.35 w on each side,
# and is 1.5 h high; the shoulders begin 0.4 h below the chin, and with the arms are 3 w wide; a
# standing figure is 7.5 heads high.
_HAIR_ABOVE, _HEAD_SIDE = 0.5, 0.35
_NECK, _BODY_SIDE = 0.4, 1.0
_FIGURE = 7.5 * 1.5

_REFERENCE_FACE = 40
"""Minimum face size in a reference image, in pixels."""


def estimate_person_box(face: Box, width: int, height: int) -> Box | None:
    """Estimate a person's box from the face, clipped to a frame of ``width`` x ``height``.

    If the frame ends above the shoulders, it is the box of the head. The body is assumed to be
    upright below the head: for a person lying down the box is wrong, which the check of the mask
    against the box detects. None when the box is outside the frame.
    """
    x0, y0, x1, y1 = face
    wide, high = x1 - x0, y1 - y0
    top = y0 - _HAIR_ABOVE * high
    side = _BODY_SIDE if y1 + _NECK * high < height else _HEAD_SIDE
    person = (x0 - side * wide, top, x1 + side * wide, top + _FIGURE * high)
    return clip_box(person, width, height)


@dataclass
class FaceTrack:
    """Appearances of one face, by frame number."""

    faces: dict[int, Face] = field(default_factory=dict)

    @property
    def last_frame(self) -> int:
        return max(self.faces)


def link_faces(faces_by_frame: Mapping[int, Sequence[Face]], max_gap: int) -> list[FaceTrack]:
    """Link faces of consecutive frames to tracks, the pairs with the largest overlap first.

    ``faces_by_frame``: by frame number. A track may miss its face for up to ``max_gap`` frames.
    """
    tracks: list[FaceTrack] = []
    for number, faces in sorted(faces_by_frame.items()):
        active = [track for track in tracks if number - track.last_frame <= max_gap]
        pairs = sorted(
            (
                (-box_iou(track.faces[track.last_frame].box, face.box), t, f)
                for (t, track), (f, face) in product(enumerate(active), enumerate(faces))
            ),
        )
        linked_tracks: set[int] = set()
        linked_faces: set[int] = set()
        for overlap, t, f in pairs:
            if -overlap < MIN_LINK_IOU or t in linked_tracks or f in linked_faces:
                continue
            active[t].faces[number] = faces[f]
            linked_tracks.add(t)
            linked_faces.add(f)
        tracks += [
            FaceTrack({number: face}) for f, face in enumerate(faces) if f not in linked_faces
        ]
    return tracks


FaceDescriptors = NDArray[np.float64]


def identify_track(
    track: FaceTrack, references: Mapping[str, FaceDescriptors], settings: FaceLocatorSettings
) -> tuple[str, float] | None:
    """Identify the character of a face track and its distance; None when ambiguous.

    ``references``: by character, the descriptors [references, 128] of the reference images. The
    distance is the median over the nearest third of the track's appearances, each to its nearest
    reference: faces turned away or hidden carry little identity.
    """
    distances = track_distances(track, references)
    if not distances:
        return None
    name, distance = nearest_character(distances)
    return None if describe_match(distances, name, settings)[1] else (name, distance)


def track_distances(
    track: FaceTrack, references: Mapping[str, FaceDescriptors]
) -> dict[str, float]:
    """Compute the distance of a face track to each character, see ``identify_track``."""
    faces = np.stack([face.descriptor for _, face in sorted(track.faces.items())])
    distances = {}
    for name, descriptors in references.items():
        nearest = np.linalg.norm(faces[:, None] - descriptors[None], axis=2).min(axis=1)
        third = np.sort(nearest)[: -(-len(nearest) // 3)]
        distances[name] = float(np.median(third))
    return distances


def nearest_character(distances: Mapping[str, float]) -> tuple[str, float]:
    """Return the character at the smallest distance."""
    name = min(distances, key=lambda one: (distances[one], one))
    return name, distances[name]


def describe_match(
    distances: Mapping[str, float], name: str, settings: FaceLocatorSettings
) -> tuple[str, str]:
    """Format a face's distance to the character ``name``, and say why it is not that character.

    The second text is empty if it is.
    """
    own = distances[name]
    if own > settings.max_distance:
        shown, wanted = format_beside_limit(own, settings.max_distance)
        return shown, f"at most {wanted} wanted (cutouts.face.max_distance)"
    others = {other: distance for other, distance in distances.items() if other != name}
    if not others:
        return f"{own:.2f}", ""
    other, distance = nearest_character(others)
    if (distance, other) < (own, name):
        shown, nearer = format_beside_limit(own, distance)
        return shown, f"it is nearer to {other} at {nearer}"
    if distance - own < settings.min_margin:
        margin, wanted = format_beside_limit(distance - own, settings.min_margin)
        return f"{own:.2f}", (
            f"{other} is only {margin} farther, at least {wanted} wanted (cutouts.face.min_margin)"
        )
    return f"{own:.2f}", ""


class FaceLocator:
    """Locate characters by their faces. Scores are 1 - distance to the reference."""

    name = "face/dlib"

    def __init__(self, inputs: FaceLocatorInputs, folder: Path) -> None:
        """Raises BadInput for a reference image without exactly one face, MissingModel for model
        files other than the known ones.
        """
        self._settings = inputs.settings
        self._folder = folder
        self._encoder = FaceEncoder(inputs.landmarks.path, inputs.network.path)
        self._reference_descriptors = {
            character.name: self._encode_references(character)
            for character in inputs.characters
            if character.references
        }

    def locate(self, clip: ClipRow, characters: Sequence[str]) -> dict[str, BoxTrack]:
        tracks = {
            name: empty_track(
                clip["frames"],
                evidence=""
                if name in self._reference_descriptors
                else f"{name} has no reference image",
            )
            for name in characters
        }
        if not any(name in self._reference_descriptors for name in characters):
            return tracks
        try:
            frames_NHWC = read_rgb(self._folder / clip["file"])
        except UnreadableVideo as error:
            return {name: empty_track(clip["frames"], str(error)) for name in characters}
        count, height, width = frames_NHWC.shape[:3]
        faces_by_frame = {
            number: self._encoder.encode_faces(frames_NHWC[number], self._settings.min_face_size)
            for number in strided_frame_indices(count, self._settings.frame_stride)
        }
        linked = link_faces(faces_by_frame, self._settings.max_gap)
        found = self._character_detections(linked, width, height)
        for name in characters:
            if name in self._reference_descriptors:
                track = interpolate_detections(found.get(name, {}), count, self._settings.max_gap)
                tracks[name] = replace(track, evidence=self._evidence(name, linked))
        return tracks

    def inspect_frame(self, frame_HWC: RgbImage) -> list[FrameMatch]:
        """Compare each face of one frame with the references of all characters."""
        matches = []
        for face in self._encoder.encode_faces(frame_HWC, self._settings.min_face_size):
            distances = track_distances(FaceTrack({0: face}), self._reference_descriptors)
            if distances:
                name, distance = nearest_character(distances)
                shown, problem = describe_match(distances, name, self._settings)
                matches.append(FrameMatch(name, face.box, distance, shown, problem))
        return matches

    def reference_distances(self) -> ReferenceDistances:
        """Measure how far apart references of one character and of different ones are."""
        return measure_references(
            self._reference_descriptors, lambda one, two: float(np.linalg.norm(one - two))
        )

    def _evidence(self, name: str, tracks: Sequence[FaceTrack]) -> str:
        """Say how many faces were seen, and how close the nearest came to a character."""
        faces = sum(len(track.faces) for track in tracks)
        if not faces:
            return f"no face of at least {self._settings.min_face_size} pixels was seen"
        distances = [track_distances(track, self._reference_descriptors) for track in tracks]
        nearest = min(distances, key=lambda one: one[name])
        shown, problem = describe_match(nearest, name, self._settings)
        text = f"{faces} faces in {len(tracks)} tracks, the nearest at {shown}"
        return f"{text}: {problem}" if problem else text

    def _character_detections(
        self, tracks: Sequence[FaceTrack], width: int, height: int
    ) -> dict[str, dict[int, BoxDetection]]:
        """Detections of each character; if two tracks match one, the nearer track wins."""
        matches = []
        for number, track in enumerate(tracks):
            identity = identify_track(track, self._reference_descriptors, self._settings)
            if identity is not None:
                name, distance = identity
                matches.append((distance, number, name, track))
        detections: dict[str, dict[int, BoxDetection]] = {}
        for distance, _, name, track in sorted(matches, key=lambda match: match[:3]):
            by_frame = detections.setdefault(name, {})
            for number, face in track.faces.items():
                box = estimate_person_box(face.box, width, height)
                if box is not None:
                    by_frame.setdefault(number, BoxDetection(box, max(0.0, 1 - distance)))
        return detections

    def _encode_references(self, character: CharacterReference) -> FaceDescriptors:
        descriptors = []
        for file in character.references:
            faces = self._encoder.encode_faces(
                load_reference_image(file.path, GRAY), _REFERENCE_FACE
            )
            if len(faces) != 1:
                raise BadInput(
                    f"the reference image of {character.name} shows {len(faces)} faces, expected 1",
                    where=str(file.path),
                    fix="Crop it to the face with some margin, or choose another image.",
                )
            descriptors.append(faces[0].descriptor)
        return np.stack(descriptors)
