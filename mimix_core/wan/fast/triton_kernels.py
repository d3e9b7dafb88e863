"""Triton kernels for what a Wan block computes between its large operators, on CUDA GPUs.

Each reads its operands once and writes its results once; a program has one token, or one piece of a
flat tensor. Sums are fp32. ``elementwise`` says what the functions compute and checks nothing here.

Shapes: N tokens of all samples, D channels, S sets of values per channel, each for N / S
consecutive tokens, P pairs of channels of a head.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

_WARPS = 8
_FLAT_BLOCK = 4096


@triton.jit  # type: ignore[untyped-decorator]
def _norm_kernel(
    x_ptr, added_ptr, gate_ptr, factor_ptr, offset_ptr, sum_ptr, out_ptr,
    width, tokens_per_set, eps,
    ADD: tl.constexpr, GATE: tl.constexpr, BLOCK: tl.constexpr,
):  # type: ignore[no-untyped-def]  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    row = token * width + channel
    values = (token // tokens_per_set) * width + channel
    x = tl.load(x_ptr + row, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        added = tl.load(added_ptr + row, mask=inside, other=0.0).to(tl.float32)
        if GATE:
            added *= tl.load(gate_ptr + values, mask=inside, other=0.0)
        rounded = (x + added).to(sum_ptr.dtype.element_ty)
        tl.store(sum_ptr + row, rounded, mask=inside)
        x = rounded.to(tl.float32)
    mean = tl.sum(x, 0) / width
    centered = tl.where(inside, x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centered * centered, 0) / width + eps)
    factor = tl.load(factor_ptr + values, mask=inside, other=0.0)
    offset = tl.load(offset_ptr + values, mask=inside, other=0.0)
    out = centered * scale * factor + offset
    tl.store(out_ptr + row, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _norm_grad_kernel(
    grad_ptr, x_ptr, factor_ptr, residual_ptr, gate_ptr, out_ptr, gated_ptr,
    width, tokens_per_set, eps,
    RESIDUAL: tl.constexpr, GATE: tl.constexpr, BLOCK: tl.constexpr,
):  # type: ignore[no-untyped-def]  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    row = token * width + channel
    values = (token // tokens_per_set) * width + channel
    x = tl.load(x_ptr + row, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + row, mask=inside, other=0.0).to(tl.float32)
    grad *= tl.load(factor_ptr + values, mask=inside, other=0.0)
    mean = tl.sum(x, 0) / width
    centered = tl.where(inside, x - mean, 0.0)
    scale = tl.rsqrt(tl.sum(centered * centered, 0) / width + eps)
    normal = centered * scale
    along = tl.sum(grad * normal, 0) / width
    out = (grad - tl.sum(grad, 0) / width - normal * along) * scale
    if RESIDUAL:
        out += tl.load(residual_ptr + row, mask=inside, other=0.0).to(tl.float32)
    tl.store(out_ptr + row, out.to(out_ptr.dtype.element_ty), mask=inside)
    if GATE:
        gated = out * tl.load(gate_ptr + values, mask=inside, other=0.0)
        tl.store(gated_ptr + row, gated.to(gated_ptr.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _rotary_kernel(
    x_ptr, weight_ptr, cos_ptr, sin_ptr, out_ptr,
    width, pairs, positions, eps,
    ROTARY: tl.constexpr, BLOCK: tl.constexpr,
):  # type: ignore[no-untyped-def]  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    row = token * width + channel
    x = tl.load(x_ptr + row, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, 0) / width + eps)
    weight = tl.load(weight_ptr + channel, mask=inside, other=0.0).to(tl.float32)
    normal = (x * scale * weight).to(out_ptr.dtype.element_ty)
    if ROTARY:
        pair = tl.arange(0, BLOCK // 2)
        angle = (token % positions) * 2 * pairs + (pair % pairs) * 2
        cos = tl.load(cos_ptr + angle)
        sin = tl.load(sin_ptr + angle + 1)
        first, second = tl.split(tl.reshape(normal.to(tl.float32), (BLOCK // 2, 2)))
        turned = tl.join(first * cos - second * sin, first * sin + second * cos)
        normal = tl.reshape(turned, (BLOCK,)).to(out_ptr.dtype.element_ty)
    tl.store(out_ptr + row, normal, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _rotary_grad_kernel(
    grad_ptr, x_ptr, weight_ptr, cos_ptr, sin_ptr, out_ptr,
    width, pairs, positions, eps,
    ROTARY: tl.constexpr, BLOCK: tl.constexpr,
):  # type: ignore[no-untyped-def]  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    channel = tl.arange(0, BLOCK)
    inside = channel < width
    row = token * width + channel
    x = tl.load(x_ptr + row, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(grad_ptr + row, mask=inside, other=0.0).to(tl.float32)
    if ROTARY:
        pair = tl.arange(0, BLOCK // 2)
        angle = (token % positions) * 2 * pairs + (pair % pairs) * 2
        cos = tl.load(cos_ptr + angle)
        sin = tl.load(sin_ptr + angle + 1)
        first, second = tl.split(tl.reshape(grad, (BLOCK // 2, 2)))
        turned = tl.join(first * cos + second * sin, second * cos - first * sin)
        grad = tl.reshape(turned, (BLOCK,))
    grad *= tl.load(weight_ptr + channel, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(x * x, 0) / width + eps)
    normal = x * scale
    along = tl.sum(grad * normal, 0) / width
    out = (grad - normal * along) * scale
    tl.store(out_ptr + row, out.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _gelu_kernel(
    x_ptr, grad_ptr, out_ptr, size, GRAD: tl.constexpr, BLOCK: tl.constexpr
):  # type: ignore[no-untyped-def]
    index = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    x = tl.load(x_ptr + index, mask=inside, other=0.0).to(tl.float32)
    # (1 + tanh(u)) / 2 is the sigmoid of 2 u.
    twice = 1.5957691216057308 * (x + 0.044715 * x * x * x)
    share = tl.sigmoid(twice)
    if GRAD:
        slope = 1.5957691216057308 * (1.0 + 0.134145 * x * x)
        out = share + x * share * (1.0 - share) * slope
        out *= tl.load(grad_ptr + index, mask=inside, other=0.0).to(tl.float32)
    else:
        out = x * share
    tl.store(out_ptr + index, out.to(out_ptr.dtype.element_ty), mask=inside)


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
    _norm_kernel[(tokens,)](
        x_ND, added_ND, gate_SD, factor_SD, offset_SD, sum_ND, out_ND,
        width, tokens // factor_SD.shape[0], eps,
        ADD=added_ND is not None, GATE=gate_SD is not None,
        BLOCK=triton.next_power_of_2(width), num_warps=_WARPS,
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
    _norm_grad_kernel[(tokens,)](
        grad_ND, x_ND, factor_SD, residual_ND, gate_SD, out_ND, gated_ND,
        width, tokens // factor_SD.shape[0], eps,
        RESIDUAL=residual_ND is not None, GATE=gate_SD is not None,
        BLOCK=triton.next_power_of_2(width), num_warps=_WARPS,
    )  # fmt: skip
    return out_ND, gated_ND


def rotary(
    x_ND: torch.Tensor,
    weight_D: torch.Tensor,
    cos_NP: torch.Tensor | None,
    sin_NP: torch.Tensor | None,
    eps: float,
) -> torch.Tensor:
    tokens, width = x_ND.shape
    out_ND = torch.empty_like(x_ND)
    _rotary_kernel[(tokens,)](
        x_ND, weight_D, cos_NP, sin_NP, out_ND,
        width, 1 if cos_NP is None else cos_NP.shape[1] // 2,
        1 if cos_NP is None else cos_NP.shape[0], eps,
        ROTARY=cos_NP is not None, BLOCK=triton.next_power_of_2(width), num_warps=_WARPS,
    )  # fmt: skip
    return out_ND


def rotary_grad(
    grad_ND: torch.Tensor,
    x_ND: torch.Tensor,
    weight_D: torch.Tensor,
    cos_NP: torch.Tensor | None,
    sin_NP: torch.Tensor | None,
    eps: float,
) -> torch.Tensor:
    tokens, width = x_ND.shape
    out_ND = torch.empty_like(x_ND)
    _rotary_grad_kernel[(tokens,)](
        grad_ND, x_ND, weight_D, cos_NP, sin_NP, out_ND,
        width, 1 if cos_NP is None else cos_NP.shape[1] // 2,
        1 if cos_NP is None else cos_NP.shape[0], eps,
        ROTARY=cos_NP is not None, BLOCK=triton.next_power_of_2(width), num_warps=_WARPS,
    )  # fmt: skip
    return out_ND


def gelu(x: torch.Tensor, grad: torch.Tensor | None = None) -> torch.Tensor:
    out = torch.empty_like(x)
    size = x.numel()
    _gelu_kernel[(triton.cdiv(size, _FLAT_BLOCK),)](
        x, grad, out, size, GRAD=grad is not None, BLOCK=_FLAT_BLOCK, num_warps=_WARPS
    )
    return out
