"""Decode a video as VBench's readers do, once for all dimensions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mimix_core.media.decode import open_video

if TYPE_CHECKING:
    import torch

DECODE_THREADS = 2


@dataclass(frozen=True)
class DecodedVideo:
    """All frames_THWC of a video, uint8 RGB; its average frame rate; the prompt it shows."""

    frames_THWC: NDArray[np.uint8]
    fps: float
    prompt: str
    path: Path

    def to_tensor(self, device: torch.device) -> torch.Tensor:
        """Return frames_TCHW, uint8, on ``device``, in channels-last memory format."""
        import torch

        return torch.from_numpy(self.frames_THWC).to(device).permute(0, 3, 1, 2)


def read_video(path: Path, prompt: str = "", *, threads: int = DECODE_THREADS) -> DecodedVideo:
    """Decode all frames. Raises UnreadableVideo for a file that cannot be decoded to its end.

    The pixels equal those of decord and OpenCV, which VBench's dimensions use: libswscale's default
    conversion from the stream's own YCbCr to RGB, rotated as the file's metadata requires. None of
    them applies a sample aspect ratio.
    """
    with open_video(path, threads=threads) as video:
        turns = -video.info.geometry.rotation // 90
        frames_THWC = np.stack(
            [
                np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
                for frame in video.frames()
            ]
        )
        return DecodedVideo(frames_THWC, float(video.info.rate), prompt, path)
