"""Estimate what a run will need: GPU memory, disk, and tokens of its prompts.

Estimates warn and do not refuse: the machine that runs a stage may not be this one.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mimix_core.diagnostics.machine_check import MachineCheck
from mimix_core.domain.caption_grammar import CaptionVariant
from mimix_core.domain.library import load_library
from mimix_core.domain.prompts import load_prompts
from mimix_core.engine.flow_phases import phases_of_flow
from mimix_core.engine.stage import Phase
from mimix_core.errors import BadInput
from mimix_core.settings import Config, LoraSettings
from mimix_core.wan.backbone import MAX_TEXT_TOKENS
from mimix_core.wan.expected_tensors import Shapes, expected_tensors
from mimix_core.wan.frozen_weights import WAN_CLASS
from mimix_core.wan.model_registry import Backbone, get_backbone
from mimix_core.wan.text_embeddings import describe_truncated

if TYPE_CHECKING:
    from mimix_core.wan.generation.device_plan import DevicePlan, MemoryEstimate

_GB = 1e9
_CLIPS_OF_A_UNIT = 64
# Of an adapter in fp32, the state of its optimizer: AdamW's two moments, in fp32 or in bytes with a
# scale per 256 of them; Prodigy's also the initial weights and the numerator of its estimate.
_OPTIMIZER_COPIES = {"adamw": 2.0, "adamw8bit": 2 * (1 / 4 + 1 / 256), "prodigy": 4.0}


@dataclass(frozen=True)
class GpuMemory:
    """A GPU's name and its memory in bytes; ``count``: how many GPUs this machine has."""

    name: str
    free: int
    total: int
    count: int = 1


def estimate_run(config: Config, flow_name: str, gpu: GpuMemory | None) -> list[MachineCheck]:
    """Estimate what a flow needs with these settings; ``gpu``: the GPU to run on, if any.

    Settings and files that are wrong themselves are left to ``preflight.find_problems``.
    """
    return list(_estimates(config, phases_of_flow(flow_name), gpu))


def find_gpu() -> GpuMemory | None:
    """Return the GPU with the most free memory; None without one or without torch."""
    if not Path("/dev/nvidiactl").exists() or find_spec("torch") is None:
        return None
    import torch

    if not torch.cuda.is_available():
        return None
    free, total, name = max(
        (*torch.cuda.mem_get_info(index), torch.cuda.get_device_name(index))
        for index in range(torch.cuda.device_count())
    )
    return GpuMemory(name, free, total, torch.cuda.device_count())


def _estimates(
    config: Config, phases: tuple[Phase, ...], gpu: GpuMemory | None
) -> Iterator[MachineCheck]:
    try:
        backbone = get_backbone(config.backbone.name)
        network = backbone.transformer
        transformer = expected_tensors(network.class_name, network.config)
    except (BadInput, KeyError, TypeError, ValueError):
        return
    if Phase.TRAINING in phases:
        yield from _frame_rate(backbone, config.clips.frame_rate)
        if backbone.text_encoder.config.get("d_model"):
            yield _training_disk(config, backbone, transformer)
        # Blocks of other architectures have activations that nobody has measured.
        wan = backbone.transformer.class_name == WAN_CLASS
        if wan and gpu is not None and config.lora.device != "cpu" and transformer is not None:
            yield _training_memory(config, backbone, transformer, gpu)
    if Phase.GENERATION in phases:
        if gpu is not None and config.samples.device != "cpu":
            yield from _generation_memory(config, backbone, gpu)
            yield from _gpus_per_video(config.samples.gpus_per_video, gpu)
        yield from _published_shift(config, backbone)
        yield from _prompt_tokens(config)


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


def _training_disk(config: Config, backbone: Backbone, transformer: Shapes | None) -> MachineCheck:
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


