"""From a prompt's embedding to pictures: the backbone's own pipeline, then its VAE."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch


def latents(pipeline: Any, seed: int, **call: Any) -> torch.Tensor:
    """Normalised latents_BCTHW, fp32; ``call`` as ``WanPipeline.__call__`` takes it.

    The noise is drawn on the CPU: the same on any device.
    """
    import torch

    found: torch.Tensor = pipeline(
        generator=torch.Generator().manual_seed(seed), output_type="latent", **call
    ).frames
    return found


def decode(vae: Any, latents_BCTHW: torch.Tensor) -> NDArray[np.uint8]:
    """The frames_THWC, RGB, of the first of normalised latents.

    Raises ValueError for latents or pictures that are no numbers.
    """
    import torch

    def channels(values: Any) -> torch.Tensor:
        return torch.tensor(values, device=vae.device, dtype=vae.dtype).view(1, -1, 1, 1, 1)

    given_BCTHW = latents_BCTHW[:1].to(vae.device, vae.dtype)
    mean, deviation = channels(vae.config.latents_mean), channels(vae.config.latents_std)
    # As WanPipeline rounds it.
    given_BCTHW = given_BCTHW / (1.0 / deviation) + mean
    with torch.no_grad():
        video_CTHW = vae.decode(
            given_BCTHW.contiguous(memory_format=torch.channels_last_3d), return_dict=False
        )[0][0]
    if not bool(video_CTHW.isfinite().all()):
        raise ValueError("the video holds values that are no numbers")
    video_THWC = video_CTHW.permute(1, 2, 3, 0).float()
    pictures_THWC = ((video_THWC * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    frames_THWC: NDArray[np.uint8] = pictures_THWC.cpu().numpy()
    return frames_THWC
