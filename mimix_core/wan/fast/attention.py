"""Attention without a mask as one operator, with a kernel selected once.

On Hopper the package flash-attn-4 has the fastest kernel; cuDNN's is the fastest of PyTorch's own.
Older GPUs use PyTorch's flash kernel, and CPUs its CPU version. perf/train_kernels.py times them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, Literal

import torch

from mimix_core.errors import BadInput
from mimix_core.wan.fast.named_outputs import report_outputs

AttentionKernel = Literal["cpu", "cudnn", "flash", "flash4", "cudnn_flash4"]
"""``cudnn_flash4``: forward by cuDNN, backward by flash-attn-4."""
_HOPPER = 9
_TUNED_WIDTHS = (64, 128)
_KEYS_OF_A_PROGRAM = 128
# Four for each of an H100's or H200's 132 multiprocessors.
_PROGRAMS = 528
_MAX_PARTS = 8


def select_kernel(
    requested: Literal["auto", "cudnn", "flash", "flash4"],
    device: torch.device,
    head_width: int,
    precision: Literal["bf16", "fp32"],
) -> AttentionKernel | None:
    """Select the kernel for ``device``. Raises BadInput for one that cannot run there, and for a
    GPU without Triton.

    Returns None for fp32 on a GPU, where none of these kernels exists; attention then stays
    diffusers' own.
    """
    if device.type == "cpu":
        if requested != "auto":
            raise BadInput(
                f"attention kernel {requested} needs a CUDA GPU",
                where="settings, key lora.attention",
                fix="Set lora.attention to auto.",
            )
        return "cpu"
    if find_spec("triton") is None:
        raise BadInput(
            "Triton is not installed, with which this package computes on a GPU",
            where="this Python environment",
            fix="Install PyTorch for CUDA anew (its wheels for Linux bring Triton).",
        )
    if precision == "fp32":
        if requested != "auto":
            raise BadInput(
                f"attention kernel {requested} does not compute in fp32",
                where="settings, key lora.attention",
                fix="Set lora.attention to auto, or lora.precision to bf16.",
            )
        return None
    installed = find_spec("flash_attn") is not None and find_spec("flash_attn.cute") is not None
    if requested == "flash4" and not installed:
        raise BadInput(
            "attention kernel flash4 is not installed",
            where="settings, key lora.attention",
            fix="pip install 'mimix[hopper]', or set lora.attention to auto.",
        )
    if requested != "auto":
        return requested
    if torch.cuda.get_device_capability(device)[0] < _HOPPER:
        return "flash"
    return "flash4" if installed and head_width in _TUNED_WIDTHS else "cudnn"


def cross_attention_kernel(kernel: AttentionKernel) -> AttentionKernel:
    """Return the kernel for attention to text; with few keys cuDNN's forward pass is faster."""
    return "cudnn_flash4" if kernel == "flash4" else kernel


