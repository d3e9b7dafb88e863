"""Time a step of the 14B on cards of 24, 48 and 80 GB.

``python perf/train_cards.py OUT.json [SIZE...]``; figures of other sizes stay in OUT.json. A SIZE
is a card's memory in GB; ``24:nf4`` or ``24:int8`` is the same with such frozen weights. Of one
GPU, PyTorch gets so many GiB less one, which a card needs for CUDA itself, and MiMix plans for
that. Besides, diffusers + PEFT in bf16 with its own checkpointing, in the first of its ways to fit
that does (``WAYS``). Every measurement is a process of its own; one that fails leaves its error in
OUT.json, the others go on, and the exit code is 1. About two minutes a size, 64 GB of main memory.

All blocks share the first one's random weights in main memory, so that they are made in seconds;
on the GPU, and pinned, each has its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mimix_core.settings import LoraSettings
from mimix_core.wan import fast, lora
from perf.train_models import (
    LATENTS,
    MODEL_FLOPS,
    PEAK_BF16,
    TEXT_WIDTH,
    WAN_14B,
    attach,
    batch,
    gradient,
    loss_of,
    timed,
    wan,
    write,
)

SIZES = ("24", "48", "80")
GIB = 2**30
CUDA_GIB = 1
"""What a card's CUDA context, libraries and display take of its memory."""
SECONDS = 200
"""Limit of one measurement."""
STEPS = 2

# As in mimix_core.training.launcher: avoids fragmentation of the nearly full memory.
ENVIRONMENT = {"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True", **os.environ}

WAYS = {
    "24": ("group_offload", "nf4_save_on_cpu"),
    "48": ("group_offload", "group_offload_no_stream", "nf4"),
    "80": ("plain",),
}
"""What diffusers offers, in the order that is tried: block-level group offloading, with and without
a stream; then nf4 by bitsandbytes, for 24 GB with all saved tensors in main memory by PyTorch."""


@torch.no_grad()
def repeated_wan(config: dict[str, Any], dtype: torch.dtype, device: str) -> Any:
    """Create a frozen Wan in main memory, with the first block's weights in all blocks."""
    from diffusers import WanTransformer3DModel

    small = wan({**config, "num_layers": 1}, dtype, device).to("cpu")
    with torch.device("meta"):
        model = WanTransformer3DModel(**{"text_dim": TEXT_WIDTH, **config})
    weights = dict(small.named_parameters())
    for name, _ in list(model.named_parameters()):
        parts = name.split(".")
        if parts[0] == "blocks":
            parts[1] = "0"
        holder, _, leaf = name.rpartition(".")
        weight = torch.nn.Parameter(weights[".".join(parts)].data, requires_grad=False)
        setattr(model.get_submodule(holder), leaf, weight)
    model.rope = small.rope
    return model.train()


def prepare_mimix(model: Any, device: torch.device, storage: str, latents: Any) -> dict[str, Any]:
    """Place and accelerate as the project's training does; return what it chose."""
    settings = LoraSettings(frozen_weights=storage)
    attach(model, torch.float32)
    plan = fast.accelerate_training(model, settings, device, latents)
    return {"offloaded_blocks": plan.blocks, "offloaded_inputs": plan.inputs}


def prepare_diffusers(model: Any, device: torch.device, way: str) -> dict[str, Any]:
    """Attach peft's adapters, and fit the model by one of diffusers' ways."""
    if way.startswith("nf4"):
        quantize_blocks(model)
    attach(model, torch.bfloat16)
    model.enable_gradient_checkpointing()
    if way.startswith("group_offload"):
        model.enable_group_offload(
            onload_device=device,
            offload_device=torch.device("cpu"),
            offload_type="block_level",
            num_blocks_per_group=1,
            use_stream=way == "group_offload" and device.type == "cuda",
        )
    else:
        model.to(device)
    return {"way": way}


def quantize_blocks(model: Any) -> None:
    """Store the blocks' linear layers in nf4, as diffusers' ``BitsAndBytesConfig`` does."""
    import bitsandbytes
    from diffusers import BitsAndBytesConfig
    from diffusers.quantizers.bitsandbytes.utils import replace_with_bnb_linear

    config = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    layers = {n: m for n, m in model.blocks.named_modules() if isinstance(m, torch.nn.Linear)}
    replace_with_bnb_linear(model.blocks, [], quantization_config=config)
    for name, layer in layers.items():
        narrow = model.blocks.get_submodule(name)
        narrow.weight = bitsandbytes.nn.Params4bit(
            layer.weight.data, requires_grad=False, quant_type="nf4"
        )
        narrow.bias = layer.bias
    model.is_loaded_in_4bit = True


