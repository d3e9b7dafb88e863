"""Estimate what training needs: GPU memory by architecture, and disk."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from mimix_core.diagnostics.machine_check import GpuMemory, MachineCheck
from mimix_core.engine.main_memory import available_main_memory
from mimix_core.settings import Config, LoraSettings
from mimix_core.wan import ltx_memory
from mimix_core.wan.backbone import MAX_TEXT_TOKENS
from mimix_core.wan.expected_tensors import Shapes
from mimix_core.wan.frozen_weights import WAN_CLASS
from mimix_core.wan.model_registry import Backbone

if TYPE_CHECKING:
    from mimix_core.wan.fast.offload_plan import OffloadPlan, TrainingMemory

_GB = 1e9
_CLIPS_OF_A_UNIT = 64
# Of an adapter in fp32, the state of its optimizer: AdamW's two moments, in fp32 or in bytes with a
# scale per 256 of them; Prodigy's also the initial weights and the numerator of its estimate.
_OPTIMIZER_COPIES = {"adamw": 2.0, "adamw8bit": 2 * (1 / 4 + 1 / 256), "prodigy": 4.0}

# What helps training of any architecture.
_SIZE_FIXES = (
    "use several GPUs with lora.zero_stage 3",
    "set a smaller latents.width and latents.height",
)


def adapter_parameters(config: Config, backbone: Backbone, transformer: Shapes) -> int:
    """Count the adapter's parameters: rank times inputs plus outputs of each adapted layer.

    A DoRA also has a magnitude for each output.
    """
    targets = config.lora.target_modules or backbone.lora_targets
    return sum(
        config.lora.rank * (shape[0] + shape[1]) + config.lora.use_dora * shape[0]
        for name, shape in transformer.items()
        if len(shape) == 2 and any(f".{name}".endswith(f".{target}.weight") for target in targets)
    )


def training_disk(config: Config, backbone: Backbone, transformer: Shapes | None) -> MachineCheck:
    """Estimate the disk for latents, embeddings, checkpoints and adapters."""
    existing = next(path for path in (config.workspace, *config.workspace.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    clip = 4 * math.prod(_latent_shape(config, backbone))
    clip += 2 * backbone.text_tokens * int(backbone.text_encoder.config["d_model"])
    checkpoint, saved = 0, 0
    if transformer is not None:
        copies = 1 + _OPTIMIZER_COPIES[config.lora.optimizer] + (config.lora.ema_decay is not None)
        adapter = 4 * adapter_parameters(config, backbone, transformer)
        checkpoint = round(copies * adapter)
        trained = sum(expert.name in config.lora.experts for expert in backbone.experts)
        saved = adapter * _saved_adapters(config.lora) * max(1, trained)
    checkpoints = checkpoint * (config.lora.keep_checkpoints + 1)
    finding = (
        f"latents and embeddings take up to {1000 * clip / _GB:.1f} GB per 1,000 clips, "
        f"checkpoints up to {checkpoints / _GB:.2f} GB, the adapters that are saved "
        f"{saved / _GB:.2f} GB; {free / _GB:.0f} GB are free at {existing}"
    )
    fits = checkpoints + saved + _CLIPS_OF_A_UNIT * clip <= free
    return MachineCheck(
        name="disk for training",
        state="ok" if fits else "limited",
        finding=finding,
        fix="" if fits else "Move the workspace to a larger disk, or free some space.",
    )


def training_memory(
    config: Config, backbone: Backbone, transformer: Shapes, gpu: GpuMemory
) -> Iterator[MachineCheck]:
    """Estimate the least GPU memory of a training step; nothing for architectures not known here.

    Activations of other architectures' blocks are neither measured nor counted.
    """
    class_name = backbone.transformer.class_name
    if class_name == WAN_CLASS:
        yield from _wan_training_memory(config, backbone, transformer, gpu)
    elif class_name == ltx_memory.TRANSFORMER_CLASS:
        yield _ltx_training_memory(config, backbone, transformer, gpu)


def _saved_adapters(lora: LoraSettings) -> int:
    """Count the adapters on disk at the end: those of epochs also lie beside the checkpoints.

    So do those within a bound on forgetting, of which one may become the result.
    """
    interval = lora.epoch_adapter_interval
    epochs = 0 if interval is None else (lora.epochs - 1) // interval
    bounded = 0 if lora.max_forgetting is None else lora.keep_checkpoints + 1
    return (1 + 2 * epochs + bounded) * (1 if lora.ema_decay is None else 2)


def _latent_shape(config: Config, backbone: Backbone) -> tuple[int, int, int, int]:
    """Return the shape CTHW of a clip's latents."""
    width = config.latents.width or config.clips.width
    height = config.latents.height or config.clips.height
    in_time, rows, columns = backbone.vae_stride
    channels = int(backbone.transformer.config.get("in_channels", 16))
    return channels, (config.clips.frames - 1) // in_time + 1, height // rows, width // columns