@torch.library.custom_op("mimix::attention", mutates_args=())
def attention(
    layer_name: str, kernel: str, q_BLHD: torch.Tensor, k_BMHD: torch.Tensor, v_BMHD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute softmax(q k' / sqrt(D)) v as out_BLHD, and log-sum-exps, fp32 [B, H, L]."""
    if kernel == "flash4":
        from flash_attn.cute.interface import _flash_attn_fwd

        out_BLHD, sums_BHL = _flash_attn_fwd(q_BLHD, k_BMHD, v_BMHD, return_lse=True)[:2]
        report_outputs(layer_name, out_BLHD, sums_BHL)
        return out_BLHD, sums_BHL
    q, k, v = (x.transpose(1, 2) for x in (q_BLHD, k_BMHD, v_BMHD))
    if kernel in ("cudnn", "cudnn_flash4"):
        out, sums = torch.ops.aten._scaled_dot_product_cudnn_attention(q, k, v, None, True)[:2]
    elif kernel == "flash":
        out, sums = torch.ops.aten._scaled_dot_product_flash_attention(q, k, v)[:2]
    else:
        out, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q, k, v)
    out_BLHD, sums_BHL = out.transpose(1, 2).contiguous(), sums.reshape(q.shape[:3]).contiguous()
    report_outputs(layer_name, out_BLHD, sums_BHL)
    return out_BLHD, sums_BHL


@attention.register_fake
def _(
    layer_name: str, kernel: str, q_BLHD: torch.Tensor, k_BMHD: torch.Tensor, v_BMHD: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, length, heads, _ = q_BLHD.shape
    sums_BHL = q_BLHD.new_empty(batch, heads, length, dtype=torch.float32)
    return q_BLHD.new_empty(q_BLHD.shape), sums_BHL


@torch.library.custom_op("mimix::attention_grad", mutates_args=())
def attention_grad(
    kernel: str,
    grad_BLHD: torch.Tensor,
    q_BLHD: torch.Tensor,
    k_BMHD: torch.Tensor,
    v_BMHD: torch.Tensor,
    out_BLHD: torch.Tensor,
    sums_BHL: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradients of q, k and v."""
    batch, length, heads, _ = q_BLHD.shape
    parts = 1 if kernel == "cpu" else query_parts(batch * heads, length, k_BMHD.shape[1])
    return gradients_in_parts(parts, kernel, grad_BLHD, q_BLHD, k_BMHD, v_BMHD, out_BLHD, sums_BHL)


def gradients_in_parts(
    parts: int,
    kernel: str,
    grad_BLHD: torch.Tensor,
    q_BLHD: torch.Tensor,
    k_BMHD: torch.Tensor,
    v_BMHD: torch.Tensor,
    out_BLHD: torch.Tensor,
    sums_BHL: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute the gradients of q, k and v with the queries in so many samples of their own."""
    if parts == 1:
        return _gradients(kernel, grad_BLHD, q_BLHD, k_BMHD, v_BMHD, out_BLHD, sums_BHL)
    batch, _, heads, _ = q_BLHD.shape
    grad, q, out = (
        x.reshape(batch * parts, -1, *x.shape[2:]) for x in (grad_BLHD, q_BLHD, out_BLHD)
    )
    k, v = (x.repeat_interleave(parts, 0) for x in (k_BMHD, v_BMHD))
    sums = sums_BHL.view(batch, heads, parts, -1).transpose(1, 2).flatten(0, 1).contiguous()
    grad_q, grad_k, grad_v = _gradients(kernel, grad, q, k, v, out, sums)
    grad_k, grad_v = (x.view(batch, parts, *x.shape[1:]).sum(1) for x in (grad_k, grad_v))
    return grad_q.view(q_BLHD.shape), grad_k, grad_v


def query_parts(heads: int, queries: int, keys: int) -> int:
    """Return in how many parts, each a sample of its own, queries keep a GPU busy.

    Backward kernels have a program for each head and 128 keys; a text's 512 keys are too few.
    """
    programs = heads * -(-keys // _KEYS_OF_A_PROGRAM)
    return next(
        (n for n in range(1, _MAX_PARTS + 1) if n * programs >= _PROGRAMS and queries % n == 0), 1
    )


def _gradients(
    kernel: str,
    grad_BLHD: torch.Tensor,
    q_BLHD: torch.Tensor,
    k_BMHD: torch.Tensor,
    v_BMHD: torch.Tensor,
    out_BLHD: torch.Tensor,
    sums_BHL: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    if kernel in ("flash4", "cudnn_flash4"):
        from flash_attn.cute.interface import _flash_attn_bwd

        grads = _flash_attn_bwd(q_BLHD, k_BMHD, v_BMHD, out_BLHD, grad_BLHD, sums_BHL)[:3]
        return tuple(grad.contiguous() for grad in grads)
    grad, q, k, v, out = (x.transpose(1, 2) for x in (grad_BLHD, q_BLHD, k_BMHD, v_BMHD, out_BLHD))
    if kernel == "cudnn":
        # Seed and offset are for dropout, which Wan does not have.
        none = torch.zeros((), dtype=torch.int64, device=q.device)
        grads = torch.ops.aten._scaled_dot_product_cudnn_attention_backward(
            grad, q, k, v, out, sums_BHL.unsqueeze(-1), none, none, None, None, None,
            q.shape[2], k.shape[2], 0.0, False,
        )  # fmt: skip
    elif kernel == "flash":
        none = torch.zeros((), dtype=torch.int64, device=q.device)
        grads = torch.ops.aten._scaled_dot_product_flash_attention_backward(
            grad, q, k, v, out, sums_BHL, None, None, q.shape[2], k.shape[2], 0.0, False,
            none, none,
        )  # fmt: skip
    else:
        grads = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward(
            grad, q, k, v, out, sums_BHL, 0.0, False
        )
    return tuple(grad.transpose(1, 2).contiguous() for grad in grads)


@attention_grad.register_fake
def _(
    kernel: str,
    grad_BLHD: torch.Tensor,
    q_BLHD: torch.Tensor,
    k_BMHD: torch.Tensor,
    v_BMHD: torch.Tensor,
    out_BLHD: torch.Tensor,
    sums_BHL: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        q_BLHD.new_empty(q_BLHD.shape),
        k_BMHD.new_empty(k_BMHD.shape),
        v_BMHD.new_empty(v_BMHD.shape),
    )


def _context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.kernel = inputs[1]
    ctx.save_for_backward(*inputs[2:], *output)


def _backward(
    ctx: Any, grad_BLHD: torch.Tensor, grad_sums_BHL: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    return None, None, *attention_grad(ctx.kernel, grad_BLHD.contiguous(), *ctx.saved_tensors)


attention.register_autograd(_backward, setup_context=_context)
