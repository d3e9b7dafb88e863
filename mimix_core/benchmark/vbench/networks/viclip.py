"""ViCLIP-L/14 (OpenGVLab/InternVid; Wang et al. 2023): similarity of eight frames and a text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mimix_core.benchmark.vbench import vbench_weights
from mimix_core.benchmark.vbench.networks.clip_text import TextEncoder, Tokenizer
from mimix_core.benchmark.vbench.networks.transformer import Transformer

NUM_FRAMES = 8
"""Number of input frames."""


class VideoEncoder(nn.Module):
    """Transformer over all patches of all frames: pixels_BCTHW to embeddings_BD."""

    def __init__(
        self, width: int, patch: int, tokens: int, frames: int, layers: int, out: int
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, width, (1, patch, patch), stride=(1, patch, patch), bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(tokens, width))
        self.ln_pre = nn.LayerNorm(width)
        self.temporal_positional_embedding = nn.Parameter(torch.empty(1, frames, width))
        self.transformer = Transformer(width, layers)
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, out))

    def forward(self, pixels_BCTHW: Tensor) -> Tensor:
        patches_BTND = self.conv1(pixels_BCTHW).flatten(3).permute(0, 2, 3, 1)
        patches_BTND = (
            patches_BTND
            + self.positional_embedding[1:]
            + self.temporal_positional_embedding.unsqueeze(2)
        )
        first_D = self.class_embedding + self.positional_embedding[0]
        first_B1D = first_D.expand(len(patches_BTND), 1, -1)
        # Patches in spatial order, each through all frames; the order does not affect the output.
        patches_BLD = patches_BTND.transpose(1, 2).flatten(1, 2)
        tokens_BLD = self.ln_pre(torch.cat([first_B1D, patches_BLD], dim=1))
        out: Tensor = self.ln_post(self.transformer(tokens_BLD)[:, 0]) @ self.proj
        return out


@dataclass(frozen=True)
class ViClip:
    """The video encoder, the text encoder and its tokenizer."""

    video: VideoEncoder
    text: TextEncoder
    tokenizer: Tokenizer

    @property
    def text_length(self) -> int:
        """The text encoder's context length, including start and end token."""
        return len(self.text.positional_embedding)

    @torch.no_grad()
    def similarity(self, pixels_TCHW: Tensor, text: str) -> float:
        """Return the cosine of the eight frames and the text, -1..1."""
        pixels_BCTHW = pixels_TCHW.transpose(0, 1).unsqueeze(0)
        video_D = F.normalize(self.video(pixels_BCTHW)[0], dim=-1)
        tokens_BL = self.tokenizer.encode_padded(text, self.text_length).unsqueeze(0)
        text_D = F.normalize(self.text(tokens_BL.to(pixels_TCHW.device))[0], dim=-1)
        return float(video_D @ text_D)


def load_viclip(path: Path, vocabulary: Path, device: torch.device) -> ViClip:
    """Load ViCLIP from its released file. Raises BadInput for weights of another network."""
    tensors = vbench_weights.load_tensors(path, key="model")
    return ViClip(
        _load_video_encoder(_with_prefix(tensors, "vision_encoder."), path, device),
        _load_text_encoder(_with_prefix(tensors, "text_encoder."), path, device),
        Tokenizer(vocabulary),
    )


def _with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _load_video_encoder(
    tensors: dict[str, Tensor], path: Path, device: torch.device
) -> VideoEncoder:
    with vbench_weights.missing_tensor_as_bad_input(path), torch.device("meta"):
        network = VideoEncoder(
            width=tensors["conv1.weight"].shape[0],
            patch=tensors["conv1.weight"].shape[-1],
            tokens=tensors["positional_embedding"].shape[0],
            frames=tensors["temporal_positional_embedding"].shape[1],
            layers=vbench_weights.count_layers(tensors, "transformer.resblocks."),
            out=tensors["proj"].shape[1],
        )
    return vbench_weights.assign_weights(network, tensors, path, device)


def _load_text_encoder(tensors: dict[str, Tensor], path: Path, device: torch.device) -> TextEncoder:
    with vbench_weights.missing_tensor_as_bad_input(path), torch.device("meta"):
        network = TextEncoder(
            vocabulary=tensors["token_embedding.weight"].shape[0],
            length=tensors["positional_embedding"].shape[0],
            width=tensors["positional_embedding"].shape[1],
            layers=vbench_weights.count_layers(tensors, "transformer.resblocks."),
            out=tensors["text_projection"].shape[1],
        )
    return vbench_weights.assign_weights(network, tensors, path, device)