def _wan_training_memory(
    config: Config, backbone: Backbone, transformer: Shapes, gpu: GpuMemory
) -> Iterator[MachineCheck]:
    """Estimate the least memory of a training step, with the plan that the training makes then."""
    from mimix_core.wan.fast import offload_plan
    from mimix_core.wan.fast.activation_budget import total_bytes

    lora = config.lora
    memory, plan = _plan_wan_training(config, backbone, transformer, gpu)
    offloads = lora.zero_stage < 3
    needed = memory.needed(plan)
    everything = needed + total_bytes(memory.activations) * memory.blocks
    finding = "does not fit"
    if everything <= gpu.free:
        finding = f"fits; all activations are saved ({everything / _GB:.0f} GB)"
    elif needed <= gpu.free:
        finding = "fits; part of the activations is recomputed"
        if offloads and lora.offload_activations_gb:
            finding += f" or waits in main memory (up to {_waiting(lora)}, pinned)"
    pinned = memory.main_memory(plan) * lora.num_processes
    if plan != offload_plan.OffloadPlan():
        finding += f"; {plan.describe(memory.blocks)} ({pinned / _GB:.0f} GB, pinned)"
    narrower = []
    for name in _narrower_formats(lora):
        other = _with_frozen_weights(config, name)
        small, small_plan = _plan_wan_training(other, backbone, transformer, gpu)
        fits = small.needed(small_plan) <= gpu.free
        narrower.append((name, fits, small.main_memory(small_plan) * lora.num_processes))
    fixes = _offload_fixes(lora) if offloads else []
    fixes += [f"set lora.frozen_weights to {name}" for name, fits, _ in narrower if fits][:1]
    yield _training_check(needed, gpu, finding, [*fixes, *_SIZE_FIXES, "use a smaller backbone"])
    if pinned and needed <= gpu.free:
        yield from _pinned_memory(pinned, {name: less for name, _, less in narrower})


def _pinned_memory(pinned: float, narrower: Mapping[str, float]) -> Iterator[MachineCheck]:
    """Compare what training pins of main memory with what is available, if the system says that.

    ``narrower``: what it would pin with other ``frozen_weights``.
    """
    available = available_main_memory()
    if not available:
        return
    fits = pinned <= available
    fixes = [
        "Use a machine with more",
        *(f"set lora.frozen_weights to {n} ({p / _GB:.0f} GB)" for n, p in narrower.items()),
    ]
    yield MachineCheck(
        name="main memory for training",
        state="ok" if fits else "limited",
        finding=f"at least {pinned / _GB:.0f} GB, pinned, of {available / _GB:.0f} GB available: "
        + ("fits" if fits else "does not fit"),
        fix="" if fits else f"{', '.join(fixes)}, or {_SIZE_FIXES[-1]}.",
    )


