"""Time the kernels of a training step at 14B's sizes: ``python perf/train_kernels.py OUT.json``.

TFLOP/s (attention's backward counts as 2.5 times its forward), milliseconds, and errors as
|x - reference| / |reference| against fp32.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.wan.fast import custom_ops, fp8
from mimix_core.wan.fast.attention import attention
from perf.train_models import gradient, write

N, WIDTH, FFN, RANK, HEADS, HEAD = 32760, 5120, 13824, 32, 40, 128


def milliseconds(work: Callable[[], Any], repeats: int = 10) -> float:
    for _ in range(3):
        work()
    found = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        work()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end))
    return float(median(found))


def randn(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(*shape, device="cuda", dtype=dtype)


def error(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found.float() - wanted.float()).norm() / wanted.float().norm())


def attention_figures(kernel: str) -> dict[str, float]:
    flops = 4 * N * N * HEADS * HEAD
    q, k, v = (randn(1, N, HEADS, HEAD).requires_grad_() for _ in range(3))
    text = [randn(1, 512, HEADS, HEAD) for _ in range(2)]
    with torch.no_grad():
        forward = milliseconds(lambda: attention("x", kernel, q, k, v), 5)
        cross = milliseconds(lambda: attention("x", kernel, q, *text))
    grad = randn(1, N, HEADS, HEAD)

    def both() -> None:
        attention("x", kernel, q, k, v)[0].backward(grad)

    whole = milliseconds(both, 5)
    small = [randn(1, 2048, 4, HEAD).requires_grad_() for _ in range(3)]
    wide = [x.detach().float().requires_grad_() for x in small]
    grad = randn(1, 2048, 4, HEAD)
    out = attention("x", kernel, *small)[0]
    out.backward(grad)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        wide_q, wide_k, wide_v = (x.transpose(1, 2) for x in wide)
        wanted = torch.nn.functional.scaled_dot_product_attention(wide_q, wide_k, wide_v)
        wanted = wanted.transpose(1, 2)
    wanted.backward(grad.float())
    return {
        "forward_tflops": flops / forward / 1e9,
        "both_tflops": 3.5 * flops / whole / 1e9,
        "backward_tflops": 2.5 * flops / (whole - forward) / 1e9,
        "cross_ms": cross,
        "error": error(out, wanted),
        "error_grads": max(
            error(gradient(a), gradient(b)) for a, b in zip(small, wide, strict=True)
        ),
    }


def linear_figures(inputs: int, outputs: int) -> dict[str, float]:
    """Time one layer: the product alone, with its adapter, both gradients, and all in fp8."""
    x, grad = randn(N, inputs), randn(N, outputs)
    weight, bias = randn(outputs, inputs) / inputs**0.5, randn(outputs)
    a, b = randn(RANK, inputs, dtype=torch.float32), randn(outputs, RANK, dtype=torch.float32)
    down = custom_ops.adapter_down(x, a)
    w8, w_scale = fp8.quantize_rows(weight)
    w_scale = w_scale.t().contiguous()
    rounded = torch.compile(fp8.quantize_rows, dynamic=False)
    x8, x_scale = rounded(x)
    g8, g_scale = rounded(grad)
    flops = 2 * N * inputs * outputs
    plain = milliseconds(lambda: torch.nn.functional.linear(x, weight, bias))
    narrow = milliseconds(lambda: fp8.scaled_matmul(x8, x_scale, w8, w_scale, bias, torch.bfloat16))
    found = {
        "plain_ms": plain,
        "plain_tflops": flops / plain / 1e9,
        "plain_grad_ms": milliseconds(lambda: torch.mm(grad, weight)),
        "down_ms": milliseconds(lambda: custom_ops.adapter_down(x, a)),
        "adapted_ms": milliseconds(
            lambda: custom_ops.adapted_linear("x", x, weight, bias, down, a, b, 1.0)
        ),
        "adapted_grad_ms": milliseconds(
            lambda: custom_ops.adapted_linear_grad(grad, x, weight, down, a, b, 1.0)
        ),
        "fp8_ms": narrow,
        "fp8_tflops": flops / narrow / 1e9,
        "fp8_rounded_ms": milliseconds(lambda: rounded(x)),
        "fp8_grad_ms": milliseconds(lambda: fp8.grad_input_fp8(g8, g_scale, w8, True)),
        "fp8_adapter_grads_ms": milliseconds(
            lambda: custom_ops.adapter_grads(grad, x, down, a, b, 1.0)
        ),
    }
    one = torch.ones((), device="cuda")
    found["fp8_one_scale_ms"] = milliseconds(
        lambda: torch._scaled_mm(x8, w8.t(), one, one, bias=bias, out_dtype=torch.bfloat16,
                                 use_fast_accum=True)
    )  # fmt: skip
    rows = slice(0, 512)
    wanted = torch.nn.functional.linear(x[rows].float(), weight.float(), bias.float())
    found["fp8_error"] = error(
        fp8.scaled_matmul(x8[rows], x_scale[rows], w8, w_scale, bias, torch.bfloat16), wanted
    )
    wanted = wanted + x[rows].float() @ a.t() @ b.t()
    found["adapted_error"] = error(
        custom_ops.adapted_linear("x", x[rows], weight, bias, down[rows], a, b, 1.0), wanted
    )
    return found


def _copy_rate() -> float:
    """Measure TB/s of a copy on the device, bytes read plus bytes written."""
    source = torch.empty(2**31, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return 2 * 2**31 / milliseconds(lambda: target.copy_(source)) / 1e9


def main(out: Path) -> None:
    found: dict[str, Any] = {
        "torch": torch.__version__,
        "cudnn": torch.backends.cudnn.version(),
        "gpu": torch.cuda.get_device_name(),
    }
    found["copy_tb_per_second"] = _copy_rate()
    for name, work in {
        "attention_cudnn": lambda: attention_figures("cudnn"),
        "attention_flash": lambda: attention_figures("flash"),
        "attention_flash4": lambda: attention_figures("flash4"),
        "linear_5120_5120": lambda: linear_figures(WIDTH, WIDTH),
        "linear_5120_13824": lambda: linear_figures(WIDTH, FFN),
        "linear_13824_5120": lambda: linear_figures(FFN, WIDTH),
    }.items():
        try:
            found[name] = work()
        except (ImportError, RuntimeError) as failed:
            traceback.print_exc()
            found[name] = {"failed": str(failed)[:300]}
        torch.cuda.empty_cache()
    write(out, found)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
