"""Selective activation checkpointing: save planned activations of a block, recompute the others."""

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
from mimix_core.wan.fast.attention_inputs import attention_inputs

_NAMED_OPERATORS = frozenset(
    operator._opoverload
    for operator in (
        custom_ops.linear,
        custom_ops.adapted_linear,
        attention_inputs,
        fp8.linear_fp8,
        fp8.adapted_linear_fp8,
        attention.attention,
    )
)
_ALWAYS_SAVED = custom_ops.adapter_down._opoverload


def _policy(
    saved: frozenset[str], context: Any, operator: Any, *args: Any, **kwargs: Any
) -> CheckpointPolicy:
    if operator is _ALWAYS_SAVED or (operator in _NAMED_OPERATORS and args[0] in saved):
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


def _contexts(saved: frozenset[str]) -> Any:
    return create_selective_checkpoint_contexts(  # type: ignore[no-untyped-call]
        partial(_policy, saved)
    )


def checkpointed_block(saved: frozenset[str], compiled: bool) -> Callable[..., torch.Tensor]:
    """Return a function (block, hidden_BLD, text_BMD, modulation, rotary) that runs one block.

    Blocks with the same saved activations share one function, so they share one compiled graph.
    """
    contexts = partial(_contexts, saved)

    def run(block: Any, *inputs: Any) -> torch.Tensor:
        hidden_BLD: torch.Tensor = checkpoint(
            block,
            *inputs,
            use_reentrant=False,
            context_fn=contexts,
            # Wan has no dropout, so recomputation needs no random numbers.
            preserve_rng_state=False,
        )
        return hidden_BLD

    return torch.compile(run, dynamic=False) if compiled else run
