"""Faces and whose they are: dlib's detector, landmarks and face network, from local files.

The network's descriptor of a face has 128 numbers; two faces of one person are less than 0.6 apart
(its author's bound, 99.38 % right on Labeled Faces in the Wild). The models are Davis King's, in
the public domain (CC0), as the package ``face_recognition_models`` ships them; they are read as
files, since importing it would need ``pkg_resources``. Its 68 landmarks, whose data may not be used
commercially, are not among them.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimix_core.engine.artifacts import digest_file
from mimix_core.errors import MissingModel
from mimix_core.media.images import Image
from mimix_core.stages.cutouts.locate.box_track import Box

PACKAGE = "face_recognition_models"
LANDMARKS = "shape_predictor_5_face_landmarks.dat"
NETWORK = "dlib_face_recognition_resnet_model_v1.dat"
_SHA256 = {
    LANDMARKS: "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    NETWORK: "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
}

# dlib's detector knows faces of 80 pixels and more; a doubled picture has them from 40 on.
_SMALLEST_KNOWN = 80


@dataclass(frozen=True)
class Face:
    """``box``: about from the brows to the chin, may hang over the picture. 128 ``descriptor``."""

    box: Box
    descriptor: NDArray[np.float64]


def installed() -> bool:
    """Whether dlib and the models' package are there."""
    return find_spec("dlib") is not None and find_spec(PACKAGE) is not None


def models() -> tuple[Path, Path]:
    """The files of the landmarks and of the face network. Raises MissingModel."""
    spec = find_spec(PACKAGE)
    if not installed() or spec is None or spec.origin is None:
        raise MissingModel(
            "the locator 'reference' needs dlib and its face models",
            where="settings, key cutouts.locator_realistic",
            fix="pip install 'mimix[faces]', or choose the locator 'boxes' or 'vlm'.",
        )
    folder = Path(spec.origin).parent / "models"
    return folder / LANDMARKS, folder / NETWORK


class FaceReader:
    """Finds the faces of a picture and describes them. One thread; same picture, same faces."""

    def __init__(self, landmarks: Path, network: Path) -> None:
        """Raises MissingModel for files that are not the known models: dlib unpacks them blindly,
        so no other file is opened.
        """
        for path, name in ((landmarks, LANDMARKS), (network, NETWORK)):
            if digest_file(path) != _SHA256[name]:
                raise MissingModel(
                    f"is not the known {name}",
                    where=str(path),
                    fix=f"Install {PACKAGE} 0.3.0 again.",
                )
        import dlib

        self._detector: Any = dlib.get_frontal_face_detector()
        self._landmarks: Any = dlib.shape_predictor(str(landmarks))
        self._network: Any = dlib.face_recognition_model_v1(str(network))

    def faces(self, image_HWC: Image, min_face: int) -> list[Face]:
        """Faces of at least ``min_face`` pixels in an RGB picture, the surest first."""
        picture = np.ascontiguousarray(image_HWC)
        doubled = 1 if min_face < _SMALLEST_KNOWN else 0
        found, scores, _ = self._detector.run(picture, doubled, 0.0)
        order = sorted(range(len(found)), key=lambda i: (-scores[i], found[i].left()))
        faces = []
        for rectangle in (found[i] for i in order):
            if rectangle.width() < min_face:
                continue
            shape = self._landmarks(picture, rectangle)
            described = self._network.compute_face_descriptor(picture, shape)
            faces.append(
                Face(
                    (
                        float(rectangle.left()),
                        float(rectangle.top()),
                        float(rectangle.right() + 1),
                        float(rectangle.bottom() + 1),
                    ),
                    np.array(described, np.float64),
                )
            )
        return faces
