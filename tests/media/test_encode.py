"""Clip encoding: reproducible bytes, right colors, and a verification that rejects bad clips."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mimix_core.media import (
    ClipWriter,
    EncodeFailed,
    FrameResizer,
    Rect,
    VerificationFailed,
    open_video,
    plan_crop_resize,
    read_rgb,
    verify_clip,
)
from tests.media_factory import draw_frame


def write_clip(path: Path, frames: int = 81, **changes: object) -> Path:
    arguments: dict[str, object] = {"crf": 20, "preset": "fast", **changes}
    with ClipWriter(path, 320, 192, **arguments) as writer:
        for number in range(frames):
            writer.write_rgb(draw_frame(number, 0, number))
    return path


def test_a_clip_is_verified_and_read_by_opencv_as_81_frames_at_16(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    verify_clip(path, 320, 192)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == 16
    assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 81
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.start_time == 0
        assert stream.duration * stream.time_base == Fraction(81, 16)
        context = stream.codec_context
        assert (context.pix_fmt, context.colorspace, context.color_range) == ("yuv420p", 1, 1)
        assert (context.color_primaries, context.color_trc) == (1, 1)
    assert b"Lavf" not in path.read_bytes()


def test_the_same_clip_has_the_same_bytes(tmp_path: Path) -> None:
    written = {write_clip(tmp_path / f"{k}.mp4").read_bytes() for k in range(4)}
    assert len(written) == 1


@pytest.mark.parametrize(
    ("frames", "changes", "size", "word"),
    [
        (80, {}, (320, 192), "80 frames"),
        (82, {}, (320, 192), "82 frames"),
        (81, {"rate": Fraction(17)}, (320, 192), "PTS"),
        (81, {}, (320, 180), "320x192"),
    ],
)
def test_verification_rejects(
    tmp_path: Path, frames: int, changes: dict[str, object], size: tuple[int, int], word: str
) -> None:
    path = write_clip(tmp_path / "clip.mp4", frames, **changes)
    with pytest.raises(VerificationFailed, match=word):
        verify_clip(path, *size)


def test_verification_rejects_a_truncated_file(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(VerificationFailed):
        verify_clip(path, 320, 192)


def test_a_failed_encode_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    with (
        pytest.raises(EncodeFailed, match="frame 1"),
        ClipWriter(path, 320, 192, crf=20, preset="fast") as writer,
    ):
        writer.write_rgb(draw_frame(0, 0, 0))
        writer.write_rgb(draw_frame(0, 0, 0, (160, 96)))
    assert not path.exists()
    with pytest.raises(EncodeFailed, match="no-such-preset"):
        ClipWriter(path, 320, 192, crf=20, preset="no-such-preset")
    assert not path.exists()


@pytest.mark.parametrize(
    ("matrix", "number", "levels"),
    [("ITU709", 1, "MPEG"), ("ITU601", 6, "MPEG"), ("ITU709", 1, "JPEG"), ("ITU601", 5, "JPEG")],
)
def test_colors_are_preserved_for_every_matrix_and_range(
    tmp_path: Path, matrix: str, number: int, levels: str
) -> None:
    colours = np.array([[200, 40, 40], [40, 180, 60], [40, 70, 210], [128, 128, 128]], np.uint8)
    image = np.repeat(np.repeat(colours[None], 192, 0), 80, 1)
    source = tmp_path / "source.mp4"
    with av.open(str(source), "w") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = 320, 192, "yuv420p"
        stream.codec_context.colorspace = number
        stream.codec_context.color_range = 2 if levels == "JPEG" else 1
        for k in range(2):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
                format="yuv420p", dst_colorspace=matrix, dst_color_range=levels
            )
            frame.pts = k
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    clip = tmp_path / "clip.mp4"
    with open_video(source) as video, ClipWriter(clip, 160, 96, crf=4, preset="fast") as writer:
        resizer = FrameResizer(video.info, plan_crop_resize(Rect(0, 0, 320, 192), 160, 96, "crop"))
        for frame in video.frames():
            writer.write(resizer(frame))
    decoded = read_rgb(clip)[0, 48, [20, 60, 100, 140]].astype(int)
    assert np.abs(decoded - colours).max() <= 4