def _plan_wan_training(
    config: Config, backbone: Backbone, transformer: Shapes, gpu: GpuMemory
) -> tuple[TrainingMemory, OffloadPlan]:
    """Return the memory of a training step, and the plan that the training makes on such a GPU."""
    from mimix_core.wan.fast import offload_plan
    from mimix_core.wan.fast.activation_budget import BlockShape

    lora, sizes = config.lora, backbone.transformer.config
    element_bytes = 4 if lora.precision == "fp32" else 2
    shape = BlockShape(
        tokens=_tokens(config, backbone),
        text_tokens=MAX_TEXT_TOKENS,
        samples=lora.micro_batch_size,
        width=sizes["num_attention_heads"] * sizes["attention_head_dim"],
        heads=sizes["num_attention_heads"],
        ffn_width=sizes["ffn_dim"],
        element_bytes=element_bytes,
        fp8=lora.fp8,
    )
    in_blocks = sum(
        math.prod(matrix)
        for name, matrix in transformer.items()
        if name.startswith("blocks.") and len(matrix) == 2
    )
    partitions = _partitions(lora)
    state = 4 * adapter_parameters(config, backbone, transformer)
    others = sum(map(math.prod, transformer.values())) - in_blocks
    memory = offload_plan.estimate_training(
        shape,
        lora,
        blocks=sizes["num_layers"],
        block_parameters=in_blocks // sizes["num_layers"] // partitions,
        other_bytes=element_bytes * others / partitions + _more_optimizer_copies(lora) * state,
        adapter_bytes=state,
        gpu_bytes=gpu.total,
    )
    requested = lora.offload_blocks if lora.zero_stage < 3 else 0
    return memory, offload_plan.plan_offload(memory, gpu.free, requested)


def _ltx_training_memory(
    config: Config, backbone: Backbone, transformer: Shapes, gpu: GpuMemory
) -> MachineCheck:
    """Estimate the memory of a training step that recomputes each block completely."""
    from mimix_core.wan.fast.activation_budget import ADAPTER_COPIES, RESERVED_SHARE

    lora = config.lora
    shape = ltx_memory.TokenShape(
        samples=lora.micro_batch_size,
        tokens=_tokens(config, backbone),
        text_tokens=backbone.text_tokens,
        element_bytes=4 if lora.precision == "fp32" else 2,
    )
    weights = shape.element_bytes * sum(map(math.prod, transformer.values())) / _partitions(lora)
    state = 4 * adapter_parameters(config, backbone, transformer)
    needed = (
        weights
        + (1 + ADAPTER_COPIES + _more_optimizer_copies(lora)) * state
        + ltx_memory.training_bytes(backbone.transformer.config, shape, use_dora=lora.use_dora)
        + RESERVED_SHARE * gpu.total
    )
    finding = "fits; all activations are recomputed" if needed <= gpu.free else "does not fit"
    return _training_check(needed, gpu, finding, _SIZE_FIXES)


def _training_check(
    needed: float, gpu: GpuMemory, finding: str, fixes: Sequence[str]
) -> MachineCheck:
    fix = f"Use a GPU with more memory, {', '.join(fixes[:-1])}, or {fixes[-1]}."
    return MachineCheck(
        name="GPU memory for training",
        state="ok" if needed <= gpu.free else "limited",
        finding=f"at least {needed / _GB:.0f} GB of {gpu.describe_free()}: {finding}",
        fix="" if needed <= gpu.free else fix,
    )


def _tokens(config: Config, backbone: Backbone) -> int:
    _, frames, rows, columns = _latent_shape(config, backbone)
    return frames * rows * columns // math.prod(backbone.patch)


def _partitions(lora: LoraSettings) -> int:
    """Return over how many GPUs the frozen weights are partitioned."""
    return lora.num_processes if lora.zero_stage == 3 else 1


def _more_optimizer_copies(lora: LoraSettings) -> float:
    """Return the copies of the adapters besides those of AdamW, which ``ADAPTER_COPIES`` counts."""
    return max(0.0, _OPTIMIZER_COPIES[lora.optimizer] - _OPTIMIZER_COPIES["adamw"])


def _waiting(lora: LoraSettings) -> str:
    if lora.offload_activations_gb == "auto":
        return "half of what is available"
    return f"{lora.offload_activations_gb * lora.num_processes:.0f} GB"


def _offload_fixes(lora: LoraSettings) -> list[str]:
    fixes = []
    if lora.offload_blocks != "auto":
        fixes.append("set lora.offload_blocks to auto")
    return fixes


def _narrower_formats(lora: LoraSettings) -> tuple[str, ...]:
    """Return the values of ``frozen_weights`` that take less memory and go with the others."""
    if lora.fp8 or lora.use_dora or lora.zero_stage == 3:
        return ()
    formats = ("full", "int8", "nf4")
    return formats[formats.index(lora.frozen_weights) + 1 :]


def _with_frozen_weights(config: Config, frozen_weights: str) -> Config:
    lora = config.lora.model_copy(update={"frozen_weights": frozen_weights})
    return config.model_copy(update={"lora": lora})
