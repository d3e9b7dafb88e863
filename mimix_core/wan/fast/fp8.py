"""Frozen layers in fp8 (e4m3): half the weight memory and about twice the throughput.

Weights have one static scale per output; activations and gradients have one dynamic scale per
token, so an outlier in one token does not affect the precision of others. The product for the
input's gradient sums over the outputs, where the weights' scales cannot be factored out: they are
multiplied into the gradient before it is quantized, and one copy of the weights serves both passes.

Products are scaled matrix products of the GPU (compute capability 8.9 or newer). On a CPU the
quantization is the same and the products are in fp32.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from mimix_core.errors import BadInput
from mimix_core.wan.fast.custom_ops import adapter_grads
from mimix_core.wan.fast.named_outputs import report_outputs

E4M3 = torch.float8_e4m3fn
_E4M3_MAX = 448.0
_CAPABILITY = (8, 9)


def check_fp8_support(device: torch.device, precision: Literal["bf16", "fp32"]) -> None:
    """Raise BadInput if the device or precision does not support fp8."""
    if device.type != "cuda":
        return
    if precision == "fp32":
        raise BadInput(
            "fp8 layers output bf16, not fp32",
            where="settings, key lora.fp8",
            fix="Set lora.fp8 to false, or lora.precision to bf16.",
        )
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        raise BadInput(
            f"{torch.cuda.get_device_name(device)} does not support fp8",
            where="settings, key lora.fp8",
            fix="Set lora.fp8 to false; it needs compute capability 8.9 (Ada, Hopper) or newer.",
        )


def quantize_rows(x_PQ: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize ``x`` to e4m3 with a scale per row, fp32 [P, 1]: x is about quantized * scale."""
    max_P1 = x_PQ.abs().amax(dim=-1, keepdim=True).float()
    scale_P1 = max_P1.clamp(min=1e-12) / _E4M3_MAX
    return (x_PQ.float() / scale_P1).clamp(-_E4M3_MAX, _E4M3_MAX).to(E4M3), scale_P1


