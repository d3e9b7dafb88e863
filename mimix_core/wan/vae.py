"""Load Wan's VAE and encode frames as normalized mean latents.

As in Wan (DiffSynth and diffusers agree): the mean of the posterior, not a sample, then
(mean - latents_mean) / latents_std per channel.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def load_vae(
    folder: Path, device: torch.device, precision: Literal["fp32", "bf16"] = "fp32"
) -> Any:
    """Load the VAE (``AutoencoderKLWan``) with this project's convolutions.

    In fp32 the convolutions of a GPU use TF32, which is PyTorch's default.
    """
    import torch
    from diffusers import AutoencoderKLWan

    from mimix_core.wan.vae_layers import replace_convolutions

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    vae = AutoencoderKLWan.from_pretrained(folder, torch_dtype=dtype).eval().to(device)
    return replace_convolutions(vae)


def resize_frames(frames_THWC: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize frames by area averaging, which avoids aliasing when shrinking."""
    import cv2

    return np.stack(
        [cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA) for frame in frames_THWC]
    )


def encode_frames(vae: Any, frames_THWC: NDArray[np.uint8]) -> torch.Tensor:
    """Encode uint8 RGB frames as normalized latents_CTHW (fp32, CPU) with (T - 1) / 4 + 1 frames.

    Raises ValueError unless T is 4k + 1 and both sides are multiples of 16 (VAE 8, patch 2).
    """
    import torch

    count, height, width, _ = frames_THWC.shape
    if count % 4 != 1 or height % 16 or width % 16:
        raise ValueError(f"Wan's VAE does not support {count} frames of {width}x{height}")
    video_CTHW = torch.from_numpy(np.ascontiguousarray(frames_THWC.transpose(3, 0, 1, 2)))
    video_BCTHW = (video_CTHW.to(vae.device).float() / 127.5 - 1.0).unsqueeze(0)
    with torch.no_grad():
        input_BCTHW = video_BCTHW.to(vae.dtype).contiguous(memory_format=torch.channels_last_3d)
        mean_CTHW = vae.encode(input_BCTHW).latent_dist.mode()[0].float()
    shift_C, scale_C = (
        torch.tensor(values, device=mean_CTHW.device)
        for values in (vae.config.latents_mean, vae.config.latents_std)
    )
    latents_CTHW: torch.Tensor = (mean_CTHW - shift_C[:, None, None, None]) / scale_C[
        :, None, None, None
    ]
    return latents_CTHW.cpu()
