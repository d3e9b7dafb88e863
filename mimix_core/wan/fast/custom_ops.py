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


@torch.library.custom_op("mimix::linear", mutates_args=())
def linear(
    layer_name: str, x_NI: torch.Tensor, weight_OI: torch.Tensor, bias_O: torch.Tensor | None
) -> torch.Tensor:
    """Compute a frozen layer without an adapter: out_NO = x W' + bias."""
    return torch.nn.functional.linear(x_NI, weight_OI, bias_O)


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
    out_NO = _up(x_NI, bias_O, down_NR, b_OR, scale)
    return out_NO.addmm_(x_NI, weight_OI.t())


def _up(
    x_NI: torch.Tensor,
    bias_O: torch.Tensor | None,
    down_NR: torch.Tensor,
    b_OR: torch.Tensor,
    scale: float,
) -> torch.Tensor:
    """Compute bias + scale (x A') B', to which the large product is then accumulated."""
    up_RO = (b_OR * scale).to(x_NI.dtype).t()
    return torch.mm(down_NR, up_RO) if bias_O is None else torch.addmm(bias_O, down_NR, up_RO)


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
    grad_NR = torch.mm(grad_NO, (b_OR * scale).to(grad_NO.dtype))
    grad_NI = torch.mm(grad_NR, a_RI.to(grad_NO.dtype))
    return grad_NI, _sum32(grad_NR, x_NI), _sum32(grad_NO, down_NR) * scale


def _sum32(left_NP: torch.Tensor, right_NQ: torch.Tensor) -> torch.Tensor:
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


@torch.library.custom_op("mimix::adapted_qkv", mutates_args=())
def adapted_qkv(
    layer_name: str,
    x_NI: torch.Tensor,
    weights_OI: list[torch.Tensor],
    biases_O: list[torch.Tensor],
    downs_NR: torch.Tensor,
    a_RI: list[torch.Tensor],
    b_OR: list[torch.Tensor],
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute three layers of one input as ``adapted_linear`` does: queries, keys and values.

    ``downs_NR`` has the three x A' side by side. Together, because their gradients of x are
    accumulated without a pass over memory, and the adapters read x once.
    """
    q, k, v = (
        _up(x_NI, bias_O, down_NR, b, scale).addmm_(x_NI, weight_OI.t())
        for weight_OI, bias_O, down_NR, b in zip(
            weights_OI, biases_O, downs_NR.chunk(3, 1), b_OR, strict=True
        )
    )
    return q, k, v


@adapted_qkv.register_fake
def _(
    layer_name: str,
    x_NI: torch.Tensor,
    weights_OI: list[torch.Tensor],
    biases_O: list[torch.Tensor],
    downs_NR: torch.Tensor,
    a_RI: list[torch.Tensor],
    b_OR: list[torch.Tensor],
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    q, k, v = (x_NI.new_empty(x_NI.shape[0], weight_OI.shape[0]) for weight_OI in weights_OI)
    return q, k, v


@torch.library.custom_op("mimix::adapted_qkv_grad", mutates_args=())
def adapted_qkv_grad(
    grads_NO: list[torch.Tensor],
    x_NI: torch.Tensor,
    weights_OI: list[torch.Tensor],
    downs_NR: torch.Tensor,
    a_RI: list[torch.Tensor],
    b_OR: list[torch.Tensor],
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradient of x, and those of all A and of all B, fp32, one below the other."""
    grads_NR = torch.empty_like(downs_NR)
    for grad_NO, b, grad_NR in zip(grads_NO, b_OR, grads_NR.chunk(3, 1), strict=True):
        torch.mm(grad_NO, (b * scale).to(grad_NO.dtype), out=grad_NR)
    grad_NI = torch.mm(grads_NR, torch.cat(a_RI).to(x_NI.dtype))
    for grad_NO, weight_OI in zip(grads_NO, weights_OI, strict=True):
        grad_NI.addmm_(grad_NO, weight_OI)
    downs = downs_NR.chunk(3, 1)
    grads_OR = torch.cat([_sum32(g, down) for g, down in zip(grads_NO, downs, strict=True)])
    return grad_NI, _sum32(grads_NR, x_NI), grads_OR * scale


@adapted_qkv_grad.register_fake
def _(
    grads_NO: list[torch.Tensor],
    x_NI: torch.Tensor,
    weights_OI: list[torch.Tensor],
    downs_NR: torch.Tensor,
    a_RI: list[torch.Tensor],
    b_OR: list[torch.Tensor],
    scale: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.empty_like(x_NI),
        a_RI[0].new_empty(sum(a.shape[0] for a in a_RI), x_NI.shape[1]),
        b_OR[0].new_empty(sum(b.shape[0] for b in b_OR), b_OR[0].shape[1]),
    )


def _qkv_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, x_NI, weights_OI, _, downs_NR, a_RI, b_OR, ctx.scale = inputs
    ctx.save_for_backward(x_NI, downs_NR, *weights_OI, *a_RI, *b_OR)


def _qkv_backward(ctx: Any, *grads_NO: torch.Tensor) -> tuple[Any, ...]:
    x_NI, downs_NR, *rest = ctx.saved_tensors
    weights_OI, a_RI, b_OR = rest[:3], rest[3:6], rest[6:]
    grad_NI, grad_RI, grad_OR = adapted_qkv_grad(
        [grad.contiguous() for grad in grads_NO], x_NI, weights_OI, downs_NR, a_RI, b_OR, ctx.scale
    )
    none = [None] * 3
    return None, grad_NI, none, none, None, list(grad_RI.chunk(3)), list(grad_OR.chunk(3)), None


adapted_qkv.register_autograd(_qkv_backward, setup_context=_qkv_context)


@torch.library.custom_op("mimix::adapter_down", mutates_args=())
def adapter_down(x_NI: torch.Tensor, a_RI: torch.Tensor) -> torch.Tensor:
    """Compute x A' of detached tensors; ``adapted_linear`` computes its gradient."""
    return torch.mm(x_NI, a_RI.to(x_NI.dtype).t())


@adapter_down.register_fake
def _(x_NI: torch.Tensor, a_RI: torch.Tensor) -> torch.Tensor:
    return x_NI.new_empty(x_NI.shape[0], a_RI.shape[0])