def scaled_matmul(
    a_PQ: torch.Tensor,
    a_P1: torch.Tensor,
    b_SQ: torch.Tensor,
    b_1S: torch.Tensor,
    bias_S: torch.Tensor | None,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Compute (a scale_a) (b scale_b)' + bias in ``dtype``."""
    if a_PQ.is_cuda:
        return torch._scaled_mm(
            a_PQ, b_SQ.t(), a_P1, b_1S, bias=bias_S, out_dtype=dtype, use_fast_accum=True
        )
    product_PS = (a_PQ.float() * a_P1) @ (b_SQ.float() * b_1S.t()).t()
    return (product_PS if bias_S is None else product_PS + bias_S.float()).to(dtype)


@torch.library.custom_op("mimix::linear_fp8", mutates_args=())
def linear_fp8(
    layer_name: str,
    x_NI: torch.Tensor,
    x8_NI: torch.Tensor,
    scale_N1: torch.Tensor,
    weight_OI: torch.Tensor,
    scale_1O: torch.Tensor,
    bias_O: torch.Tensor | None,
) -> torch.Tensor:
    """Compute ``custom_ops.linear`` in fp8; ``x8`` and its scale are ``quantize_rows(x)``."""
    out_NO = scaled_matmul(x8_NI, scale_N1, weight_OI, scale_1O, bias_O, x_NI.dtype)
    report_outputs(layer_name, out_NO)
    return out_NO


@linear_fp8.register_fake
def _(
    layer_name: str,
    x_NI: torch.Tensor,
    x8_NI: torch.Tensor,
    scale_N1: torch.Tensor,
    weight_OI: torch.Tensor,
    scale_1O: torch.Tensor,
    bias_O: torch.Tensor | None,
) -> torch.Tensor:
    return x_NI.new_empty(x_NI.shape[0], weight_OI.shape[0])


@torch.library.custom_op("mimix::adapted_linear_fp8", mutates_args=())
def adapted_linear_fp8(
    layer_name: str,
    x_NI: torch.Tensor,
    x8_NI: torch.Tensor,
    scale_N1: torch.Tensor,
    weight_OI: torch.Tensor,
    scale_1O: torch.Tensor,
    bias_O: torch.Tensor | None,
    down_NR: torch.Tensor,
    a_RI: torch.Tensor,
    b_OR: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Compute ``custom_ops.adapted_linear`` with the frozen product in fp8."""
    out_NO = scaled_matmul(x8_NI, scale_N1, weight_OI, scale_1O, bias_O, x_NI.dtype)
    out_NO.addmm_(down_NR, (b_OR * scale).to(x_NI.dtype).t())
    report_outputs(layer_name, out_NO)
    return out_NO


@adapted_linear_fp8.register_fake
def _(
    layer_name: str,
    x_NI: torch.Tensor,
    x8_NI: torch.Tensor,
    scale_N1: torch.Tensor,
    weight_OI: torch.Tensor,
    scale_1O: torch.Tensor,
    bias_O: torch.Tensor | None,
    down_NR: torch.Tensor,
    a_RI: torch.Tensor,
    b_OR: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    return x_NI.new_empty(x_NI.shape[0], weight_OI.shape[0])


@torch.library.custom_op("mimix::grad_input_fp8", mutates_args=())
def grad_input_fp8(
    grad8_NO: torch.Tensor, scale_N1: torch.Tensor, weight_OI: torch.Tensor, bf16: bool
) -> torch.Tensor:
    """Multiply the gradient, which includes the weights' scales, with the weights."""
    weight_IO = weight_OI.t().contiguous()
    ones_1I = scale_N1.new_ones(1, weight_IO.shape[0])
    dtype = torch.bfloat16 if bf16 else torch.float32
    return scaled_matmul(grad8_NO, scale_N1, weight_IO, ones_1I, None, dtype)


@grad_input_fp8.register_fake
def _(
    grad8_NO: torch.Tensor, scale_N1: torch.Tensor, weight_OI: torch.Tensor, bf16: bool
) -> torch.Tensor:
    dtype = torch.bfloat16 if bf16 else torch.float32
    return grad8_NO.new_empty(grad8_NO.shape[0], weight_OI.shape[1], dtype=dtype)


@torch.library.custom_op("mimix::adapter_grads", mutates_args=())
def _adapter_grads(
    frozen_NI: torch.Tensor,
    grad_NO: torch.Tensor,
    x_NI: torch.Tensor,
    down_NR: torch.Tensor,
    a_RI: torch.Tensor,
    b_OR: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    grad_NI, grad_RI, grad_OR = adapter_grads(grad_NO, x_NI, down_NR, a_RI, b_OR, scale)
    return grad_NI.add_(frozen_NI), grad_RI, grad_OR


@_adapter_grads.register_fake
def _(
    frozen_NI: torch.Tensor,
    grad_NO: torch.Tensor,
    x_NI: torch.Tensor,
    down_NR: torch.Tensor,
    a_RI: torch.Tensor,
    b_OR: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(x_NI), torch.empty_like(a_RI), torch.empty_like(b_OR)


def _frozen_grad(
    grad_NO: torch.Tensor, weight_OI: torch.Tensor, scale_1O: torch.Tensor
) -> torch.Tensor:
    grad8_NO, scale_N1 = quantize_rows(grad_NO.float() * scale_1O)
    grad_NI: torch.Tensor = grad_input_fp8(
        grad8_NO, scale_N1, weight_OI, grad_NO.dtype == torch.bfloat16
    )
    return grad_NI


def _linear_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(inputs[4], inputs[5])


def _linear_backward(ctx: Any, grad_NO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    weight_OI, scale_1O = ctx.saved_tensors
    return (None, _frozen_grad(grad_NO, weight_OI, scale_1O), *[None] * 5)


linear_fp8.register_autograd(_linear_backward, setup_context=_linear_context)


def _adapted_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, x_NI, _, _, weight_OI, scale_1O, _, down_NR, a_RI, b_OR, ctx.scale = inputs
    ctx.save_for_backward(x_NI, weight_OI, scale_1O, down_NR, a_RI, b_OR)


def _adapted_backward(ctx: Any, grad_NO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    x_NI, weight_OI, scale_1O, down_NR, a_RI, b_OR = ctx.saved_tensors
    frozen_NI = _frozen_grad(grad_NO, weight_OI, scale_1O)
    grad_NI, grad_RI, grad_OR = _adapter_grads(
        frozen_NI, grad_NO.contiguous(), x_NI, down_NR, a_RI, b_OR, ctx.scale
    )
    return None, grad_NI, *[None] * 6, grad_RI, grad_OR, None


adapted_linear_fp8.register_autograd(_adapted_backward, setup_context=_adapted_context)
