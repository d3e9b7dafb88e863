"""How MiMix uses ``miniature-wan``: Wan's transformer, and a VAE and text encoder of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mimix_core.wan import vae, wan_interface
from mimix_core.wan.model_registry import Precision
from miniature import backbone, whole_clip
from miniature.text_encoder import MiniatureTextEncoder, MiniatureTokenizer


def load_vae(folder: Path, device: torch.device, precision: Precision = "fp32") -> Any:
    """Load the VAE, which encodes and decodes a whole clip in one pass."""
    model = whole_clip.replace_layers(vae.load_vae(folder, device, precision))
    model.__class__ = whole_clip.WholeClipVae
    return model


def encode_frames(model: Any, frames_THWC: NDArray[np.uint8]) -> torch.Tensor:
    """Encode uint8 RGB frames as normalized latents_CTHW (fp32, CPU), in one pass.

    T is 4k + 1; both sides are multiples of 8.
    """
    frames_CTHW = torch.from_numpy(np.ascontiguousarray(frames_THWC.transpose(3, 0, 1, 2)))
    frames_BCTHW = (frames_CTHW.to(model.device).float() / 255).to(model.dtype).unsqueeze(0)
    with torch.no_grad():
        return backbone.encode(model, frames_BCTHW)[0].cpu()


def load_text_encoder(folder: Path, device: torch.device) -> MiniatureTextEncoder:
    """Load the text encoder, fp32."""
    return MiniatureTextEncoder.from_pretrained(folder).eval().to(device)


INTERFACE = replace(
    wan_interface.INTERFACE,
    load_vae=load_vae,
    encode_frames=encode_frames,
    load_tokenizer=MiniatureTokenizer.from_pretrained,
    load_text_encoder=load_text_encoder,
)
