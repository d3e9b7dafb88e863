"""Pixels of a decoded video equal those of VBench's own readers."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mimix_core.benchmark.vbench.video_reader import read_video
from tests.media_factory import Shot, write_video


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_frames_are_rotated_as_by_opencv(tmp_path: Path, rotation: int) -> None:
    path = write_video(tmp_path / "v.mp4", [Shot(3)], rotation=rotation).path
    theirs, reader = [], cv2.VideoCapture(str(path))
    while (frame := reader.read())[0]:
        theirs.append(cv2.cvtColor(frame[1], cv2.COLOR_BGR2RGB))
    ours = read_video(path).frames_THWC
    assert ours.flags.c_contiguous
    assert np.array_equal(ours, np.stack(theirs))
