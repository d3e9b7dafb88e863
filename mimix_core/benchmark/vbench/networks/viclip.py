"""ViCLIP-L/14 (OpenGVLab/InternVid; Wang et al. 2023): how well eight frames show a text."""

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

FRAMES = 8
"""Frames that the network looks at."""


class VideoEncoder(nn.Module):
    """All patches of all frames in one transformer: pixels_BCTHW to embeddings_BD."""

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
        # Patch by patch, each through all frames: the order changes no value of the first token.
        patches_BLD = patches_BTND.transpose(1, 2).flatten(1, 2)
        tokens_BLD = self.ln_pre(torch.cat([first_B1D, patches_BLD], dim=1))
        out: Tensor = self.ln_post(self.transformer(tokens_BLD)[:, 0]) @ self.proj
        return out


@dataclass(frozen=True)
class ViClip:
    """The two encoders and the words between."""

    video: VideoEncoder
    text: TextEncoder
    tokenizer: Tokenizer

    @property
    def text_length(self) -> int:
        """Tokens that the text encoder reads, start and end among them."""
        return len(self.text.positional_embedding)

    @torch.no_grad()
    def similarity(self, pixels_TCHW: Tensor, text: str) -> float:
        """Cosine between the eight frames and the text, -1..1."""
        pixels_BCTHW = pixels_TCHW.transpose(0, 1).unsqueeze(0)
        seen_D = F.normalize(self.video(pixels_BCTHW)[0], dim=-1)
        tokens_BL = self.tokenizer.row(text, self.text_length).unsqueeze(0)
        said_D = F.normalize(self.text(tokens_BL.to(pixels_TCHW.device))[0], dim=-1)
        return float(seen_D @ said_D)


def load(path: Path, vocabulary: Path, device: torch.device) -> ViClip:
    """ViCLIP from its released file. Raises BadInput for a file of something else."""
    found = vbench_weights.tensors(path, inside="model")
    return ViClip(
        _video(_part(found, "vision_encoder."), path, device),
        _text(_part(found, "text_encoder."), path, device),
        Tokenizer(vocabulary),
    )


def _part(found: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}


def _video(found: dict[str, Tensor], path: Path, device: torch.device) -> VideoEncoder:
    with vbench_weights.named_sizes(path), torch.device("meta"):
        network = VideoEncoder(
            width=found["conv1.weight"].shape[0],
            patch=found["conv1.weight"].shape[-1],
            tokens=found["positional_embedding"].shape[0],
            frames=found["temporal_positional_embedding"].shape[1],
            layers=vbench_weights.layers(found, "transformer.resblocks."),
            out=found["proj"].shape[1],
        )
    return vbench_weights.fill(network, found, path, device)


def _text(found: dict[str, Tensor], path: Path, device: torch.device) -> TextEncoder:
    with vbench_weights.named_sizes(path), torch.device("meta"):
        network = TextEncoder(
            vocabulary=found["token_embedding.weight"].shape[0],
            length=found["positional_embedding"].shape[0],
            width=found["positional_embedding"].shape[1],
            layers=vbench_weights.layers(found, "transformer.resblocks."),
            out=found["text_projection"].shape[1],
        )
    return vbench_weights.fill(network, found, path, device)
