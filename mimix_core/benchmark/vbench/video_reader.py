"""A video as VBench's readers give it, decoded once for all dimensions, and what a dimension is.

Each dimension is a module of this package with three names::

    DIMENSION: str                                     VBench's name, e.g. "subject_consistency"
    load(weights_dir: Path, device: torch.device)      -> model, an nn.Module or a frozen dataclass
    score(model, video: Video) -> float                the value of one video

``weights_dir`` is laid out as VBench's own cache (``~/.cache/vbench``). ``score`` raises
Unmeasurable for a video that the dimension has no value for (a single frame has no motion).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mimix_core.benchmark.metrics.video_features import Unmeasurable
from mimix_core.media.decode import open_video

if TYPE_CHECKING:
    import torch

DECODE_THREADS = 2


@dataclass(frozen=True)
class Video:
    """All frames_THWC of a video, uint8 RGB, in order; its average rate; the prompt it shows."""

    frames_THWC: NDArray[np.uint8]
    fps: float
    prompt: str
    path: Path

    def pixels(self, device: torch.device) -> torch.Tensor:
        """frames_TCHW, uint8, on ``device``; in memory channels come last."""
        import torch

        return torch.from_numpy(self.frames_THWC).to(device).permute(0, 3, 1, 2)


def read(path: Path, prompt: str = "", *, threads: int = DECODE_THREADS) -> Video:
    """Decode a whole video. Raises UnreadableVideo for one that cannot be read to its end.

    The pixels are those of decord and of OpenCV, which VBench's dimensions use: libswscale's
    default way from the stream's own YCbCr to RGB, turned as the file's rotation asks. Neither
    stretches for a sample aspect ratio.
    """
    with open_video(path, threads=threads) as video:
        turns = -video.info.geometry.rotation // 90
        frames_THWC = np.stack(
            [
                np.ascontiguousarray(np.rot90(frame.to_ndarray(format="rgb24"), turns))
                for frame in video.frames()
            ]
        )
        return Video(frames_THWC, float(video.info.rate), prompt, path)


__all__ = ["DECODE_THREADS", "Unmeasurable", "Video", "read"]
