"""LTX-Video's interface to latents, embeddings and velocities, as diffusers' LTXConditionPipeline.

Its tokens are one latent cell each, and their positions are in seconds and pixels: the rate of the
frames is an input of the model, not something it was trained for.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLLTXVideo,
    FlowMatchEulerDiscreteScheduler,
    LTXVideoTransformer3DModel,
)
from diffusers.pipelines.ltx.pipeline_ltx_condition import linear_quadratic_schedule
from numpy.typing import NDArray

from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.wan import text_embeddings
from mimix_core.wan.backbone import BackboneInterface, Precision
from mimix_core.wan.ltx_backbones import LTX_VIDEO, TEXT_TOKENS

_DECODE_LEVEL = 0.05
_DECODE_NOISE = 0.025
"""Noise level that the decoder is told, and share of noise in its input, as published: its last
layers denoise."""


class LTXVelocityTransformer(LTXVideoTransformer3DModel):  # type: ignore[misc]
    """LTX-Video's transformer with Wan's call: latents by frame, row and column, and padded text.

    Padding is where an embedding is 0.
    """

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_kwargs: dict[str, Any] | None = None,
        return_dict: bool = False,
    ) -> tuple[torch.Tensor]:
        """Predict velocity_BCTHW of latents_BCTHW at timesteps [B], with text_BLD."""
        shape = hidden_states.shape[2:]
        text_BLD = encoder_hidden_states[:, :TEXT_TOKENS]
        (velocity_BLC,) = super().forward(
            hidden_states=hidden_states.flatten(2).transpose(1, 2),
            encoder_hidden_states=text_BLD,
            timestep=timestep,
            encoder_attention_mask=text_BLD.ne(0).any(dim=-1),
            video_coords=token_positions(shape, hidden_states.device).expand(
                len(hidden_states), -1, -1
            ),
            attention_kwargs=attention_kwargs,
            return_dict=False,
        )
        return (velocity_BLC.transpose(1, 2).unflatten(2, shape),)


def token_positions(shape: Sequence[int], device: torch.device) -> torch.Tensor:
    """Return positions_1KL of the tokens of latents with this shape THW, fp32.

    K: the time in seconds of the first frame of a latent, and its row and column in pixels. The
    first latent is of one frame, each of the others of eight.
    """
    in_time, rows, columns = LTX_VIDEO.vae_stride
    axes = [torch.arange(length, device=device, dtype=torch.float32) for length in shape]
    axes[0] = (in_time * axes[0] + 1 - in_time).clamp(min=0) * (1.0 / float(CLIP_RATE))
    axes[1], axes[2] = rows * axes[1], columns * axes[2]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).flatten(1)[None]


class LinearQuadraticScheduler(FlowMatchEulerDiscreteScheduler):  # type: ignore[misc]
    """Euler's method at LTX-Video's noise levels.

    The first half of the steps covers 2.5 % of the levels evenly, the second half the rest in
    growing steps.
    """

    def set_timesteps(
        self, num_inference_steps: int, device: Any = None, **_unused: object
    ) -> None:
        """Set the noise levels of ``num_inference_steps`` steps."""
        levels = linear_quadratic_schedule(num_inference_steps)
        super().set_timesteps(sigmas=levels.tolist(), device=device)


def load_scheduler(folder: Path, shift: float) -> LinearQuadraticScheduler:
    """Load the scheduler with a timestep shift, 1 as published."""
    scheduler: LinearQuadraticScheduler = LinearQuadraticScheduler.from_pretrained(
        folder, shift=shift
    )
    return scheduler


def load_vae(folder: Path, device: torch.device, precision: Precision = "fp32") -> Any:
    """Load the VAE (``AutoencoderKLLTXVideo``)."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    return AutoencoderKLLTXVideo.from_pretrained(folder, torch_dtype=dtype).eval().to(device)


