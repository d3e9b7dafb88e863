"""Time forward and backward of the 14B: diffusers + PEFT by default, then this project's variants.

``python perf/train_steps.py OUT.json VARIANT...`` runs them in one process, one after the other,
with the same weights, adapters and batch. Variants: see ``VARIANTS``. Ratios are to ``diffusers``
and ``mimix`` of the same run.
"""

from __future__ import annotations

import gc
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.settings import LoraSettings
from mimix_core.training import throughput
from mimix_core.wan import fast, lora
from mimix_core.wan.fast.routed_blocks import RoutedBlocks
from mimix_core.wan.token_routing import plan_route
from perf.train_models import (
    LATENTS,
    PEAK_BF16,
    TARGETS,
    WAN_14B,
    Timed,
    attach,
    batch,
    gradient,
    loss_of,
    timed,
    wan,
    write,
)

VARIANTS: dict[str, LoraSettings | None] = {
    # The usual code: peft's adapters in the layers' dtype, diffusers' own checkpointing.
    "diffusers": None,
    # Defaults: flash-attn-4's attention if installed, else cuDNN's; saves activations on the
    # GPU and in main memory as far as they fit.
    "mimix": LoraSettings(),
    "mimix_cudnn": LoraSettings(attention="cudnn"),
    "mimix_fp8": LoraSettings(fp8=True),
    "mimix_nothing_kept": LoraSettings(activation_budget_gb=0.0),
    # What the GPU cannot hold is recomputed.
    "mimix_recomputing": LoraSettings(offload_activations_gb=0.0),
    "mimix_eager": LoraSettings(compile="off"),
    # Half of the tokens skip the middle blocks.
    "mimix_routed": LoraSettings(routed_tokens=0.5),
    "mimix_routed_fp8": LoraSettings(routed_tokens=0.5, fp8=True),
}
RANK = LoraSettings().rank


def measure(
    name: str,
    steps: int,
    sizes: dict[str, Any] = WAN_14B,
    latents: tuple[int, ...] = LATENTS,
    device: str = "cuda",
) -> dict[str, Any]:
    settings = VARIANTS[name]
    model = wan(sizes, torch.bfloat16, device)
    attach(model, torch.bfloat16 if settings is None else torch.float32)
    if settings is None:
        model.enable_gradient_checkpointing()
    else:
        fast.accelerate_training(model, settings)
    given = batch(latents, device=device)
    share = 0.0 if settings is None else settings.routed_tokens
    route = None if settings is None else plan_route(settings, model.config)
    processed = None if route is None else route.draw(0, 0, "clip", latents)[None].to(device)

    def step() -> torch.Tensor:
        for _, weight in lora.adapter_parameters(model):
            weight.grad = None
        with fast.routed_pass(model, processed):
            loss = loss_of(model, given, torch.bfloat16)
        loss.backward()
        return loss.detach()

    held = torch.cuda.memory_allocated() / 1e9
    found: Timed = timed(step, steps, warm=1 if settings is None else 2)
    norm = (
        torch.stack([gradient(p).float().norm() for _, p in lora.adapter_parameters(model)])
        .norm()
        .item()
    )
    kept = {} if settings is None else _kept(model)
    flops = throughput.count_sample_flops(
        model.config, latents, rank=RANK, targets=TARGETS, routed=share
    )
    return {
        **vars(found),
        "mfu": flops / found.seconds / PEAK_BF16,
        "tokens_per_second": throughput.count_video_tokens(model.config, latents) / found.seconds,
        "gradient_norm": norm,
        "weights_gb": held,
        "reserved_gb": torch.cuda.max_memory_reserved() / 1e9,
        **kept,
    }


def _kept(model: Any) -> dict[str, Any]:
    blocks = model._gradient_checkpointing_func
    if isinstance(blocks, RoutedBlocks):
        blocks = blocks.run_block
    (plan,) = blocks.activation_plans.values()
    kernel = model.blocks[0].attn1.processor.kernel
    kinds = [sorted(kind) for kind in sorted(set(plan.saved), key=len)]
    offloaded = Counter(name for names in plan.offloaded for name in names)
    return {
        "attention": kernel,
        "kept_gb": plan.num_bytes / 1e9,
        "kept_predicted_seconds": plan.seconds_saved,
        "kept": kinds,
        "offloaded_activations": dict(offloaded),
    }


def main(out: Path, names: list[str], steps: int = 3) -> None:
    found: dict[str, Any] = {}
    for name in names:
        torch._dynamo.reset()
        found[name] = measure(name, steps)
        gc.collect()
        torch.cuda.empty_cache()
        if "diffusers" in found:
            found[name]["ratio"] = found[name]["seconds"] / found["diffusers"]["seconds"]
            found[name]["loss_difference"] = found[name]["loss"] / found["diffusers"]["loss"] - 1
        if "mimix" in found:
            found[name]["ratio_to_mimix"] = found[name]["seconds"] / found["mimix"]["seconds"]
        write(out, found)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
