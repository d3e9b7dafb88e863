"""Store a frozen layer's weights in 8 or 4 bits, and expand them again before they are used.

Nothing is computed in these formats: a block's weights are expanded to the precision of the
training before the block runs, so activations, gradients and adapters are as without them.
docs/decisions/0034-small-cards.md has the reasons.
"""

from __future__ import annotations

from typing import Literal

import torch

FrozenWeights = Literal["full", "int8", "nf4"]

_INT8_MAX = 127.0
NF4_GROUP = 64
"""Values that share a scale."""


def stored_bytes(storage: FrozenWeights, element_bytes: int) -> float:
    """Return the bytes that a stored weight takes; unstored it has ``element_bytes``.

    The scales of int8's rows are not counted: a row has thousands of weights.
    """
    return {"full": float(element_bytes), "int8": 1.0, "nf4": 0.5 + 4 / NF4_GROUP}[storage]


@torch.no_grad()
def pack_weight(weight_OI: torch.Tensor, storage: FrozenWeights) -> tuple[torch.Tensor, ...]:
    """Return the tensors that store a weight, on its device.

    int8: rounded to 127 steps of either sign, with a scale for each output, fp32 [O, 1]. nf4: two
    values in a byte, with a scale for 64 values (QLoRA, arXiv 2305.14314, by bitsandbytes).
    """
    if storage == "full":
        return (weight_OI,)
    if storage == "int8":
        scale_O1 = weight_OI.abs().amax(dim=1, keepdim=True).float().clamp(min=1e-12) / _INT8_MAX
        return (weight_OI.float() / scale_O1).round().to(torch.int8), scale_O1
    from bitsandbytes.functional import quantize_4bit

    packed, state = quantize_4bit(weight_OI, blocksize=NF4_GROUP, quant_type="nf4")
    return packed, state.absmax


@torch.no_grad()
def expand_weight(
    stored: tuple[torch.Tensor, ...], storage: FrozenWeights, weight_OI: torch.Tensor
) -> None:
    """Write a stored weight into ``weight_OI``."""
    if storage == "full":
        weight_OI.copy_(stored[0])
    elif storage == "int8":
        # One kernel: read as fp32, multiplied, and rounded to the weights' dtype.
        torch.mul(stored[0], stored[1], out=weight_OI)
    else:
        packed, absmax = stored
        weight_OI.copy_(_expand_nf4(packed, absmax, weight_OI))


def _expand_nf4(packed: torch.Tensor, absmax: torch.Tensor, like_OI: torch.Tensor) -> torch.Tensor:
    from bitsandbytes.functional import QuantState, dequantize_4bit

    state = QuantState(
        absmax=absmax,
        shape=like_OI.shape,
        dtype=like_OI.dtype,
        blocksize=NF4_GROUP,
        quant_type="nf4",
    )
    expanded: torch.Tensor = dequantize_4bit(packed, state)
    return expanded
