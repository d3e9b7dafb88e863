"""What a Wan block computes between its large operators, one operator for each pass over memory.

On a CUDA GPU ``triton_launch`` computes them, elsewhere PyTorch. The values are diffusers': norms,
rotary embeddings and residuals in fp32, results in the tokens' dtype. None of them is saved for the
backward pass; each is recomputed from its inputs.

Shapes: N tokens of all samples, D channels, S sets of values per channel, each for N / S
consecutive tokens (a set for each sample, or for each token), H channels of a head.
"""

from __future__ import annotations

from typing import Any

import torch


def _times(x_ND: torch.Tensor, values_SD: torch.Tensor) -> torch.Tensor:
    """Multiply each token by the values of its set."""
    sets, width = values_SD.shape
    return (x_ND.view(sets, -1, width) * values_SD[:, None]).view(x_ND.shape)


@torch.library.custom_op("mimix::modulated_norm", mutates_args=())
def modulated_norm(
    x_ND: torch.Tensor, factor_SD: torch.Tensor, offset_SD: torch.Tensor, eps: float
) -> torch.Tensor:
    """Compute layer_norm(x) factor + offset."""
    if x_ND.is_cuda:
        from mimix_core.wan.fast import triton_launch

        return triton_launch.norm(x_ND, None, None, factor_SD, offset_SD, eps)[1]
    normal_ND = torch.nn.functional.layer_norm(x_ND.float(), x_ND.shape[1:], eps=eps)
    sets, width = factor_SD.shape
    out_SND = _times(normal_ND, factor_SD).view(sets, -1, width) + offset_SD[:, None]
    return out_SND.view(x_ND.shape).to(x_ND.dtype)


@modulated_norm.register_fake
def _(
    x_ND: torch.Tensor, factor_SD: torch.Tensor, offset_SD: torch.Tensor, eps: float
) -> torch.Tensor:
    return torch.empty_like(x_ND)


@torch.library.custom_op("mimix::modulated_norm_grad", mutates_args=())
def modulated_norm_grad(
    grad_ND: torch.Tensor, x_ND: torch.Tensor, factor_SD: torch.Tensor, eps: float
) -> torch.Tensor:
    """Compute the gradient of ``modulated_norm``'s x."""
    if x_ND.is_cuda:
        from mimix_core.wan.fast import triton_launch

        return triton_launch.norm_grad(grad_ND, x_ND, factor_SD, None, None, eps)[0]
    return _norm_grad(grad_ND, x_ND, factor_SD, eps).to(x_ND.dtype)


def _norm_grad(
    grad_ND: torch.Tensor, x_ND: torch.Tensor, factor_SD: torch.Tensor, eps: float
) -> torch.Tensor:
    x, width = x_ND.float(), x_ND.shape[1:]
    _, mean, deviation = torch.native_layer_norm(x, width, None, None, eps)
    grad = _times(grad_ND.float(), factor_SD)
    out: torch.Tensor = torch.ops.aten.native_layer_norm_backward(
        grad, x, width, mean, deviation, None, None, [True, False, False]
    )[0]
    return out


@modulated_norm_grad.register_fake
def _(
    grad_ND: torch.Tensor, x_ND: torch.Tensor, factor_SD: torch.Tensor, eps: float
) -> torch.Tensor:
    return torch.empty_like(x_ND)


def _norm_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    x_ND, factor_SD, _, ctx.eps = inputs
    ctx.save_for_backward(x_ND, factor_SD)


