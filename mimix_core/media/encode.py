"""Writing clips with x264, and proving what was written."""

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
from mimix_core.errors import BadInput
from mimix_core.media.color_conversion import frame_of_rgb
from mimix_core.media.decode import open_video
from mimix_core.media.probe import UnreadableVideo

_BT709, _LIMITED = 1, 1
# One timescale for track and movie that 1/16 s divides: no duration in the file is rounded.
_TICKS = 16_000
# OpenCV's number for this processor feature.
_CPU_AVX_512F = 13


class EncodeFailed(Exception):
    """The encoder refused its settings or a frame."""


class ProofFailed(Exception):
    """A written clip does not read back as it was meant."""


class ClipWriter:
    """Writes one clip: H.264 High, yuv420p BT.709 limited range, frame k at exactly k / rate.

    Closed GOPs, one thread, and no encoder name or date in the file: the same frames and settings
    give the same bytes. For speed run several writers at a time, each in its own thread. Use as a
    context manager: a clip left by an exception is removed. Raises EncodeFailed.
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
        options = {"crf": str(crf), "preset": preset, "x264-params": _x264_params()}
        self._container = av.open(
            f"file:{path}",
            "w",
            format="mp4",
            options={
                "fflags": "+bitexact",
                "movflags": "+faststart",
                "video_track_timescale": str(_TICKS),
                "movie_timescale": str(_TICKS),
            },
        )
        try:
            self._stream = _x264_stream(self._container, rate, self._size, options)
        except (av.FFmpegError, ValueError) as error:
            self.discard()
            raise EncodeFailed(f"x264 refused its settings {options}: {error}") from error

    def write(self, frame: Any) -> None:
        """Append a yuv420p BT.709 ``av.VideoFrame``; its PTS and frame type do not count."""
        if (frame.width, frame.height) != self._size or frame.format.name != "yuv420p":
            raise EncodeFailed(
                f"frame {self.frames} is {frame.format.name} {frame.width}x{frame.height}"
            )
        frame.pts = self.frames
        frame.time_base = self._stream.codec_context.time_base
        # The source's frame type would force x264's.
        frame.pict_type = 0
        self._encode(frame)
        self.frames += 1

    def write_rgb(self, image_HWC: NDArray[np.uint8]) -> None:
        """Append an RGB picture, uint8 [height, width, 3]."""
        self.write(frame_of_rgb(image_HWC))

    def __enter__(self) -> ClipWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def close(self) -> None:
        """Write what the encoder still holds, and the file's index."""
        self._encode(None)
        self._container.close()

    def _encode(self, frame: Any) -> None:
        try:
            self._container.mux(self._stream.encode(frame))
        except (av.FFmpegError, OSError) as error:
            self.discard()
            raise EncodeFailed(f"frame {self.frames}: {error}") from error

    def discard(self) -> None:
        """Give the clip up: close and remove the file."""
        self._container.close()
        self.path.unlink(missing_ok=True)


def _x264_params() -> str:
    # x264's AVX-512 code for macroblock trees gives other bytes from run to run (seen in x264 165
    # on an AMD EPYC); its AVX2 code gives the same every time, as fast.
    level = ":asm=avx2" if cv2.checkHardwareSupport(_CPU_AVX_512F) else ""
    return f"open-gop=0{level}"


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


def prove_clip(
    path: Path,
    width: int,
    height: int,
    *,
    frames: int = CLIP_FRAMES,
    rate: Fraction = CLIP_RATE,
    threads: int = 2,
    look: Callable[[int, Any], None] | None = None,
) -> None:
    """Decode a written clip and raise ProofFailed unless it is what a trainer will rely on.

    That is: ``frames`` frames of ``width`` x ``height``, the first at 0, each ``1 / rate`` s
    after the one before, the stated rate exactly ``rate``, all of them whole. ``look(k, frame)``
    sees each ``av.VideoFrame`` on the way, before the rest is proven.
    """
    try:
        with open_video(path, threads=threads) as video:
            step = 1 / (rate * video.info.time_base)
            count = 0
            for frame in video.frames():
                if frame.pts != count * step:
                    raise ProofFailed(
                        f"frame {count} stands at PTS {frame.pts}, not {count * step}"
                    )
                if (frame.width, frame.height) != (width, height) or frame.is_corrupt:
                    raise ProofFailed(f"frame {count} is broken or {frame.width}x{frame.height}")
                if look is not None:
                    look(count, frame)
                count += 1
            stated = video.info.rate
    except UnreadableVideo as error:
        raise ProofFailed(error.what) from error
    if count != frames:
        raise ProofFailed(f"{count} frames read back, {frames} wanted")
    if stated != rate:
        raise ProofFailed(f"the file states {stated} frames/s, {rate} wanted")


def ffmpeg_exe() -> str:
    """Path of an ffmpeg program: the system's, else the one the imageio-ffmpeg package ships.

    Raises BadInput when there is neither.
    """
    found = shutil.which("ffmpeg")
    if found is not None:
        return found
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:
        raise BadInput(
            "no ffmpeg program", fix="Install ffmpeg, or: pip install imageio-ffmpeg"
        ) from error
