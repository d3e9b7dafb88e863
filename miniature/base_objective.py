"""What the base learns from: the velocity, and during training the truth at every token.

The truth (which figure covers a token, its attributes and its action) is predicted from an inner
block by a head that is dropped after training. An attribute such as the face fills one or two
tokens and hardly counts in the velocity's error; the head makes every attribute count alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.transformers.transformer_wan import WanAttnProcessor
from torch import nn
from torch.nn import functional

from miniature.backbone import TEXT_TOKENS, Base
from miniature.figures import ATTRIBUTES
from miniature.renderer import Video
from miniature.scenes import ACTIONS, SceneTensors
from miniature.sizes import FLOW_SHIFT
from miniature.text_encoder import END

Tensor = torch.Tensor

_IGNORE = -100
_NOBODY, _UNSURE = 0, -1
CLASSES = (*(len(values) for values in ATTRIBUTES.values()), len(ACTIONS))
_TEXT = 80
"""Text tokens in training: the captions' and one that stands for all further padding."""


@dataclass(frozen=True)
class Truth:
    """``owner_BN``: 1 or 2 for the figure that covers a token, 0 for none, -1 at an edge.

    ``classes_BFK``: each figure's attributes and its action.
    """

    owner_BN: Tensor
    classes_BFK: Tensor


def token_truth(video: Video, tensors: SceneTensors) -> Truth:
    """Return the truth at every token: a latent frame shows the first frame, or four later ones."""
    masks = video.masks_BFTHW
    batch, places, frames, height, width = masks.shape
    cover = functional.avg_pool2d(masks.flatten(0, 1), 8)
    cover = cover.view(batch, places, frames, height // 8, width // 8)
    later = cover[:, :, 1:].view(batch, places, frames // 4, 4, height // 8, width // 8).mean(3)
    cover_BFN = torch.cat([cover[:, :, :1], later], 2).flatten(2)
    most, owner = cover_BFN.max(1)
    label = torch.where(most > 0.4, owner + 1, _UNSURE)
    label = torch.where(cover_BFN.sum(1) < 0.1, _NOBODY, label)
    classes = torch.cat([tensors.attributes_BFA, tensors.action_BF[..., None]], -1)
    return Truth(label.to(torch.int8), classes.to(torch.uint8))


class TruthHead(nn.Module):
    """Predict a token's truth from the features of an inner block."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.out = nn.Linear(width, 2 + sum(CLASSES))

    def loss(self, features_BND: Tensor, truth: Truth) -> Tensor:
        """Return the mean cross-entropy over presence, attributes and action."""
        logits = self.out(self.norm(features_BND)).float().flatten(0, 1)
        presence, *rest = logits.split([2, *CLASSES], 1)
        owner = truth.owner_BN.long()
        target = torch.where(owner == _UNSURE, _IGNORE, (owner > 0).long())
        losses = [functional.cross_entropy(presence, target.flatten(), ignore_index=_IGNORE)]
        figure = (owner - 1).clamp(min=0)
        for index, one in enumerate(rest):
            value = truth.classes_BFK[..., index].long().gather(1, figure)
            value = torch.where(owner > 0, value, _IGNORE)
            losses.append(functional.cross_entropy(one, value.flatten(), ignore_index=_IGNORE))
        return torch.stack(losses).mean()


class SharedPadding(WanAttnProcessor):  # type: ignore[misc]
    """Attention to a text whose last token stands for all padding up to ``TEXT_TOKENS``.

    Padded tokens are all alike, so one of them with its weight multiplied gives the same sum.
    """

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        rotary_emb: Any = None,
    ) -> Tensor:
        if encoder_hidden_states is None:
            raise ValueError("SharedPadding is for attention to a text")
        length = encoder_hidden_states.shape[1]
        last = torch.arange(length, device=hidden_states.device) == length - 1
        bias = last.to(hidden_states.dtype) * math.log(TEXT_TOKENS - length + 1)
        attended: Tensor = super().__call__(
            attn, hidden_states, encoder_hidden_states, bias.view(1, 1, 1, -1), rotary_emb
        )
        return attended


def share_padding(base: Base) -> None:
    """Let the transformer expect texts of ``embed_short``."""
    for block in base.transformer.blocks:
        block.attn2.processor = SharedPadding()


def embed_short(base: Base, ids_BL: Tensor) -> Tensor:
    """Embed padded ids as text_BLD, to be used after ``share_padding``."""
    hidden: Tensor = base.text_encoder(ids_BL, (ids_BL != 0).long()).last_hidden_state
    return functional.pad(hidden, (0, 0, 0, _TEXT - hidden.shape[1]))


def velocity_and_features(
    transformer: Any, latents: Tensor, timestep_B: Tensor, text_BLD: Tensor, depth: int
) -> tuple[Tensor, Tensor]:
    """Run the transformer as its ``forward`` does; also return what block ``depth`` puts out."""
    _, _, frames, height, width = latents.shape
    rotary = transformer.rope(latents)
    hidden = transformer.patch_embedding(latents).flatten(2).transpose(1, 2).contiguous()
    embedded, projected, text, _ = transformer.condition_embedder(timestep_B, text_BLD, None)
    projected = projected.unflatten(1, (6, -1))
    features = hidden
    for index, block in enumerate(transformer.blocks):
        hidden = block(hidden, text, projected, rotary)
        if index == depth:
            features = hidden
    shift, scale = (transformer.scale_shift_table + embedded.unsqueeze(1)).chunk(2, 1)
    out = (transformer.norm_out(hidden.float()) * (1 + scale) + shift).type_as(hidden)
    velocity = transformer.proj_out(out).transpose(1, 2)
    return velocity.unflatten(2, (frames, height, width)), features


def noise_levels(count: int, shift: float, device: torch.device) -> Tensor:
    """Draw sigma_B: uniform, one from each of ``count`` equal intervals, then shifted."""
    level = (torch.arange(count, device=device) + torch.rand(count, device=device)) / count
    return shift * level / (1 + (shift - 1) * level)


def losses(
    base: Base, head: TruthHead, latents: Tensor, ids: Tensor, truth: Truth, drop: float
) -> tuple[Tensor, Tensor]:
    """Return the mean squared error of the velocity noise - x0, and the truth head's loss."""
    count = len(latents)
    dropped = torch.rand(count, 1, device=ids.device) < drop
    end = torch.zeros_like(ids)
    end[:, 0] = END
    text = embed_short(base, torch.where(dropped, end, ids))
    noise = torch.randn_like(latents)
    sigma = noise_levels(count, FLOW_SHIFT, latents.device)
    level = sigma.view(-1, 1, 1, 1, 1)
    velocity, features = velocity_and_features(
        base.transformer,
        (1 - level) * latents + level * noise,
        1000 * sigma,
        text,
        depth=len(base.transformer.blocks) // 2,
    )
    error = functional.mse_loss(velocity.float(), noise - latents)
    return error, head.loss(features, truth)
