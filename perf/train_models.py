"""Wan at real sizes with random weights, created on the GPU, and inputs of a training step."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.settings import LoraSettings
from mimix_core.wan import flow_matching, lora

WAN_14B: dict[str, Any] = {}
"""diffusers' defaults have the size of Wan2.1-T2V-14B."""
WAN_1B: dict[str, Any] = {"num_attention_heads": 12, "ffn_dim": 8960, "num_layers": 30}

LATENTS = (16, 21, 60, 104)
"""Shape of the latents of a clip of 81 frames, 480 x 832."""
TEXT_WIDTH = 4096
MODEL_FLOPS = 4.27e15
"""Forward and backward of one such sample through the 14B, without recomputation."""
PEAK_BF16 = 989e12

TARGETS = LoraSettings().target_modules


@torch.no_grad()
def wan(config: dict[str, Any], dtype: torch.dtype, device: str = "cuda", seed: int = 0) -> Any:
    """Create a frozen ``WanTransformer3DModel`` with random weights, dtypes as in diffusers."""
    from diffusers import WanTransformer3DModel
    from diffusers.models.transformers.transformer_wan import WanRotaryPosEmbed

    with torch.device("meta"):
        model = WanTransformer3DModel(**{"text_dim": TEXT_WIDTH, **config})
    numbers = torch.Generator(device).manual_seed(seed)
    wide = WanTransformer3DModel._keep_in_fp32_modules
    for name, meta in list(model.named_parameters()):
        own = torch.float32 if any(part in wide for part in name.split(".")) else dtype
        weight = torch.empty(meta.shape, dtype=own, device=device)
        if weight.ndim > 1:
            fan_in = weight.shape[-1] if "table" in name else math.prod(weight.shape[1:])
            weight.normal_(0, 1 / math.sqrt(fan_in), generator=numbers)
        else:
            weight.fill_(float("norm" in name and name.endswith("weight")))
        holder, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(holder), leaf, torch.nn.Parameter(weight, requires_grad=False))
    head = model.config.attention_head_dim
    model.rope = WanRotaryPosEmbed(head, model.config.patch_size, 1024).to(device)
    return model.train()


@torch.no_grad()
def attach(model: Any, dtype: torch.dtype, rank: int = 32, seed: int = 0) -> None:
    """Attach adapters in ``dtype`` with non-zero B, so that they affect the loss."""
    from peft import LoraConfig

    model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(TARGETS)))
    numbers = torch.Generator(model.device).manual_seed(seed)
    for name, weight in lora.adapter_parameters(model):
        values = torch.randn(weight.shape, generator=numbers, device=model.device)
        scale = 1 / math.sqrt(weight.shape[1]) if "lora_A" in name else 0.01
        weight.data = (values * scale).to(dtype)


@dataclass(frozen=True)
class Batch:
    """One micro batch and its noise."""

    latents_BCTHW: torch.Tensor
    text_BLD: torch.Tensor
    sigma_B: torch.Tensor
    noise_BCTHW: torch.Tensor


def batch(latents: tuple[int, ...] = LATENTS, seed: int = 0, device: str = "cuda") -> Batch:
    numbers = torch.Generator(device).manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=numbers, device=device)

    level = torch.full((1,), 0.7, device=device)
    return Batch(draw(1, *latents), draw(1, 512, TEXT_WIDTH), level, draw(1, *latents))


def loss_of(model: Any, given: Batch, dtype: torch.dtype) -> torch.Tensor:
    return flow_matching.velocity_losses(
        model, given.latents_BCTHW, given.text_BLD, given.sigma_B, given.noise_BCTHW, dtype
    ).mean()


def gradient(tensor: torch.Tensor) -> torch.Tensor:
    """Return the gradient of a tensor that took part in the loss."""
    assert tensor.grad is not None
    return tensor.grad


@dataclass(frozen=True)
class Timed:
    """Timings of forward and backward steps, the first one's loss, and peak memory."""

    seconds: float
    all_seconds: list[float]
    first_seconds: float
    loss: float
    peak_gb: float


def timed(step: Callable[[], torch.Tensor], steps: int, warm: int = 1) -> Timed:
    """Time ``steps`` after ``warm`` unmeasured ones (the first compiles), by CUDA events.

    Without a GPU by the clock, to try a script; the memory is then 0.
    """
    gpu = torch.cuda.is_available()
    if gpu:
        torch.cuda.synchronize()
    begin = time.perf_counter()
    loss = step().item()
    first = time.perf_counter() - begin
    for _ in range(warm - 1):
        step()
    if not gpu:
        clocked = [_clock_seconds(step) for _ in range(steps)]
        return Timed(median(clocked), clocked, first, loss, 0.0)
    torch.cuda.reset_peak_memory_stats()
    found = []
    for _ in range(steps):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        step()
        end.record()
        end.synchronize()
        found.append(start.elapsed_time(end) / 1000)
    return Timed(median(found), found, first, loss, torch.cuda.max_memory_allocated() / 1e9)


def _clock_seconds(step: Callable[[], torch.Tensor]) -> float:
    begin = time.perf_counter()
    step()
    return time.perf_counter() - begin


def write(path: Path, found: Any) -> None:
    path.write_text(json.dumps(found, indent=1, default=vars) + "\n")
    print(path.stem, json.dumps(found, default=vars), flush=True)
