"""Blocks that keep what the plan says and compute the rest again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import (
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)

from mimix_core.wan.fast import attention, custom_ops, fp8

_NAMED = frozenset(
    operator._opoverload
    for operator in (
        custom_ops.linear,
        custom_ops.adapted_linear,
        fp8.linear_fp8,
        fp8.adapted_linear_fp8,
        attention.attention,
    )
)
_ALWAYS = custom_ops.adapter_down._opoverload


def _policy(
    kept: frozenset[str], context: Any, operator: Any, *args: Any, **kwargs: Any
) -> CheckpointPolicy:
    if operator is _ALWAYS or (operator in _NAMED and args[0] in kept):
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


def _contexts(kept: frozenset[str]) -> Any:
    return create_selective_checkpoint_contexts(  # type: ignore[no-untyped-call]
        partial(_policy, kept)
    )


def runner(kept: frozenset[str], compiled: bool) -> Callable[..., torch.Tensor]:
    """A function (block, hidden_BLD, text_BMD, modulation, rotary) that runs one block so.

    One function serves all blocks that keep the same: compiled, they are one graph.
    """
    contexts = partial(_contexts, kept)

    def run(block: Any, *inputs: Any) -> torch.Tensor:
        found: torch.Tensor = checkpoint(
            block,
            *inputs,
            use_reentrant=False,
            context_fn=contexts,
            # Wan has no dropout; what is computed again draws nothing.
            preserve_rng_state=False,
        )
        return found

    return torch.compile(run, dynamic=False) if compiled else run
