"""Geometry: the mapping between coded and displayed pixels."""

from __future__ import annotations

import struct
import subprocess
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimix_core.media import (
    FrameResizer,
    Geometry,
    Rect,
    UnreadableVideo,
    find_ffmpeg,
    open_video,
    plan_crop_resize,
    to_display_rgb,
)
from tests.container_editing import overwrite_in_box
from tests.media_factory import Shot, read_counter, write_video


@given(
    st.sampled_from([0, 90, 180, 270]),
    st.booleans(),
    st.integers(4, 40),
    st.integers(4, 40),
    st.data(),
)
def test_the_coded_rectangle_contains_the_displayed_pixels(
    rotation: int, mirrored: bool, width: int, height: int, data: st.DataObject
) -> None:
    geometry = Geometry(width, height, rotation=rotation, mirrored=mirrored)
    coded = np.arange(width * height).reshape(height, width)

    def display(pixels: np.ndarray) -> np.ndarray:
        return np.rot90(pixels[:, ::-1] if mirrored else pixels, -rotation // 90)

    shown = display(coded)
    assert shown.shape == (geometry.height, geometry.width)
    x = data.draw(st.integers(0, geometry.width - 1))
    y = data.draw(st.integers(0, geometry.height - 1))
    rect = Rect(
        x,
        y,
        data.draw(st.integers(1, geometry.width - x)),
        data.draw(st.integers(1, geometry.height - y)),
    )
    inside = geometry.to_coded_rect(rect)
    part = coded[inside.y : inside.y + inside.height, inside.x : inside.x + inside.width]
    wanted = shown[rect.y : rect.y + rect.height, rect.x : rect.x + rect.width]
    assert np.array_equal(display(part), wanted)


def test_wide_pixels_widen_the_frame_and_its_rectangles() -> None:
    geometry = Geometry(720, 576, sample_aspect=Fraction(64, 45))
    assert (geometry.width, geometry.height) == (1024, 576)
    assert geometry.to_coded_rect(Rect(512, 10, 256, 100)) == Rect(360, 10, 180, 100)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_rotated_video_is_displayed_as_by_ffmpeg(tmp_path: Path, rotation: int) -> None:
    path = write_video(tmp_path / "v.mp4", [Shot(2)], rotation=rotation).path
    with open_video(path) as video:
        info = video.info
        ours = [to_display_rgb(frame, info) for frame in video.frames()]
    assert (info.geometry.width, info.geometry.height) == (320, 192)
    assert [read_counter(image) for image in ours] == [0, 1]
    command = [find_ffmpeg(), "-v", "error", "-i", str(path), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    theirs = np.frombuffer(raw.stdout, np.uint8).reshape(-1, 192, 320, 3)
    assert [read_counter(image) for image in theirs] == [0, 1]


ORIENTATIONS = {
    # Display matrix a, b, c, d: a coded pixel (x, y) is displayed at (a x + c y, b x + d y). The
    # coded image is the upright one, mirrored left to right or not, then turned left by quarters.
    (1, 0, 0, 1): (False, 0),
    (0, 1, -1, 0): (False, 1),
    (-1, 0, 0, -1): (False, 2),
    (0, -1, 1, 0): (False, 3),
    (-1, 0, 0, 1): (True, 0),
    (0, 1, 1, 0): (True, 1),
    (1, 0, 0, -1): (True, 2),
    (0, -1, -1, 0): (True, 3),
}


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_all_eight_orientations_are_displayed_upright(
    tmp_path: Path, matrix: tuple[int, int, int, int]
) -> None:
    mirrored, turns = ORIENTATIONS[matrix]

    def mirror(image: np.ndarray, number: int) -> None:
        image[:] = image[:, ::-1].copy()

    path = write_video(
        tmp_path / "v.mp4", [Shot(2)], rotation=90 * turns, draw=mirror if mirrored else None
    ).path
    a, b, c, d = (value << 16 for value in matrix)
    # Of "tkhd", version 0; the last column is u, v, w.
    body = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(overwrite_in_box(path.read_bytes(), b"tkhd", 40, body))
    crop = plan_crop_resize(Rect(40, 20, 240, 144), 240, 144, "crop")
    with open_video(path) as video:
        info = video.info
        resizer = FrameResizer(info, crop)
        frames = list(video.frames())
        ours = [to_display_rgb(frame, info) for frame in frames]
        resized = [resizer(frame).to_ndarray(format="rgb24") for frame in frames]
    assert (info.geometry.width, info.geometry.height) == (320, 192)
    assert [read_counter(image) for image in ours] == [0, 1]
    assert [read_counter(image, (40, 20, 240, 144)) for image in resized] == [0, 1]
    command = [find_ffmpeg(), "-v", "error", "-i", str(path), "-f", "rawvideo"]
    raw = subprocess.run([*command, "-pix_fmt", "rgb24", "-"], capture_output=True, check=True)
    theirs = np.frombuffer(raw.stdout, np.uint8).reshape(-1, 192, 320, 3)
    assert np.abs(np.stack(ours).astype(int) - theirs).mean() < 2


def test_an_unstated_matrix_is_guessed_from_the_size(tmp_path: Path) -> None:
    for size, matrix in (((320, 192), "smpte170m"), ((1280, 720), "bt709")):
        path = write_video(tmp_path / f"{matrix}.mp4", [Shot(2)], size=size).path
        with open_video(path) as video:
            assert video.info.matrix == matrix


def test_frames_of_a_few_pixels_are_rejected(tmp_path: Path) -> None:
    path = write_video(tmp_path / "v.avi", [Shot(4)], codec="mpeg4", b_frames=0, size=(8, 8)).path
    with pytest.raises(UnreadableVideo, match="of only 8x8 pixels"), open_video(path):
        pytest.fail("the file was opened")
