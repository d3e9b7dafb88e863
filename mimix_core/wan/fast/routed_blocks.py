"""Run the middle blocks on some of the tokens; the others skip them (``wan.token_routing``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from mimix_core.wan.token_routing import middle_blocks

Rotary = tuple[torch.Tensor, torch.Tensor]


class RoutedBlocks:
    """Run blocks in training, as ``transformer._gradient_checkpointing_func``.

    ``run_block(block, hidden_BLD, text_BMD, modulation_B6D, rotary)`` runs one. Passes without
    gradients do not come here, so validation and previews process all tokens in all blocks. State:
    of the present pass the processed tokens, their rotary embeddings, and all tokens before the
    middle blocks.
    """

    def __init__(self, run_block: Callable[..., torch.Tensor], blocks: Sequence[Any]) -> None:
        self.run_block = run_block
        self._index = {id(block): index for index, block in enumerate(blocks)}
        self._middle = middle_blocks(len(blocks))
        self._processed_BK: torch.Tensor | None = None
        self._rotary: Rotary | None = None
        self._all_BLD: torch.Tensor | None = None

    @contextmanager
    def routed_pass(self, processed_BK: torch.Tensor) -> Iterator[None]:
        """Process these tokens in the middle blocks of a pass, inside of a ``with`` block."""
        self._processed_BK = processed_BK
        try:
            yield
        finally:
            self._processed_BK = self._rotary = self._all_BLD = None

    def __call__(
        self,
        block: Any,
        hidden_BLD: torch.Tensor,
        text_BMD: torch.Tensor,
        modulation_B6D: torch.Tensor,
        rotary: Rotary,
    ) -> torch.Tensor:
        index = self._index[id(block)]
        if index not in self._middle:
            return self.run_block(block, hidden_BLD, text_BMD, modulation_B6D, rotary)
        assert self._processed_BK is not None, "a training pass without its processed tokens"
        if index == self._middle[0]:
            self._all_BLD = hidden_BLD
            hidden_BLD = select_tokens(hidden_BLD, self._processed_BK)
            cos_1L1D, sin_1L1D = rotary
            self._rotary = cos_1L1D[0, self._processed_BK], sin_1L1D[0, self._processed_BK]
        out_BKD = self.run_block(block, hidden_BLD, text_BMD, modulation_B6D, self._rotary)
        if index != self._middle[-1]:
            return out_BKD
        assert self._all_BLD is not None
        return replace_tokens(self._all_BLD, self._processed_BK, out_BKD)


def select_tokens(hidden_BLD: torch.Tensor, index_BK: torch.Tensor) -> torch.Tensor:
    """Return the tokens of each sample at its indices, [B, K, D]."""
    return hidden_BLD.gather(1, _expand(index_BK, hidden_BLD))


def replace_tokens(
    hidden_BLD: torch.Tensor, index_BK: torch.Tensor, tokens_BKD: torch.Tensor
) -> torch.Tensor:
    """Return ``hidden_BLD`` with the tokens of each sample at its indices replaced."""
    return hidden_BLD.scatter(1, _expand(index_BK, hidden_BLD), tokens_BKD)


def _expand(index_BK: torch.Tensor, hidden_BLD: torch.Tensor) -> torch.Tensor:
    return index_BK[..., None].expand(-1, -1, hidden_BLD.shape[2])