def measure(size: str, name: str) -> dict[str, Any]:
    """Measure one variant in this process: ``mimix:FORMAT``, or a way of diffusers."""
    device = torch.device("cuda")
    total = torch.cuda.mem_get_info(device)[1]
    model = repeated_wan(WAN_14B, torch.bfloat16, "cuda")
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((int(size) - CUDA_GIB) * GIB / total)
    program, _, storage = name.partition(":")
    saving: Callable[[], AbstractContextManager[Any]] = nullcontext
    if program == "mimix":
        chosen = prepare_mimix(model, device, storage, LATENTS)
    else:
        chosen = prepare_diffusers(model, device, name)
        if name.endswith("save_on_cpu"):
            saving = lambda: torch.autograd.graph.save_on_cpu(pin_memory=True)  # noqa: E731
    given = batch()

    def step() -> torch.Tensor:
        for _, weight in lora.adapter_parameters(model):
            weight.grad = None
        with saving():
            loss = loss_of(model, given, torch.bfloat16)
        loss.backward()
        return loss.detach()

    found = timed(step, STEPS)
    grads = [gradient(p).float().norm() for _, p in lora.adapter_parameters(model)]
    if program == "mimix":
        chosen |= _saved(model)
    return {
        **vars(found),
        **chosen,
        "mfu": MODEL_FLOPS / found.seconds / PEAK_BF16,
        "gradient_norm": torch.stack([norm.cpu() for norm in grads]).norm().item(),
        "reserved_gb": torch.cuda.max_memory_reserved() / 1e9,
        "limit_gb": (int(size) - CUDA_GIB) * GIB / 1e9,
    }


def _saved(model: Any) -> dict[str, Any]:
    (plan,) = model._gradient_checkpointing_func.activation_plans.values()
    kinds = sorted({tuple(sorted(kind)) for kind in plan.saved}, key=len)
    return {"saved_gb": plan.num_bytes / 1e9, "saved": kinds}


def in_process(size: str, name: str) -> dict[str, Any]:
    """Measure one variant in a process of its own; return its figures or its error."""
    with tempfile.TemporaryDirectory(prefix="mimix-perf-") as work:
        result = Path(work) / "found.json"
        log = Path(work) / "log"
        command = [sys.executable, __file__, str(result), "--measure", size, name]
        with log.open("w") as output:
            try:
                subprocess.run(
                    command,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=ENVIRONMENT,
                    timeout=SECONDS,
                    check=True,
                )
            except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as failed:
                lines = log.read_text(errors="replace").strip().splitlines()
                print(size, name, "failed:", *lines[-40:], sep="\n", flush=True)
                last = next((line for line in reversed(lines) if "Error" in line), "no message")
                return {"error": f"{type(failed).__name__}: {last}"[:600]}
        found: dict[str, Any] = json.loads(result.read_text())
        return found


def measure_size(word: str, found: dict[str, Any], save: Callable[[], None]) -> bool:
    """Fill in the figures of a card; return whether all of it could be measured."""
    size, _, storage = word.partition(":")
    own = found["mimix"] = in_process(size, f"mimix:{storage or 'full'}")
    save()
    if storage:
        return "error" not in own
    attempts: dict[str, Any] = {}
    found["diffusers_failed"] = attempts
    for way in WAYS[size]:
        attempts[way] = in_process(size, way)
        save()
        if "error" not in attempts[way]:
            found["diffusers"] = attempts.pop(way)
            break
    if "error" in own or "diffusers" not in found:
        return False
    other = found["diffusers"]
    found["ratio"] = own["seconds"] / other["seconds"]
    found["loss_difference"] = own["loss"] / other["loss"] - 1
    return True


def main(out: Path, words: list[str]) -> int:
    if words[:1] == ["--measure"]:
        write(out, measure(*words[1:]))
        return 0
    found: dict[str, Any] = json.loads(out.read_text()) if out.exists() else {}
    whole = True
    for word in words or SIZES:
        found[word] = {}
        whole = measure_size(word, found[word], lambda: write(out, found)) and whole
    write(out, found)
    return int(not whole)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
