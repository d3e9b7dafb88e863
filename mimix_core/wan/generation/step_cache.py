"""Reuse most of a forward pass in the next steps while the first block's change hardly differs.

Between two steps of denoising a transformer's blocks add almost the same. The first block says how
much so: while its own change of the tokens differs from that of the last complete pass by less than
a threshold, the change of all other blocks is that of the last complete pass (the first-block cache
of ParaAttention, after TeaCache, arXiv 2411.19108).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


class _Pass:
    """The last complete pass of one kind: what the first block added, and what the others did."""

    def __init__(self, first_BLD: torch.Tensor, others_BLD: torch.Tensor) -> None:
        self.first_BLD = first_BLD
        self.others_BLD = others_BLD


class StepCache(nn.Module):
    """The blocks of a WanTransformer3DModel as one block, which reuses what they computed.

    ``passes``: forward passes in each step, always in the same order; each has its own cache.
    ``computed`` and ``reused`` count passes.
    """

    def __init__(self, blocks: nn.ModuleList, threshold: float, passes: int) -> None:
        super().__init__()
        self.blocks = blocks
        self.threshold = threshold
        self.passes = passes
        self.computed = 0
        self.reused = 0
        self._calls = 0
        self._last: dict[int, _Pass] = {}

    def reset(self) -> None:
        """Forget everything computed, after a video."""
        self._calls = 0
        self._last.clear()

    def forward(self, hidden_BLD: torch.Tensor, *conditions: Any) -> torch.Tensor:
        """Compute all blocks, or the first one and the reused change of the others."""
        first, *others = self.blocks
        number = self._calls % self.passes
        self._calls += 1
        out_BLD: torch.Tensor = first(hidden_BLD, *conditions)
        change_BLD = out_BLD - hidden_BLD
        last = self._last.get(number)
        if last is not None and _relative_change(change_BLD, last.first_BLD) < self.threshold:
            self.reused += 1
            return out_BLD + last.others_BLD
        self.computed += 1
        after_first_BLD = out_BLD
        for block in others:
            out_BLD = block(out_BLD, *conditions)
        self._last[number] = _Pass(change_BLD, out_BLD - after_first_BLD)
        return out_BLD


def _relative_change(now: torch.Tensor, before: torch.Tensor) -> float:
    """Return the mean absolute difference, relative to the mean absolute value of before."""
    difference = (now - before).abs().mean(dtype=torch.float32)
    return float(difference / before.abs().mean(dtype=torch.float32))


def cache_steps(transformer: Any, threshold: float, passes: int) -> StepCache:
    """Put a step cache in the place of ``transformer``'s blocks; return it."""
    cache = StepCache(transformer.blocks, threshold, passes)
    transformer.blocks = nn.ModuleList([cache])
    return cache
