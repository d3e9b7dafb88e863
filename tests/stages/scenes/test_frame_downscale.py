"""Frames of every pixel format are downscaled without a change of color."""

from __future__ import annotations

import av
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.stages.scenes.frame_downscale import FrameDownscaler


@settings(deadline=None, max_examples=30)
@given(
    width=st.integers(16, 90),
    height=st.integers(16, 90),
    form=st.sampled_from(
        ["yuv420p", "yuvj420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv444p12le", "gray", "rgb24"]
    ),
    seed=st.integers(0, 9),
)
def test_a_plain_frame_stays_plain_in_every_pixel_format(
    width: int, height: int, form: str, seed: int
) -> None:
    grey = int(np.random.default_rng(seed).integers(30, 220))
    frame = av.VideoFrame(width, height, form)
    full = not form.startswith("yuv4")
    depth = frame.format.components[0].bits
    for index, plane in enumerate(frame.planes):
        if form == "rgb24":
            value = grey
        elif index:
            value = 128 << (depth - 8)
        else:
            value = round(grey if full else 16 + grey * 219 / 255) << (depth - 8)
        kind = np.uint8 if depth == 8 else np.uint16
        plane.update(np.full(plane.buffer_size // kind().itemsize, value, kind).tobytes())
    small = FrameDownscaler(frame, height=64, full_range=full)(frame)
    assert small.luma.shape[0] == min(height, 64)
    assert np.ptp(small.luma) <= 1 and abs(int(small.luma[0, 0]) - grey) <= 2
    assert small.bgr.shape[2] == 3 and np.abs(small.bgr.astype(int) - grey).max() <= 6
