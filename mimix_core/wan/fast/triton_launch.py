"""Launch ``triton_kernels``: what ``elementwise`` and ``custom_ops`` compute, on a CUDA GPU.

Tensors are contiguous, except for the adapters' inner products. Shapes as in ``elementwise``.
"""

from __future__ import annotations

import torch
import triton

from mimix_core.wan.fast.triton_kernels import (
    adapter_up_kernel,
    gelu_kernel,
    heads_grad_kernel,
    heads_kernel,
    norm_grad_kernel,
    norm_kernel,
)

# The fastest of those tried on an H200, for rows of 5,120 channels.
_WARPS = 4
_CHUNK = 1024
_UP_ROWS, _UP_COLUMNS, _UP_STEPS = 64, 128, 8


def _power_of_two(size: int, limit: int) -> int:
    """Return the largest power of two that divides ``size``, up to ``limit``."""
    return min(limit, size & -size)


def norm(
    x_ND: torch.Tensor,
    added_ND: torch.Tensor | None,
    gate_SD: torch.Tensor | None,
    factor_SD: torch.Tensor,
    offset_SD: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor | None, torch.Tensor]:
    tokens, width = x_ND.shape
    sum_ND = None if added_ND is None else torch.empty_like(x_ND)
    out_ND = torch.empty_like(x_ND)
    norm_kernel[(tokens,)](
        x_ND, added_ND, gate_SD, factor_SD, offset_SD, sum_ND, out_ND,
        tokens // factor_SD.shape[0], eps,
        ADD=added_ND is not None, GATE=gate_SD is not None,
        WIDTH=width, CHUNK=_power_of_two(width, _CHUNK), num_warps=_WARPS,
    )  # fmt: skip
    return sum_ND, out_ND


def norm_grad(
    grad_ND: torch.Tensor,
    x_ND: torch.Tensor,
    factor_SD: torch.Tensor,
    residual_ND: torch.Tensor | None,
    gate_SD: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    tokens, width = x_ND.shape
    out_ND = torch.empty_like(x_ND)
    gated_ND = None if gate_SD is None else torch.empty_like(x_ND)
    norm_grad_kernel[(tokens,)](
        grad_ND, x_ND, factor_SD, residual_ND, gate_SD, out_ND, gated_ND,
        tokens // factor_SD.shape[0], eps,
        RESIDUAL=residual_ND is not None, GATE=gate_SD is not None,
        WIDTH=width, CHUNK=_power_of_two(width, _CHUNK), num_warps=_WARPS,
    )  # fmt: skip
    return out_ND, gated_ND


def normalize_heads(
    x_ND: torch.Tensor,
    weight_D: torch.Tensor,
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    tokens, width = x_ND.shape
    positions, head = (1, 2) if cos_NH is None else cos_NH.shape
    out_ND, root_N = torch.empty_like(x_ND), x_ND.new_empty(tokens, dtype=torch.float32)
    heads_kernel[(tokens,)](
        x_ND, weight_D, cos_NH, sin_NH, out_ND, root_N, positions, eps,
        ROTARY=cos_NH is not None, HEAD=head,
        WIDTH=width, CHUNK=_power_of_two(width, _CHUNK), num_warps=_WARPS,
    )  # fmt: skip
    return out_ND, root_N


def normalize_heads_grad(
    grad_ND: torch.Tensor,
    normal_ND: torch.Tensor,
    root_N: torch.Tensor,
    weight_D: torch.Tensor,
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
) -> torch.Tensor:
    tokens, width = normal_ND.shape
    positions, head = (1, 2) if cos_NH is None else cos_NH.shape
    out_ND = torch.empty_like(normal_ND)
    heads_grad_kernel[(tokens,)](
        grad_ND, normal_ND, root_N, weight_D, cos_NH, sin_NH, out_ND, positions,
        ROTARY=cos_NH is not None, HEAD=head,
        WIDTH=width, CHUNK=_power_of_two(width, _CHUNK), num_warps=_WARPS,
    )  # fmt: skip
    return out_ND


def gelu(x: torch.Tensor, grad: torch.Tensor | None = None) -> torch.Tensor:
    out = torch.empty_like(x)
    block = _power_of_two(x.numel(), _CHUNK)
    gelu_kernel[(x.numel() // block,)](
        x, grad, out, GRAD=grad is not None, BLOCK=block, num_warps=_WARPS
    )
    return out


def adapter_up(
    bias_O: torch.Tensor | None, down_NR: torch.Tensor, b_OR: torch.Tensor, scale: float
) -> torch.Tensor:
    (tokens, rank), outputs = down_NR.shape, b_OR.shape[0]
    out_NO = down_NR.new_empty(tokens, outputs)
    grid = (triton.cdiv(outputs, _UP_COLUMNS), triton.cdiv(tokens, _UP_ROWS * _UP_STEPS))
    adapter_up_kernel[grid](
        bias_O, down_NR, b_OR, out_NO, tokens, outputs, down_NR.stride(0), scale,
        BIAS=bias_O is not None, RANK=rank, ROWS=_UP_ROWS, COLUMNS=_UP_COLUMNS, STEPS=_UP_STEPS,
        num_warps=_WARPS,
    )  # fmt: skip
    return out_NO
