"""The layers of one input that attention takes queries, keys and values from, as one operator.

Together they read and write less: the gradients of their input are accumulated by the products
themselves, the adapters read the input once, and normalized queries and keys are all that the
backward pass needs of theirs.

Shapes: as in ``custom_ops``; N tokens of all samples, I inputs, O outputs, R the adapters' rank, H
channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch

from mimix_core.wan.fast.custom_ops import adapter_up, scaled, sum_fp32
from mimix_core.wan.fast.elementwise import normalize_heads, normalize_heads_grad
from mimix_core.wan.fast.named_outputs import report_outputs


@torch.library.custom_op("mimix::attention_inputs", mutates_args=())
def attention_inputs(
    layer_name: str,
    x_NI: torch.Tensor,
    weights_OI: list[torch.Tensor],
    biases_O: list[torch.Tensor],
    downs_NR: torch.Tensor,
    a_RI: list[torch.Tensor],
    b_OR: list[torch.Tensor],
    scale: float,
    norms_O: list[torch.Tensor],
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
    eps: float,
) -> list[torch.Tensor]:
    """Compute layers with adapters; the first ones, of which there are norms, are normalized.

    ``downs_NR`` has x A' of all layers side by side. Returns the layers' outputs, [N, O], and of
    each norm one over the root mean square of what was normalized, [N], fp32.
    """
    outs_NO = [
        adapter_up(bias_O, down_NR, b, scale).addmm_(x_NI, weight_OI.t())
        for weight_OI, bias_O, down_NR, b in zip(
            weights_OI, biases_O, downs_NR.chunk(len(b_OR), 1), b_OR, strict=True
        )
    ]
    normal = [
        normalize_heads(out_NO, norm_O, cos_NH, sin_NH, eps)
        for out_NO, norm_O in zip(outs_NO, norms_O, strict=False)
    ]
    found = [out for out, _ in normal] + outs_NO[len(normal) :] + [root for _, root in normal]
    report_outputs(layer_name, *found)
    return found


@attention_inputs.register_fake
def _(
    layer_name: str,
    x_NI: torch.Tensor,
    weights_OI: list[torch.Tensor],
    biases_O: list[torch.Tensor],
    downs_NR: torch.Tensor,
    a_RI: list[torch.Tensor],
    b_OR: list[torch.Tensor],
    scale: float,
    norms_O: list[torch.Tensor],
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
    eps: float,
) -> list[torch.Tensor]:
    tokens = x_NI.shape[0]
    outs_NO = [x_NI.new_empty(tokens, weight_OI.shape[0]) for weight_OI in weights_OI]
    return outs_NO + [x_NI.new_empty(tokens, dtype=torch.float32) for _ in norms_O]


@torch.library.custom_op("mimix::attention_inputs_grad", mutates_args=())
def attention_inputs_grad(
    grads_NO: list[torch.Tensor],
    normal_NO: list[torch.Tensor],
    roots_N: list[torch.Tensor],
    x_NI: torch.Tensor,
    weights_OI: list[torch.Tensor],
    downs_NR: torch.Tensor,
    a_RI: list[torch.Tensor],
    b_OR: list[torch.Tensor],
    scale: float,
    norms_O: list[torch.Tensor],
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
    input_grad: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradient of x (empty if not asked for), and of all A and all B, stacked, fp32."""
    grads_NO = [
        normalize_heads_grad(grad_NO, out_NO, root_N, norm_O, cos_NH, sin_NH)
        for grad_NO, out_NO, root_N, norm_O in zip(
            grads_NO, normal_NO, roots_N, norms_O, strict=False
        )
    ] + grads_NO[len(norms_O) :]
    grads_NR = torch.empty_like(downs_NR)
    for grad_NO, b, grad_NR in zip(grads_NO, b_OR, grads_NR.chunk(len(b_OR), 1), strict=True):
        torch.mm(grad_NO, scaled(b, scale, grad_NO.dtype), out=grad_NR)
    grad_NI = x_NI.new_empty(0)
    if input_grad:
        grad_NI = torch.mm(grads_NR, torch.cat(a_RI).to(x_NI.dtype))
        for grad_NO, weight_OI in zip(grads_NO, weights_OI, strict=True):
            grad_NI.addmm_(grad_NO, weight_OI)
    downs = downs_NR.chunk(len(b_OR), 1)
    grads_OR = torch.cat([sum_fp32(g, down) for g, down in zip(grads_NO, downs, strict=True)])
    return grad_NI, sum_fp32(grads_NR, x_NI), grads_OR * scale


@attention_inputs_grad.register_fake
def _(
    grads_NO: list[torch.Tensor],
    normal_NO: list[torch.Tensor],
    roots_N: list[torch.Tensor],
    x_NI: torch.Tensor,
    weights_OI: list[torch.Tensor],
    downs_NR: torch.Tensor,
    a_RI: list[torch.Tensor],
    b_OR: list[torch.Tensor],
    scale: float,
    norms_O: list[torch.Tensor],
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
    input_grad: bool,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        torch.empty_like(x_NI) if input_grad else x_NI.new_empty(0),
        a_RI[0].new_empty(sum(a.shape[0] for a in a_RI), x_NI.shape[1]),
        b_OR[0].new_empty(sum(b.shape[0] for b in b_OR), b_OR[0].shape[1]),
    )


def _context(ctx: Any, inputs: tuple[Any, ...], output: list[torch.Tensor]) -> None:
    _, x_NI, weights_OI, _, downs_NR, a_RI, b_OR, ctx.scale, norms_O, cos_NH, sin_NH, _ = inputs
    ctx.layers, ctx.norms = len(weights_OI), len(norms_O)
    ctx.save_for_backward(
        x_NI, downs_NR, cos_NH, sin_NH, *weights_OI, *a_RI, *b_OR, *norms_O,
        *output[: ctx.norms], *output[ctx.layers :],
    )  # fmt: skip


def _backward(ctx: Any, grads: list[torch.Tensor]) -> tuple[Any, ...]:
    x_NI, downs_NR, cos_NH, sin_NH, *rest = ctx.saved_tensors
    parts = []
    for count in (*[ctx.layers] * 3, *[ctx.norms] * 3):
        parts.append(rest[:count])
        rest = rest[count:]
    weights_OI, a_RI, b_OR, norms_O, normal_NO, roots_N = parts
    input_grad = ctx.needs_input_grad[1]
    grad_NI, grad_RI, grad_OR = attention_inputs_grad(
        [grad.contiguous() for grad in grads[: ctx.layers]], normal_NO, roots_N, x_NI, weights_OI,
        downs_NR, a_RI, b_OR, ctx.scale, norms_O, cos_NH, sin_NH, input_grad,
    )  # fmt: skip
    none, no_norms = [None] * ctx.layers, [None] * ctx.norms
    grads_A, grads_B = list(grad_RI.chunk(ctx.layers)), list(grad_OR.chunk(ctx.layers))
    return (
        None, grad_NI if input_grad else None, none, none, None, grads_A, grads_B, None, no_norms,
        None, None, None,
    )  # fmt: skip


attention_inputs.register_autograd(_backward, setup_context=_context)
