"""The expensive operations of a Wan block, each as one operator that takes its layer's name.

By the name a policy decides what is saved for the backward pass (``activation_checkpoint``), in
eager mode and in compiled graphs alike. A custom operator can also use cuBLAS's accumulation, so an
adapter needs no extra pass over a layer's output.

Shapes: N tokens of all samples, I inputs, O outputs, R the adapter's rank; B, L, H, D batch,
length, heads and width of a head.
"""

from __future__ import annotations

from typing import Any

import torch

from mimix_core.wan.fast.named_outputs import report_outputs


@torch.library.custom_op("mimix::linear", mutates_args=())
def linear(
    layer_name: str, x_NI: torch.Tensor, weight_OI: torch.Tensor, bias_O: torch.Tensor | None
) -> torch.Tensor:
    """Compute a frozen layer without an adapter: out_NO = x W' + bias."""
    out_NO = torch.nn.functional.linear(x_NI, weight_OI, bias_O)
    report_outputs(layer_name, out_NO)
    return out_NO


@linear.register_fake
def _(
    layer_name: str, x_NI: torch.Tensor, weight_OI: torch.Tensor, bias_O: torch.Tensor | None
) -> torch.Tensor:
    return x_NI.new_empty(x_NI.shape[0], weight_OI.shape[0])


def _linear_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(inputs[2])


def _linear_backward(ctx: Any, grad_NO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    (weight_OI,) = ctx.saved_tensors
    return None, torch.mm(grad_NO, weight_OI), None, None


linear.register_autograd(_linear_backward, setup_context=_linear_context)


@torch.library.custom_op("mimix::adapted_linear", mutates_args=())
def adapted_linear(
    layer_name: str,
    x_NI: torch.Tensor,
    weight_OI: torch.Tensor,
    bias_O: torch.Tensor | None,
    down_NR: torch.Tensor,
    a_RI: torch.Tensor,
    b_OR: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Compute a frozen layer with its adapter: out_NO = x W' + bias + scale (x A') B'.

    ``down_NR`` is x A', an input because it is saved separately; this operator's gradients go to x,
    A and B. A and B are fp32 parameters, cast to x's dtype.
    """
    out_NO = adapter_up(bias_O, down_NR, b_OR, scale)
    out_NO.addmm_(x_NI, weight_OI.t())
    report_outputs(layer_name, out_NO)
    return out_NO


def adapter_up(
    bias_O: torch.Tensor | None, down_NR: torch.Tensor, b_OR: torch.Tensor, scale: float
) -> torch.Tensor:
    """Compute bias + scale (x A') B', to which the large product is then accumulated."""
    if down_NR.is_cuda and down_NR.dtype == torch.bfloat16 and b_OR.shape[1] in (16, 32, 64):
        from mimix_core.wan.fast import triton_launch

        return triton_launch.adapter_up(bias_O, down_NR, b_OR, scale)
    up_RO = scaled(b_OR, scale, down_NR.dtype).t()
    return torch.mm(down_NR, up_RO) if bias_O is None else torch.addmm(bias_O, down_NR, up_RO)


def scaled(weight: torch.Tensor, scale: float, dtype: torch.dtype) -> torch.Tensor:
    """Cast an adapter's weight, times ``scale``; one pass if that is 1, as it is by default."""
    return weight.to(dtype) if scale == 1 else (weight * scale).to(dtype)


@adapted_linear.register_fake
def _(
    layer_name: str,
    x_NI: torch.Tensor,
    weight_OI: torch.Tensor,
    bias_O: torch.Tensor | None,
    down_NR: torch.Tensor,
    a_RI: torch.Tensor,
    b_OR: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    return x_NI.new_empty(x_NI.shape[0], weight_OI.shape[0])


@torch.library.custom_op("mimix::adapted_linear_grad", mutates_args=())
def adapted_linear_grad(
    grad_NO: torch.Tensor,
    x_NI: torch.Tensor,
    weight_OI: torch.Tensor,
    down_NR: torch.Tensor,
    a_RI: torch.Tensor,
    b_OR: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradients of x (in x's dtype), A and B (fp32)."""
    grad_NI, grad_RI, grad_OR = adapter_grads(grad_NO, x_NI, down_NR, a_RI, b_OR, scale)
    return grad_NI.addmm_(grad_NO, weight_OI), grad_RI, grad_OR


def adapter_grads(
    grad_NO: torch.Tensor,
    x_NI: torch.Tensor,
    down_NR: torch.Tensor,
    a_RI: torch.Tensor,
    b_OR: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the adapter's part of x's gradient, and the gradients of A and B in fp32."""
    grad_NR = torch.mm(grad_NO, scaled(b_OR, scale, grad_NO.dtype))
    grad_NI = torch.mm(grad_NR, a_RI.to(grad_NO.dtype))
    return grad_NI, sum_fp32(grad_NR, x_NI), sum_fp32(grad_NO, down_NR) * scale


def sum_fp32(left_NP: torch.Tensor, right_NQ: torch.Tensor) -> torch.Tensor:
    """Compute left' right over the tokens in fp32, without rounding to bf16 where possible."""
    if left_NP.is_cuda and left_NP.dtype != torch.float32:
        return torch.mm(left_NP.t(), right_NQ, out_dtype=torch.float32)
    return torch.mm(left_NP.t(), right_NQ).float()


@adapted_linear_grad.register_fake
def _(
    grad_NO: torch.Tensor,
    x_NI: torch.Tensor,
    weight_OI: torch.Tensor,
    down_NR: torch.Tensor,
    a_RI: torch.Tensor,
    b_OR: torch.Tensor,
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return torch.empty_like(x_NI), torch.empty_like(a_RI), torch.empty_like(b_OR)


def _adapted_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, x_NI, weight_OI, _, down_NR, a_RI, b_OR, ctx.scale = inputs
    ctx.save_for_backward(x_NI, weight_OI, down_NR, a_RI, b_OR)


def _adapted_backward(ctx: Any, grad_NO: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    grads = adapted_linear_grad(grad_NO.contiguous(), *ctx.saved_tensors, ctx.scale)
    return None, grads[0], None, None, None, grads[1], grads[2], None


adapted_linear.register_autograd(_adapted_backward, setup_context=_adapted_context)


@torch.library.custom_op("mimix::adapter_down", mutates_args=())
def adapter_down(x_NI: torch.Tensor, a_RI: torch.Tensor) -> torch.Tensor:
    """Compute x A' of detached tensors; ``adapted_linear`` computes its gradient."""
    return torch.mm(x_NI, a_RI.to(x_NI.dtype).t())


@adapter_down.register_fake
def _(x_NI: torch.Tensor, a_RI: torch.Tensor) -> torch.Tensor:
    return x_NI.new_empty(x_NI.shape[0], a_RI.shape[0])
