"""Choose which tokens skip a transformer's middle blocks in training (TREAD, arXiv 2501.04765).

All tokens pass the first and the last blocks. In between, a random share of them takes a route
around the blocks and comes back unchanged. docs/decisions/0045-token-routing.md has the reasons.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.wan.frozen_weights import WAN_CLASS

if TYPE_CHECKING:
    import torch

_FIRST, _LAST = 2, 3
"""Blocks before and after the route in the authors' models of 12 to 28 blocks."""
_SHALLOWEST = 12
"""Blocks of their smallest model; a smaller one has the same share of its blocks at the ends."""


def middle_blocks(blocks: int) -> range:
    """Return the indices of the blocks that routed tokens skip; empty for fewer than three blocks.

    All but the first two and the last three, as in the paper's own models. Of fewer than 12 blocks
    a sixth at the beginning and a quarter at the end, rounded, and at least one each.
    """
    first = max(1, min(_FIRST, round(_FIRST * blocks / _SHALLOWEST)))
    last = max(1, min(_LAST, round(_LAST * blocks / _SHALLOWEST)))
    return range(first, max(first, blocks - last))


def count_processed_tokens(tokens: int, share: float) -> int:
    """Count the tokens that middle blocks process if ``share`` of them is routed; at least one."""
    return max(1, tokens - round(share * tokens))


@dataclass(frozen=True)
class TokenRoute:
    """How tokens are routed: the share that skips the middle blocks, and the latents per token."""

    share: float
    patch: tuple[int, int, int]

    def draw(
        self, seed: int, epoch: int, occurrence: str, latents_CTHW: Sequence[int]
    ) -> torch.Tensor:
        """Draw the tokens that middle blocks process, as ascending indices [K], int64.

        Uniformly among all tokens of latents of this shape. Like the noise they depend on the
        arguments alone: ``occurrence`` is in one step of an epoch, wherever it is computed.
        """
        import torch

        from mimix_core.engine.torch_runtime import seeded_generator

        _, *sides = latents_CTHW
        tokens = math.prod(side // length for side, length in zip(sides, self.patch, strict=True))
        order = torch.randperm(
            tokens, generator=seeded_generator(seed, "routing", epoch, occurrence)
        )
        return order[: count_processed_tokens(tokens, self.share)].sort().values


def plan_route(settings: LoraSettings, config: Mapping[str, Any]) -> TokenRoute | None:
    """Return how a transformer of this config routes tokens in training; None if it does not."""
    if settings.routed_tokens == 0:
        return None
    in_time, rows, columns = config["patch_size"]
    return TokenRoute(settings.routed_tokens, (in_time, rows, columns))


def check_token_routing(settings: LoraSettings, class_name: str, config: Mapping[str, Any]) -> None:
    """Raise BadInput if tokens are to be routed and a transformer of this config cannot do it."""
    if settings.routed_tokens == 0:
        return
    if class_name != WAN_CLASS:
        raise BadInput(
            f"routed_tokens is not implemented for {class_name}",
            where="settings, key lora.routed_tokens",
            fix="Set lora.routed_tokens to 0; only Wan supports it.",
        )
    if not middle_blocks(config["num_layers"]):
        raise BadInput(
            f"a transformer of {config['num_layers']} blocks has no middle ones to skip",
            where="settings, key lora.routed_tokens",
            fix="Set lora.routed_tokens to 0, or use a model of at least three blocks.",
        )