def encode_frames(vae: Any, frames_THWC: NDArray[np.uint8]) -> torch.Tensor:
    """Encode uint8 RGB frames as normalized latents_CTHW (fp32, CPU), of the posterior's mean.

    Raises ValueError unless T is 8k + 1 and both sides are multiples of 32.
    """
    count, height, width, _ = frames_THWC.shape
    problem = LTX_VIDEO.size_error(count, width, height)
    if problem is not None:
        raise ValueError(problem)
    video_CTHW = torch.from_numpy(np.ascontiguousarray(frames_THWC.transpose(3, 0, 1, 2)))
    input_BCTHW = (video_CTHW.to(vae.device).float() / 127.5 - 1.0).unsqueeze(0)
    with torch.no_grad():
        mean_CTHW = vae.encode(input_BCTHW.to(vae.dtype)).latent_dist.mode()[0].float()
    shift_C111, scale_C111 = _statistics(vae, mean_CTHW)
    latents_CTHW: torch.Tensor = (mean_CTHW - shift_C111) / scale_C111
    return latents_CTHW.cpu()


def decode_latents(vae: Any, latents_BCTHW: torch.Tensor) -> NDArray[np.uint8]:
    """Decode the first of normalized latents to RGB frames_THWC.

    The noise that the decoder expects is the same for all videos. Raises ValueError for non-finite
    values.
    """
    latents_CTHW = latents_BCTHW[0].to(vae.device).float()
    shift_C111, scale_C111 = _statistics(vae, latents_CTHW)
    noise_CTHW = torch.randn(latents_CTHW.shape, generator=torch.Generator().manual_seed(0))
    clean_CTHW = latents_CTHW * scale_C111 + shift_C111
    input_CTHW = (1 - _DECODE_NOISE) * clean_CTHW + _DECODE_NOISE * noise_CTHW.to(vae.device)
    level_B = torch.tensor([_DECODE_LEVEL], device=vae.device, dtype=vae.dtype)
    with torch.no_grad():
        video_CTHW = vae.decode(input_CTHW[None].to(vae.dtype), level_B, return_dict=False)[0][0]
    if not bool(video_CTHW.isfinite().all()):
        raise ValueError("the video contains non-finite values (NaN or Inf)")
    video_THWC = video_CTHW.permute(1, 2, 3, 0).float()
    rgb_THWC = ((video_THWC * 0.5 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    frames_THWC: NDArray[np.uint8] = rgb_THWC.cpu().numpy()
    return frames_THWC


def _statistics(vae: Any, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return each channel's mean and standard deviation of the VAE's latents, [C, 1, 1, 1]."""
    mean_C, deviation_C = vae.latents_mean.to(like), vae.latents_std.to(like)
    return (
        mean_C[:, None, None, None],
        deviation_C[:, None, None, None] / vae.config.scaling_factor,
    )


def load_text_encoder(folder: Path, device: torch.device) -> Any:
    """Load the text encoder (``T5EncoderModel``) in the dtype of its stored weights."""
    from transformers import T5EncoderModel

    encoder = T5EncoderModel.from_pretrained(folder, dtype="auto").eval()
    text_embeddings.check_tied_tables(encoder, str(folder))
    return encoder.to(device)


def tokenize_captions(tokenizer: Any, captions: Sequence[str]) -> list[list[int]]:
    """Tokenize each caption, end token included, without truncation."""
    ids: list[list[int]] = tokenizer(list(captions)).input_ids
    return ids


def load_transformer(folder: Path, dtype: torch.dtype) -> Any:
    """Load the transformer, frozen."""
    return LTXVelocityTransformer.from_pretrained(folder, torch_dtype=dtype).requires_grad_(False)


INTERFACE = BackboneInterface(
    load_vae=load_vae,
    encode_frames=encode_frames,
    load_tokenizer=text_embeddings.load_tokenizer,
    tokenize=tokenize_captions,
    load_text_encoder=load_text_encoder,
    embed_tokens=text_embeddings.embed_tokens,
    load_transformer=load_transformer,
    decode_latents=decode_latents,
    load_scheduler=load_scheduler,
)
