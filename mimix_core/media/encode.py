"""Clip encoding with x264, and verification of the written files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from mimix_core.domain.timeline import CLIP_FRAMES, CLIP_RATE
from mimix_core.errors import BadInput, DiskFull, is_disk_full
from mimix_core.media.color_conversion import rgb_to_frame
from mimix_core.media.decode import open_video
from mimix_core.media.probe import UnreadableVideo

_BT709, _LIMITED = 1, 1
_MIN_TICKS = 16_000
# OpenCV's ID of this processor feature.
_CPU_AVX_512F = 13


class EncodeFailed(Exception):
    """The encoder rejected its settings or a frame."""


class VerificationFailed(Exception):
    """A written clip does not decode as intended."""


class ClipWriter:
    """Writes one clip: H.264 High, yuv420p BT.709 limited range, frame k at exactly k / rate.

    Closed GOPs, one thread, and no encoder name or date in the file: the same frames and settings
    give the same bytes. For speed, run several writers concurrently, each in its own thread. Use
    it as a context manager: after an exception the unfinished file is removed. Raises EncodeFailed.
    """

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        *,
        crf: int,
        preset: str,
        rate: Fraction = CLIP_RATE,
    ) -> None:
        self.path = path
        self.frames = 0
        self._size = (width, height)
        # A timescale for track and movie in which a frame is whole: no duration is rounded.
        ticks = str(-(-_MIN_TICKS // rate.numerator) * rate.numerator)
        options = {"crf": str(crf), "preset": preset, "x264-params": _x264_params()}
        self._container = av.open(
            f"file:{path}",
            "w",
            format="mp4",
            options={
                "fflags": "+bitexact",
                "movflags": "+faststart",
                "video_track_timescale": ticks,
                "movie_timescale": ticks,
            },
        )
        try:
            self._stream = _x264_stream(self._container, rate, self._size, options)
        except (av.FFmpegError, ValueError) as error:
            self.discard()
            raise EncodeFailed(f"x264 rejected its settings {options}: {error}") from error

    def write(self, frame: Any) -> None:
        """Append a yuv420p BT.709 ``av.VideoFrame``; its PTS and frame type are ignored."""
        if (frame.width, frame.height) != self._size or frame.format.name != "yuv420p":
            raise EncodeFailed(
                f"frame {self.frames} is {frame.format.name} {frame.width}x{frame.height}"
            )
        frame.pts = self.frames
        frame.time_base = self._stream.codec_context.time_base
        # Otherwise x264 would have to use the source's frame type.
        frame.pict_type = 0
        self._encode(frame)
        self.frames += 1

    def write_rgb(self, image_HWC: NDArray[np.uint8]) -> None:
        """Append an RGB image, uint8 [height, width, 3]."""
        self.write(rgb_to_frame(image_HWC))

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        if error_type is None:
            self.close()
        else:
            self.discard()

    def close(self) -> None:
        """Flush the encoder and write the file's index."""
        self._encode(None)
        try:
            self._container.close()
        except OSError as error:
            self.path.unlink(missing_ok=True)
            if is_disk_full(error):
                raise DiskFull(error, str(self.path)) from error
            raise

    def _encode(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            self.discard()
            if is_disk_full(error):
                raise DiskFull(error, str(self.path)) from error
            raise EncodeFailed(f"frame {self.frames}: {error}") from error

    def discard(self) -> None:
        """Close and remove the unfinished file."""
        self._container.close()
        self.path.unlink(missing_ok=True)


def _x264_params() -> str:
    # x264's AVX-512 code for macroblock trees is not deterministic from run to run (seen in x264
    # 165 on an AMD EPYC); its AVX2 code is, at the same speed.
    instruction_set = ":asm=avx2" if cv2.checkHardwareSupport(_CPU_AVX_512F) else ""
    return f"open-gop=0{instruction_set}"


def _x264_stream(
    container: Any,
    rate: Fraction,
    size: tuple[int, int],
    options: Mapping[str, str],
) -> Any:
    stream = container.add_stream("libx264", rate=rate, options=dict(options))
    context = stream.codec_context
    context.width, context.height = size
    context.pix_fmt = "yuv420p"
    context.time_base = 1 / rate
    context.thread_count = 1
    context.sample_aspect_ratio = Fraction(1)
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = _LIMITED
    context.flags |= int(av.codec.context.Flags.bitexact | av.codec.context.Flags.closed_gop)
    context.open()
    return stream


def verify_clip(
    path: Path,
    width: int,
    height: int,
    *,
    frames: int = CLIP_FRAMES,
    rate: Fraction = CLIP_RATE,
    threads: int = 2,
    on_frame: Callable[[int, Any], None] | None = None,
) -> None:
    """Decode a written clip and raise VerificationFailed unless training can rely on it.

    It must have ``frames`` intact frames of ``width`` x ``height``, the first at 0 and each
    ``1 / rate`` s after the previous one, and state exactly ``rate`` as its frame rate.
    ``on_frame(k, frame)`` receives each ``av.VideoFrame``, before the following ones are verified.
    """
    try:
        with open_video(path, threads=threads) as video:
            step = 1 / (rate * video.info.time_base)
            count = 0
            for frame in video.frames():
                if frame.pts != count * step:
                    raise VerificationFailed(
                        f"frame {count} has PTS {frame.pts}, not {count * step}"
                    )
                if (frame.width, frame.height) != (width, height) or frame.is_corrupt:
                    raise VerificationFailed(
                        f"frame {count} is corrupt or {frame.width}x{frame.height}"
                    )
                if on_frame is not None:
                    on_frame(count, frame)
                count += 1
            stated_rate = video.info.rate
    except UnreadableVideo as error:
        raise VerificationFailed(error.what) from error
    if count != frames:
        raise VerificationFailed(f"{count} frames decoded, {frames} expected")
    if stated_rate != rate:
        raise VerificationFailed(f"the file states {stated_rate} frames/s, {rate} expected")


def find_ffmpeg() -> str:
    """Find an ffmpeg executable: the system's, or else that of the imageio-ffmpeg package.

    Raises BadInput when there is neither.
    """
    system_ffmpeg = shutil.which("ffmpeg")
    if system_ffmpeg is not None:
        return system_ffmpeg
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise BadInput(
            "no ffmpeg executable found", fix="Install ffmpeg, or: pip install imageio-ffmpeg"
        ) from error
