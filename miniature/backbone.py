"""The backbone ``miniature-wan``: diffusers' classes of Wan at small size, trained from nothing.

It is never called Wan: only its classes, its objective and its VAE's layout are Wan's.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from miniature import whole_clip
from miniature.sizes import FLOW_SHIFT, Sizes
from miniature.text_encoder import MiniatureTextEncoder, MiniatureTokenizer, build_vocabulary

TEXT_TOKENS = 512
Tensor = torch.Tensor


@dataclass
class Base:
    """Transformer and text encoder, which are trained together."""

    transformer: Any
    text_encoder: MiniatureTextEncoder
    tokenizer: MiniatureTokenizer = field(
        default_factory=lambda: MiniatureTokenizer(build_vocabulary())
    )

    def parameters(self) -> list[tuple[str, torch.nn.Parameter]]:
        return [
            *((f"transformer.{n}", p) for n, p in self.transformer.named_parameters()),
            *((f"text_encoder.{n}", p) for n, p in self.text_encoder.named_parameters()),
        ]


def build_base(sizes: Sizes, device: torch.device) -> Base:
    """Build transformer and text encoder with random weights."""
    from diffusers import WanTransformer3DModel

    transformer = WanTransformer3DModel(**sizes.transformer_config())
    with torch.no_grad():
        for block in transformer.blocks:
            # Cross-attention has no gate; it starts small, as the other branches do.
            block.attn2.to_out[0].weight.mul_(0.2)
        transformer.proj_out.weight.zero_()
        transformer.proj_out.bias.zero_()
    encoder = MiniatureTextEncoder(len(build_vocabulary()), sizes.text_width)
    return Base(transformer.to(device), encoder.to(device))


def build_vae(sizes: Sizes, device: torch.device) -> Any:
    """Build the VAE with random weights; ``miniature.whole_clip`` can run it in one pass."""
    from diffusers import AutoencoderKLWan

    from miniature.whole_clip import replace_layers

    vae = AutoencoderKLWan(
        **sizes.vae_config(),
        latents_mean=[0.0] * sizes.channels,
        latents_std=[1.0] * sizes.channels,
    )
    return replace_layers(vae.to(device))


def embed(base: Base, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Embed ids as text_BLD with L = 512, padded with zeros, as MiMix pads every backbone's."""
    hidden = base.text_encoder(ids_BL, mask_BL).last_hidden_state
    return torch.nn.functional.pad(hidden, (0, 0, 0, TEXT_TOKENS - hidden.shape[1]))


def encode(vae: Any, frames_BCTHW: Tensor) -> Tensor:
    """Encode frames in 0..1 as normalized mean latents."""
    mean, std = _statistics(vae)
    latents = whole_clip.moments(vae, frames_BCTHW * 2 - 1).chunk(2, 1)[0].float()
    return (latents - mean) / std


def decode(vae: Any, latents_BCTHW: Tensor) -> Tensor:
    """Decode normalized latents to frames in 0..1."""
    mean, std = _statistics(vae)
    frames = whole_clip.decode(vae, latents_BCTHW * std + mean).float()
    return (frames * 0.5 + 0.5).clamp(0, 1)


def _statistics(vae: Any) -> tuple[Tensor, Tensor]:
    device = next(vae.parameters()).device
    values = (vae.config.latents_mean, vae.config.latents_std)
    mean, std = (torch.tensor(v, device=device).view(1, -1, 1, 1, 1) for v in values)
    return mean, std


def tokenize(base: Base, texts: list[str], device: torch.device) -> tuple[Tensor, Tensor]:
    """Tokenize texts as padded ids_BL and mask_BL."""
    rows = base.tokenizer(texts).input_ids
    longest = max(map(len, rows))
    ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids.to(device), mask.to(device)


@torch.no_grad()
def sample(
    base: Base,
    texts: list[str],
    noise_BCTHW: Tensor,
    *,
    steps: int = 30,
    guidance: float = 4.0,
    shift: float = FLOW_SHIFT,
) -> Tensor:
    """Denoise latents with Heun's method on the flow, guided against the empty text."""
    device, count = noise_BCTHW.device, len(texts)
    text = embed(base, *tokenize(base, [*texts, ""], device))
    empty = text[count:].expand(count, -1, -1)
    return denoise(
        base, text[:count], empty, noise_BCTHW, steps=steps, guidance=guidance, shift=shift
    )


@torch.no_grad()
def denoise(
    base: Base,
    text_BLD: Tensor,
    empty_BLD: Tensor,
    noise_BCTHW: Tensor,
    *,
    steps: int,
    guidance: float,
    shift: float = FLOW_SHIFT,
) -> Tensor:
    """Denoise latents with Heun's method, from a text and away from the empty one."""
    device, count = noise_BCTHW.device, len(text_BLD)
    text = torch.cat([text_BLD, empty_BLD])
    levels = torch.linspace(1, 0, steps + 1)
    levels = shift * levels / (1 + (shift - 1) * levels)

    def velocity(latents: Tensor, level: float) -> Tensor:
        output = base.transformer(
            hidden_states=torch.cat([latents, latents]),
            timestep=torch.full((2 * count,), 1000 * level, device=device),
            encoder_hidden_states=text,
            return_dict=False,
        )[0].float()
        with_text, without = output.chunk(2)
        guided: Tensor = without + guidance * (with_text - without)
        return guided

    latents = noise_BCTHW.clone()
    for now, following in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        step = following - now
        first = velocity(latents, now)
        if following > 0 and now < 1:
            second = velocity(latents + step * first, following)
            first = (first + second) / 2
        latents = latents + step * first
    return latents


def save_base(base: Base, folder: Path) -> None:
    """Write the components as diffusers' and MiMix's loaders expect them."""
    base.transformer.save_pretrained(folder / "transformer")
    base.text_encoder.save_pretrained(folder / "text_encoder")
    base.tokenizer.save_pretrained(folder / "tokenizer")