def _norm_backward(ctx: Any, grad_ND: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
    return modulated_norm_grad(grad_ND.contiguous(), *ctx.saved_tensors, ctx.eps), None, None, None


modulated_norm.register_autograd(_norm_backward, setup_context=_norm_context)


@torch.library.custom_op("mimix::add_norm", mutates_args=())
def add_norm(
    x_ND: torch.Tensor,
    added_ND: torch.Tensor,
    gate_SD: torch.Tensor | None,
    factor_SD: torch.Tensor,
    offset_SD: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute sum = x + gate added, and layer_norm(sum) factor + offset. ``gate`` None: 1."""
    if x_ND.is_cuda:
        from mimix_core.wan.fast import triton_launch

        sum_ND, out_ND = triton_launch.norm(x_ND, added_ND, gate_SD, factor_SD, offset_SD, eps)
        assert sum_ND is not None
        return sum_ND, out_ND
    added = added_ND.float() if gate_SD is None else _times(added_ND, gate_SD)
    sum_ND = (x_ND.float() + added).to(x_ND.dtype)
    return sum_ND, modulated_norm(sum_ND, factor_SD, offset_SD, eps)


@add_norm.register_fake
def _(
    x_ND: torch.Tensor,
    added_ND: torch.Tensor,
    gate_SD: torch.Tensor | None,
    factor_SD: torch.Tensor,
    offset_SD: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x_ND), torch.empty_like(x_ND)


@torch.library.custom_op("mimix::add_norm_grad", mutates_args=())
def add_norm_grad(
    grad_sum_ND: torch.Tensor,
    grad_ND: torch.Tensor,
    sum_ND: torch.Tensor,
    gate_SD: torch.Tensor | None,
    factor_SD: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute the gradients of x and of ``added``; without a gate the second one is empty."""
    if sum_ND.is_cuda:
        from mimix_core.wan.fast import triton_launch

        out_ND, gated_ND = triton_launch.norm_grad(
            grad_ND, sum_ND, factor_SD, grad_sum_ND, gate_SD, eps
        )
        return out_ND, sum_ND.new_empty(0) if gated_ND is None else gated_ND
    out_ND = grad_sum_ND.float() + _norm_grad(grad_ND, sum_ND, factor_SD, eps)
    if gate_SD is None:
        return out_ND.to(sum_ND.dtype), sum_ND.new_empty(0)
    return out_ND.to(sum_ND.dtype), _times(out_ND, gate_SD).to(sum_ND.dtype)


@add_norm_grad.register_fake
def _(
    grad_sum_ND: torch.Tensor,
    grad_ND: torch.Tensor,
    sum_ND: torch.Tensor,
    gate_SD: torch.Tensor | None,
    factor_SD: torch.Tensor,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(sum_ND), (
        sum_ND.new_empty(0) if gate_SD is None else torch.empty_like(sum_ND)
    )


def _add_norm_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, _, gate_SD, factor_SD, _, ctx.eps = inputs
    ctx.save_for_backward(output[0], gate_SD, factor_SD)


def _add_norm_backward(
    ctx: Any, grad_sum_ND: torch.Tensor, grad_ND: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    sum_ND, gate_SD, factor_SD = ctx.saved_tensors
    grad_x_ND, gated_ND = add_norm_grad(
        grad_sum_ND.contiguous(), grad_ND.contiguous(), sum_ND, gate_SD, factor_SD, ctx.eps
    )
    return grad_x_ND, grad_x_ND if gate_SD is None else gated_ND, None, None, None, None


add_norm.register_autograd(_add_norm_backward, setup_context=_add_norm_context)


@torch.library.custom_op("mimix::rotary_norm", mutates_args=())
def rotary_norm(
    x_ND: torch.Tensor,
    weight_D: torch.Tensor,
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute ``normalize_heads`` as an operator."""
    return normalize_heads(x_ND, weight_D, cos_NH, sin_NH, eps)


def normalize_heads(
    x_ND: torch.Tensor,
    weight_D: torch.Tensor,
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute rms_norm(x) weight, and turn each head's pairs of adjacent channels by their angles.

    ``cos`` and ``sin`` are tables of fp32 with each angle twice; the tokens' number is a multiple
    of theirs. None: nothing is turned. Also returns one over each token's root mean square, fp32.
    """
    if x_ND.is_cuda:
        from mimix_core.wan.fast import triton_launch

        return triton_launch.normalize_heads(x_ND, weight_D, cos_NH, sin_NH, eps)
    x = x_ND.float()
    root_N1 = torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    normal_ND = (x * root_N1 * weight_D.float()).to(x_ND.dtype)
    if cos_NH is not None and sin_NH is not None:
        normal_ND = _turn(normal_ND, cos_NH, sin_NH).to(x_ND.dtype)
    return normal_ND, root_N1[:, 0]


def _turn(x_ND: torch.Tensor, cos_NH: torch.Tensor, sin_NH: torch.Tensor) -> torch.Tensor:
    """Turn pairs of adjacent channels of each head, in fp32."""
    length, width = cos_NH.shape
    first, second = x_ND.float().view(-1, length, x_ND.shape[1] // width, width // 2, 2).unbind(-1)
    cos, sin = cos_NH[:, None, 0::2], sin_NH[:, None, 1::2]
    turned = torch.stack((first * cos - second * sin, first * sin + second * cos), -1)
    return turned.reshape(x_ND.shape)


@rotary_norm.register_fake
def _(
    x_ND: torch.Tensor,
    weight_D: torch.Tensor,
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
    eps: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.empty_like(x_ND), x_ND.new_empty(x_ND.shape[0], dtype=torch.float32)


@torch.library.custom_op("mimix::rotary_norm_grad", mutates_args=())
def rotary_norm_grad(
    grad_ND: torch.Tensor,
    out_ND: torch.Tensor,
    root_N: torch.Tensor,
    weight_D: torch.Tensor,
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
) -> torch.Tensor:
    """Compute ``normalize_heads_grad`` as an operator."""
    return normalize_heads_grad(grad_ND, out_ND, root_N, weight_D, cos_NH, sin_NH)


def normalize_heads_grad(
    grad_ND: torch.Tensor,
    out_ND: torch.Tensor,
    root_N: torch.Tensor,
    weight_D: torch.Tensor,
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
) -> torch.Tensor:
    """Compute the gradient of ``normalize_heads``'s x from its results, without x.

    A channel whose weight is 0 has no gradient and says nothing of x.
    """
    if out_ND.is_cuda:
        from mimix_core.wan.fast import triton_launch

        return triton_launch.normalize_heads_grad(grad_ND, out_ND, root_N, weight_D, cos_NH, sin_NH)
    grad, out = grad_ND.float(), out_ND.float()
    if cos_NH is not None and sin_NH is not None:
        grad, out = _turn(grad, cos_NH, -sin_NH), _turn(out, cos_NH, -sin_NH)
    weight_D = weight_D.float()
    normal = torch.where(weight_D == 0, 0.0, out / weight_D)
    along = (grad * out).mean(-1, keepdim=True)
    return ((grad * weight_D - normal * along) * root_N[:, None]).to(out_ND.dtype)


@rotary_norm_grad.register_fake
def _(
    grad_ND: torch.Tensor,
    out_ND: torch.Tensor,
    root_N: torch.Tensor,
    weight_D: torch.Tensor,
    cos_NH: torch.Tensor | None,
    sin_NH: torch.Tensor | None,
) -> torch.Tensor:
    return torch.empty_like(out_ND)


def _rotary_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, ...]) -> None:
    _, weight_D, cos_NH, sin_NH, _ = inputs
    ctx.save_for_backward(*output, weight_D, cos_NH, sin_NH)


def _rotary_backward(
    ctx: Any, grad_ND: torch.Tensor, grad_root_N: torch.Tensor
) -> tuple[torch.Tensor | None, ...]:
    grad_x_ND = rotary_norm_grad(grad_ND.contiguous(), *ctx.saved_tensors)
    return grad_x_ND, None, None, None, None


rotary_norm.register_autograd(_rotary_backward, setup_context=_rotary_context)


@torch.library.custom_op("mimix::gelu", mutates_args=())
def gelu(x: torch.Tensor) -> torch.Tensor:
    """Compute gelu in its approximation by tanh."""
    if x.is_cuda:
        from mimix_core.wan.fast import triton_launch

        return triton_launch.gelu(x)
    return torch.nn.functional.gelu(x, approximate="tanh")


@gelu.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("mimix::gelu_grad", mutates_args=())
def gelu_grad(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Compute the gradient of ``gelu``'s x."""
    if x.is_cuda:
        from mimix_core.wan.fast import triton_launch

        return triton_launch.gelu(x, grad)
    out: torch.Tensor = torch.ops.aten.gelu_backward(grad, x, approximate="tanh")
    return out


@gelu_grad.register_fake
def _(grad: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def _gelu_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(inputs[0])


def _gelu_backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
    (x,) = ctx.saved_tensors
    grad_x: torch.Tensor = gelu_grad(grad.contiguous(), x)
    return grad_x


gelu.register_autograd(_gelu_backward, setup_context=_gelu_context)