def _training_memory(
    config: Config, backbone: Backbone, transformer: Shapes, gpu: GpuMemory
) -> MachineCheck:
    """Estimate the least memory of a training step, with the plan that the training makes then."""
    from mimix_core.wan.fast import offload_plan
    from mimix_core.wan.fast.activation_budget import BlockShape, total_bytes

    lora, sizes = config.lora, backbone.transformer.config
    _, frames, rows, columns = _latent_shape(config, backbone)
    element_bytes = 4 if lora.precision == "fp32" else 2
    shape = BlockShape(
        tokens=frames * rows * columns // math.prod(backbone.patch),
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
    partitions = lora.num_processes if lora.zero_stage == 3 else 1
    state = 4 * adapter_parameters(config, backbone, transformer)
    others = sum(map(math.prod, transformer.values())) - in_blocks
    more_state = max(0.0, _OPTIMIZER_COPIES[lora.optimizer] - _OPTIMIZER_COPIES["adamw"]) * state
    memory = offload_plan.estimate_training(
        shape,
        lora,
        blocks=sizes["num_layers"],
        block_parameters=in_blocks // sizes["num_layers"] // partitions,
        other_bytes=element_bytes * others / partitions + more_state,
        adapter_bytes=state,
        gpu_bytes=gpu.total,
    )
    offloads = lora.zero_stage < 3 and backbone.transformer.class_name == WAN_CLASS
    requested = lora.offload_blocks if offloads else 0
    plan = offload_plan.plan_offload(memory, gpu.free, requested)
    needed = memory.needed(plan)
    everything = needed + total_bytes(memory.activations) * memory.blocks
    finding = f"at least {needed / _GB:.0f} GB of {_free(gpu)}: "
    if needed > gpu.free:
        finding += "does not fit"
    elif everything > gpu.free:
        finding += "fits; part of the activations is recomputed"
        if offloads and lora.offload_activations_gb:
            finding += f" or waits in main memory (up to {_waiting(lora)}, pinned)"
    else:
        finding += f"fits; all activations are saved ({everything / _GB:.0f} GB)"
    if plan != offload_plan.OffloadPlan():
        pinned = memory.main_memory(plan) * lora.num_processes / _GB
        finding += f"; {plan.describe(memory.blocks)} ({pinned:.0f} GB, pinned)"
    return MachineCheck(
        name="GPU memory for training",
        state="ok" if needed <= gpu.free else "limited",
        finding=finding,
        fix="" if needed <= gpu.free else _training_fix(lora, offloads),
    )


def _waiting(lora: LoraSettings) -> str:
    if lora.offload_activations_gb == "auto":
        return "half of what is available"
    return f"{lora.offload_activations_gb * lora.num_processes:.0f} GB"


def _training_fix(lora: LoraSettings, offloads: bool) -> str:
    fixes = ["use a GPU with more memory"]
    if offloads and lora.offload_blocks != "auto":
        fixes.append("set lora.offload_blocks to auto")
    if offloads and lora.frozen_weights == "full" and not (lora.fp8 or lora.use_dora):
        fixes.append("set lora.frozen_weights to int8")
    fixes.append(
        "use several GPUs with lora.zero_stage 3, a smaller latents.width and latents.height, or a "
        "smaller backbone"
    )
    text = ", ".join(fixes[:-1]) + f", or {fixes[-1]}."
    return text[0].upper() + text[1:]


def _generation_memory(
    config: Config, backbone: Backbone, gpu: GpuMemory
) -> Iterator[MachineCheck]:
    from mimix_core.wan.generation import device_plan

    folder = config.backbone.path
    if folder is None or not all((folder / name).is_dir() for name in ("transformer", "vae")):
        return
    try:
        estimate = device_plan.estimate_memory(
            backbone,
            config.samples,
            text_encoder=folder / "text_encoder",
            transformer=folder / "transformer",
            vae=folder / "vae",
        )
    except (OSError, ValueError, KeyError):
        return  # A damaged folder, which is refused with its file.
    samples = config.samples
    plan = device_plan.plan_device(estimate, gpu.free, samples.offload, samples.vae_tiling)
    for name, (needed, choice) in _plan_needs(estimate, plan).items():
        fits = needed <= gpu.free
        yield MachineCheck(
            name=f"GPU memory for {name}",
            state="ok" if fits else "limited",
            finding=f"about {needed / _GB:.0f} GB of {_free(gpu)}: "
            + (f"fits; {choice}" if fits else "does not fit"),
            fix=""
            if fits
            else "Use a GPU with more memory, set samples.offload and samples.vae_tiling to auto, "
            "or lower samples.width and samples.height.",
        )


def _gpus_per_video(wanted: int, gpu: GpuMemory) -> Iterator[MachineCheck]:
    """Say where a video shall be generated by more GPUs than this machine has."""
    if wanted > gpu.count:
        yield MachineCheck(
            name="GPUs for a video",
            state="limited",
            finding=f"samples.gpus_per_video is {wanted}, and this machine has {gpu.count}",
            fix=f"Set it to {gpu.count} or less, or generate on another machine.",
        )


def _plan_needs(estimate: MemoryEstimate, plan: DevicePlan) -> Mapping[str, tuple[float, str]]:
    """Return the memory of generating and of decoding by a plan, and what it chose."""
    weights = estimate.vae + plan.resident_transformers(estimate)
    decoding = estimate.decoding_tiled if plan.tiled else estimate.decoding
    blocks = "are copied from main memory" if plan.streamed else "stay on the GPU"
    choice = f"the transformer's blocks {blocks}"
    if plan.swapped:
        choice = "the experts take turns on the GPU"
    return {
        "generation": (weights + estimate.denoising, choice),
        "the VAE": (
            weights + decoding,
            "it decodes in tiles" if plan.tiled else "it decodes whole frames",
        ),
    }


def _free(gpu: GpuMemory) -> str:
    return f"{gpu.free / _GB:.0f} GB free ({gpu.name})"


def _frame_rate(backbone: Backbone, frame_rate: int) -> Iterator[MachineCheck]:
    """Say where a model was trained on videos of another frame rate than the clips'."""
    rate = backbone.frame_rate
    if rate is not None and rate != frame_rate:
        yield MachineCheck(
            name="frame rate",
            state="limited",
            finding=f"clips and generated videos have {frame_rate} frames per second, but "
            f"{backbone.name} was trained on {rate}: to it, everything moves "
            f"{rate / frame_rate:.2g} times as fast",
            fix=f"Set clips.frame_rate to {rate}, or expect that the adapter has to learn the "
            "speed as well.",
        )


def _published_shift(config: Config, backbone: Backbone) -> Iterator[MachineCheck]:
    """Say where videos are sampled with another timestep shift than the model's.

    Distilled adapters, for which the solver euler is, have a shift of their own.
    """
    shift = config.samples.shift
    if config.samples.solver == "unipc" and shift != backbone.flow_shift:
        yield MachineCheck(
            name="timestep shift",
            state="limited",
            finding=f"samples.shift is {shift:g}, but {backbone.name} is published with "
            f"{backbone.flow_shift:g}",
            fix=f"Set samples.shift to {backbone.flow_shift:g}.",
        )


def _prompt_tokens(config: Config) -> Iterator[MachineCheck]:
    """Count the tokens of the prompts with the tokenizer of the model's folder."""
    folder, prompts = config.backbone.path, config.samples.prompts
    file = None if folder is None else folder / "tokenizer" / "tokenizer.json"
    if file is None or prompts is None or find_spec("tokenizers") is None or not file.is_file():
        return
    from tokenizers import Tokenizer

    try:
        library = load_library(config.library, language=config.transcripts.language)
        loaded = load_prompts(prompts, [character.name for character in library.characters()])
        tokenizer = Tokenizer.from_file(str(file))
    except Exception:  # tokenizers raises nothing more specific; find_problems names the file.
        return
    texts = {prompt.id: prompt.render(CaptionVariant(config.samples.variant)) for prompt in loaded}
    texts["samples.negative_prompt"] = config.samples.negative_prompt
    texts |= {f"lora.preview_prompts {n}": t for n, t in enumerate(config.lora.preview_prompts)}
    lengths = [(name, len(tokenizer.encode(text).ids)) for name, text in texts.items()]
    limit = get_backbone(config.backbone.name).text_tokens
    cut = describe_truncated(lengths, limit)
    longest = max(length for _, length in lengths)
    yield MachineCheck(
        name="length of the prompts",
        state="limited" if cut else "ok",
        finding=f"longer than the {limit} tokens that the text encoder reads: {cut}"
        if cut
        else f"{len(texts)} texts, at most {longest} of {limit} tokens",
        fix="Shorten them: what comes after that is not read." if cut else "",
    )
