"""Sample a video: denoise latents with the backbone's pipeline, then decode them with its VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def denoise(pipeline: Any, seed: int, **call: Any) -> torch.Tensor:
    """Sample normalized latents_BCTHW, fp32; ``call``: arguments of ``WanPipeline.__call__``.

    The noise is drawn on the CPU, so it is the same on all devices.
    """
    import torch

    latents_BCTHW: torch.Tensor = pipeline(
        generator=torch.Generator().manual_seed(seed), output_type="latent", **call
    ).frames
    return latents_BCTHW


def draw_noise(seed: int, shape: torch.Size) -> torch.Tensor:
    """Draw the noise_CTHW, fp32 on the CPU, that a pipeline starts from with this seed."""
    import torch

    return torch.randn((1, *shape), generator=torch.Generator().manual_seed(seed))[0]


def decode_latents(vae: Any, latents_BCTHW: torch.Tensor) -> NDArray[np.uint8]:
    """Decode the first of normalized latents to RGB frames_THWC.

    Raises ValueError for non-finite values.
    """
    import torch

    def channels(values: Any) -> torch.Tensor:
        return torch.tensor(values, device=vae.device, dtype=vae.dtype).view(1, -1, 1, 1, 1)

    input_BCTHW = latents_BCTHW[:1].to(vae.device, vae.dtype)
    mean, deviation = channels(vae.config.latents_mean), channels(vae.config.latents_std)
    # Divided twice, to round as WanPipeline does.
    input_BCTHW = input_BCTHW / (1.0 / deviation) + mean
    with torch.no_grad():
        video_CTHW = vae.decode(
            input_BCTHW.contiguous(memory_format=torch.channels_last_3d), return_dict=False
        )[0][0]
    if not bool(video_CTHW.isfinite().all()):
        raise ValueError("the video contains non-finite values (NaN or Inf)")
    video_THWC = video_CTHW.permute(1, 2, 3, 0).float()
    rgb_THWC = ((video_THWC * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    frames_THWC: NDArray[np.uint8] = rgb_THWC.cpu().numpy()
    return frames_THWC
