from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import BadInput, MissingModel
from mimix_core.settings.locator_settings import FaceLocatorSettings
from mimix_core.stages.cutouts.locate import CharacterReference, FaceLocatorInputs
from mimix_core.stages.cutouts.locate import face_encoder as faces_module
from mimix_core.stages.cutouts.locate.box_track import Box, clip_box
from mimix_core.stages.cutouts.locate.face_encoder import (
    Face,
    FaceEncoder,
    face_model_paths,
    face_models_installed,
)
from mimix_core.stages.cutouts.locate.face_locator import (
    FaceLocator,
    FaceTrack,
    estimate_person_box,
    identify_track,
    link_faces,
)
from tests.factories import clip, video
from tests.paths import DEMO, ROOT

CLARA = DEMO / "references" / "clara.png"
SETTINGS = FaceLocatorSettings(max_distance=0.5, min_margin=0.1)


def face(x: float, who: int = 0, off: float = 0.0) -> Face:
    """A face at ``x`` whose descriptor is ``off`` away from person ``who``'s."""
    descriptor = np.zeros(128)
    descriptor[who] = 1
    descriptor[100] = off
    return Face((x, 50, x + 60, 110), descriptor)


def references(*people: int) -> dict[str, np.ndarray]:
    return {f"P{who}": face(0, who).descriptor[None] for who in people}


def linked(*faces: Face) -> FaceTrack:
    return FaceTrack(dict(enumerate(faces)))


def test_overlapping_faces_are_linked_across_a_gap() -> None:
    seen = {0: [face(100), face(400)], 8: [face(405)], 16: [face(110), face(410)], 48: [face(110)]}
    found = link_faces(seen, max_gap=24)
    assert [sorted(track.faces) for track in found] == [[0, 16], [0, 8, 16], [48]]


def test_adjacent_faces_stay_in_their_tracks() -> None:
    seen = {n: [face(100 + 20 * n), face(150 + 20 * n)] for n in range(4)}
    for track in link_faces(seen, max_gap=8):
        lefts = [one.box[0] for _, one in sorted(track.faces.items())]
        assert all(b - a == 20 for a, b in pairwise(lefts))


def test_the_nearest_third_decides_the_identity() -> None:
    track = linked(face(0, off=0.3), face(0, off=0.9), face(0, off=0.8))
    assert identify_track(track, references(0, 1), SETTINGS) == ("P0", pytest.approx(0.3))
    assert identify_track(linked(face(0, off=0.55)), references(0, 1), SETTINGS) is None


def test_an_ambiguous_face_is_not_identified() -> None:
    between = Face((0, 0, 60, 60), (face(0, 0).descriptor + face(0, 1).descriptor) / 2)
    wide = FaceLocatorSettings(max_distance=0.8, min_margin=0.1)
    assert identify_track(linked(between), references(0), wide) is not None
    assert identify_track(linked(between), references(0, 1), wide) is None


@given(
    st.tuples(st.floats(-50, 800), st.floats(-50, 440), st.floats(40, 400), st.floats(40, 400)),
)
def test_a_persons_box_contains_the_face_and_lies_in_the_frame(place: tuple[float, ...]) -> None:
    x, y, wide, high = place
    box: Box = (x, y, x + wide, y + high)
    found = estimate_person_box(box, 832, 480)
    assert found is not None
    assert 0 <= found[0] < found[2] <= 832
    assert 0 <= found[1] < found[3] <= 480
    assert found[0] <= max(x, 0)
    assert found[1] <= max(y, 0)
    assert found[2] >= min(x + wide, 832)
    assert found[3] >= min(y + high, 480)


def test_a_head_that_fills_the_frame_has_no_shoulders_in_it() -> None:
    close = estimate_person_box((300, 100, 500, 420), 832, 480)
    far = estimate_person_box((300, 100, 340, 150), 832, 480)
    assert close == (230, 0, 570, 480)
    assert far == (260, 75, 380, 480)


def test_without_dlib_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faces_module, "PACKAGE", "no_such_package_of_models")
    with pytest.raises(MissingModel, match=r"mimix\[faces\]"):
        face_model_paths()


def test_unknown_model_files_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "other.dat").write_bytes(b"no model")
    with pytest.raises(MissingModel, match="not the known"):
        FaceEncoder(tmp_path / "other.dat", tmp_path / "other.dat")


needs_dlib = pytest.mark.skipif(
    not face_models_installed(), reason="dlib-bin and its models are not installed"
)


def inputs(*references: Path) -> FaceLocatorInputs:
    landmarks, network = face_model_paths()
    return FaceLocatorInputs(
        characters=tuple(
            CharacterReference(name=path.stem.title(), references=(file_ref(path),))
            for path in references
        ),
        settings=FaceLocatorSettings(),
        landmarks=file_ref(landmarks),
        network=file_ref(network),
    )


@needs_dlib
def test_a_reference_image_without_a_face_is_reported() -> None:
    with pytest.raises(BadInput, match="Bunny shows 0 faces"):
        FaceLocator(inputs(DEMO / "references" / "bunny.png"), ROOT)


@needs_dlib
@pytest.mark.slow
def test_a_face_is_located_for_its_own_character_only(tmp_path: Path) -> None:
    """Clara's reference image moves over a gray wall; another character does not match it."""
    picture = cv2.cvtColor(cv2.imread(str(CLARA)), cv2.COLOR_BGR2RGB)
    small = cv2.resize(picture, (166, 160), interpolation=cv2.INTER_AREA)
    frames = np.full((17, 240, 416, 3), 90, np.uint8)
    for n, frame in enumerate(frames):
        frame[40:200, 20 + 8 * n : 186 + 8 * n] = small
    video(tmp_path / "clips" / "a.mp4", frames)
    row = clip("a", width=416, height=240, frames=17)
    locator = FaceLocator(inputs(CLARA), tmp_path)
    found = locator.locate(row, ["Clara", "Tom"])
    assert all(box is not None for box in found["Clara"].boxes)
    assert found["Tom"].boxes == [None] * 17
    for n, box in enumerate(found["Clara"].boxes):
        assert box is not None
        face = (41 + 8 * n, 61, 153 + 8 * n, 173)
        assert clip_box(face, 416, 240) == face
        assert box[0] <= face[0]
        assert box[1] <= face[1]
        assert box[2] >= face[2]
        assert box[3] >= face[3]
    assert locator.locate(row, ["Clara"])["Clara"] == found["Clara"]
    first, last = found["Clara"].boxes[0], found["Clara"].boxes[16]
    assert first is not None
    assert last is not None
    assert last[2] - first[2] > 60
