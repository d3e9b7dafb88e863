"""Speaker embeddings by a model of WeSpeaker in ONNX (Wang et al., 2023), on one CPU thread.

All models that WeSpeaker publishes read the same features and are exported with the same interface:
input [1, frames, 80], output [1, dimensions].
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from mimix_core.characters.bank import Floats, normalize
from mimix_core.characters.speech_features import mel_energies
from mimix_core.characters.voice_activity import Samples
from mimix_core.characters.wespeaker_download import WESPEAKER_DOWNLOAD
from mimix_core.errors import MissingModel

_FILTERS = 80
_INPUT_DIMENSIONS, _OUTPUT_DIMENSIONS = 3, 2


class WespeakerEncoder:
    """Encode speech with a WeSpeaker model. Raises MissingModel for a file of anything else."""

    name = "wespeaker"
    min_limit = 0.3
    uncalibrated_limit = 0.5

    def __init__(self, weights: Path) -> None:
        self._session = _open_session(weights)
        (found,), outputs = self._session.get_inputs(), self._session.get_outputs()
        self._input = str(found.name)
        if len(outputs) != 1 or len(outputs[0].shape) != _OUTPUT_DIMENSIONS:
            shapes = [output.shape for output in outputs]
            raise _not_wespeaker(weights, f"it returns {shapes}, not one [batch, dimensions]")

    def encode(self, samples: Samples) -> Floats:
        """Return the unit vector of speech of at least half a second."""
        energies_TM = mel_energies(samples, _FILTERS)
        energies_TM = energies_TM - energies_TM.mean(axis=0)
        (vectors,) = self._session.run(None, {self._input: energies_TM[None]})
        return normalize(np.asarray(vectors[0], np.float32))


def _open_session(weights: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread: sums in another order give other vectors.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            weights.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime's exceptions have no common class
        raise _not_wespeaker(weights, str(error).splitlines()[0]) from error
    inputs = session.get_inputs()
    shape = inputs[0].shape if len(inputs) == 1 else []
    if len(shape) != _INPUT_DIMENSIONS or shape[2] != _FILTERS:
        shapes = [found.shape for found in inputs]
        raise _not_wespeaker(weights, f"it reads {shapes}, not one [batch, frames, {_FILTERS}]")
    return session


def _not_wespeaker(weights: Path, why: str) -> MissingModel:
    return MissingModel(
        f"not a WeSpeaker model in ONNX: {why}", where=str(weights), fix=WESPEAKER_DOWNLOAD
    )
