"""Detect faces and compute their descriptors with dlib, from local model files.

The descriptor of a face has 128 numbers; those of two faces of one person are less than 0.6 apart
(the threshold of the network's author, 99.38 % accuracy on Labeled Faces in the Wild). The models
are Davis King's, in the public domain (CC0), as shipped in the package ``face_recognition_models``;
they are read as files, because importing the package needs ``pkg_resources``. Its model of 68
landmarks is not used: its training data may not be used commercially.
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
from mimix_core.media.images import RgbImage
from mimix_core.stages.cutouts.locate.box_track import Box

PACKAGE = "face_recognition_models"
LANDMARKS = "shape_predictor_5_face_landmarks.dat"
NETWORK = "dlib_face_recognition_resnet_model_v1.dat"
_SHA256 = {
    LANDMARKS: "c4b1e9804792707d3a405c2c16a80a20269e6675021f64a41d30fffafbc41888",
    NETWORK: "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
}

# dlib's detector finds faces from 80 pixels on; upsampling the image twice, from 40 on.
_MIN_DETECTOR_FACE = 80


@dataclass(frozen=True)
class Face:
    """A detected face.

    ``box``: roughly from the brows to the chin; it may extend beyond the image. ``descriptor``:
    128 numbers.
    """

    box: Box
    descriptor: NDArray[np.float64]


def face_models_installed() -> bool:
    """Return whether dlib and the package with its face models are installed."""
    return find_spec("dlib") is not None and find_spec(PACKAGE) is not None


def face_model_paths() -> tuple[Path, Path]:
    """Return the files of the landmark model and of the face network. Raises MissingModel."""
    spec = find_spec(PACKAGE)
    if not face_models_installed() or spec is None or spec.origin is None:
        raise MissingModel(
            "the locator 'face' needs dlib and its face models",
            where="settings, key cutouts.locator_realistic",
            fix="pip install 'mimix[faces]', or choose the locator 'boxes' or 'vlm'.",
        )
    folder = Path(spec.origin).parent / "models"
    return folder / LANDMARKS, folder / NETWORK


class FaceEncoder:
    """Detect faces in an image and compute their descriptors. Single-threaded, deterministic."""

    def __init__(self, landmarks: Path, network: Path) -> None:
        """Raises MissingModel for files other than the known models.

        dlib unpacks model files without checks, so no other file is opened.
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

    def encode_faces(self, image_HWC: RgbImage, min_face: int) -> list[Face]:
        """Encode faces of at least ``min_face`` pixels in an RGB image, the most certain first."""
        image = np.ascontiguousarray(image_HWC)
        upsampling = 1 if min_face < _MIN_DETECTOR_FACE else 0
        rectangles, scores, _ = self._detector.run(image, upsampling, 0.0)
        order = sorted(range(len(rectangles)), key=lambda i: (-scores[i], rectangles[i].left()))
        faces = []
        for rectangle in (rectangles[i] for i in order):
            if rectangle.width() < min_face:
                continue
            shape = self._landmarks(image, rectangle)
            descriptor = self._network.compute_face_descriptor(image, shape)
            faces.append(
                Face(
                    (
                        float(rectangle.left()),
                        float(rectangle.top()),
                        float(rectangle.right() + 1),
                        float(rectangle.bottom() + 1),
                    ),
                    np.array(descriptor, np.float64),
                )
            )
        return faces
