from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mimix_core.benchmark.judge.judge_frames import (
    _sample_frames,
    build_reference_sheet,
    sample_video_jpegs,
)
from mimix_core.benchmark.judge.judge_inputs import CastMember
from mimix_core.domain.library import Style
from mimix_core.engine.artifacts import file_ref
from mimix_core.errors import BadInput
from mimix_core.media import TooLargeVideo
from mimix_core.media.images import JpegOptions
from tests.factories import video

SIZE = JpegOptions(64, 95)
LONG = Fraction(20)


def brightness(jpegs: list[bytes]) -> list[int]:
    images = [cv2.imdecode(np.frombuffer(one, np.uint8), cv2.IMREAD_COLOR) for one in jpegs]
    return [round(float(image.mean()) / 3) for image in images]


def test_a_benchmark_video_is_sampled_at_8_and_at_16_fps(tmp_path: Path) -> None:
    images = np.zeros((81, 48, 64, 3), np.uint8)
    images[:] = (np.arange(81) * 3)[:, None, None, None]
    video(tmp_path / "v.mp4", images)
    eight = sample_video_jpegs(tmp_path / "v.mp4", Fraction(8), SIZE, LONG)
    assert np.allclose(brightness(eight), np.arange(0, 81, 2), atol=1)
    sixteen = sample_video_jpegs(tmp_path / "v.mp4", Fraction(16), SIZE, LONG)
    assert np.allclose(brightness(sixteen), np.arange(81), atol=1)
    with pytest.raises(TooLargeVideo, match="longer than 4 seconds"):
        sample_video_jpegs(tmp_path / "v.mp4", Fraction(8), SIZE, Fraction(4))


@given(
    st.lists(st.integers(1, 2000), min_size=0, max_size=60),
    st.sampled_from([Fraction(8), Fraction(12), Fraction(16), Fraction(25, 2)]),
    st.integers(-5000, 5000),
)
def test_each_sample_time_yields_the_frame_displayed_then(
    steps: list[int], fps: Fraction, start: int
) -> None:
    pts = [start]
    for step in steps:
        pts.append(pts[-1] + step)
    base = Fraction(1, 1000)
    shown = [
        frame.pts
        for frame, count in _sample_frames(
            (SimpleNamespace(pts=p) for p in pts), base, fps, Fraction(10**6)
        )
        for _ in range(count)
    ]
    times = range(int((pts[-1] - start) * base * fps) + 1)
    expected = [max(p for p in pts if (p - start) * base <= k / fps) for k in times]
    # The last frame is displayed at its own time only, if that is a sample time.
    assert shown == expected


def test_a_reference_sheet_contains_all_references(tmp_path: Path) -> None:
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    files = []
    for number, color in enumerate(colors):
        Image.new("RGB", (200, 100), color).save(tmp_path / f"{number}.png")
        files.append(file_ref(tmp_path / f"{number}.png"))

    def sheet(count: int) -> bytes | None:
        references = tuple(files[:count])
        one = CastMember(name="T", show="S", style=Style.CARTOON, references=references)
        return build_reference_sheet(one, JpegOptions(128, 95))

    assert sheet(0) is None
    single, several = sheet(1), sheet(3)
    assert single is not None
    assert several is not None
    assert cv2.imdecode(np.frombuffer(single, np.uint8), cv2.IMREAD_COLOR).shape == (64, 128, 3)
    image = cv2.imdecode(np.frombuffer(several, np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (128, 128, 3)
    centers = [image[y, x, ::-1] for y, x in ((32, 32), (32, 96), (96, 32), (96, 96))]
    for found, expected in zip(centers, [*colors, (255, 255, 255)], strict=True):
        assert np.abs(found.astype(int) - expected).max() < 12


def test_an_invalid_reference_image_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "r.png").write_text("not an image")
    reference = file_ref(tmp_path / "r.png")
    one = CastMember(name="T", show="S", style=Style.CARTOON, references=(reference,))
    with pytest.raises(BadInput, match="is not an image in a supported format"):
        build_reference_sheet(one, SIZE)
