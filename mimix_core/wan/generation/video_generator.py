"""Load a backbone for generation: embed the texts, free the text encoder, then load the rest.

UMT5 is a third as large as the 14B transformer; they are never in memory together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimix_core.errors import BadInput
from mimix_core.settings import SampleSettings
from mimix_core.wan import model_registry
from mimix_core.wan.generation import denoising_pipeline, device_plan
from mimix_core.wan.generation.component_folders import ComponentFolders
from mimix_core.wan.generation.device_plan import DevicePlan

if TYPE_CHECKING:
    import torch

    from mimix_core.wan.fast.attention import AttentionKernel
    from mimix_core.wan.generation.classifier_free_guidance import GuidedTransformer
    from mimix_core.wan.generation.step_cache import StepCache
    from mimix_core.wan.generation.video_process import VideoProcess
    from mimix_core.wan.lora_formats import Adapter


@dataclass(frozen=True)
class VideoGenerator:
    """A loaded pipeline.

    ``embeddings``: text_1LD by text, on the CPU. ``guidance``: the pipeline's guidance scales, 1
    where the transformer guides itself. ``runtime_stats``: the execution choices for this machine.
    ``decode_latents``: the backbone's. ``step_caches``: one of each transformer, if the settings
    ask for it.
    """

    pipeline: Any
    embeddings: Mapping[str, torch.Tensor]
    settings: SampleSettings
    guidance: Mapping[str, float]
    runtime_stats: Mapping[str, str | int | float]
    decode_latents: Callable[[Any, torch.Tensor], NDArray[np.uint8]]
    step_caches: tuple[StepCache, ...] = ()

    def generate(
        self,
        prompt: str,
        seed: int,
        on_step: Callable[[int], None] = lambda _: None,
        layout_CTHW: torch.Tensor | None = None,
    ) -> NDArray[np.uint8]:
        """Generate a video, uint8 RGB frames_THWC; the arguments are those of ``denoise``.

        Raises ValueError for non-finite values.
        """
        return self.decode(self.denoise(prompt, seed, on_step, layout_CTHW))

    def denoise(
        self,
        prompt: str,
        seed: int,
        on_step: Callable[[int], None] = lambda _: None,
        layout_CTHW: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Denoise the normalized latents_BCTHW; ``on_step(n)`` is called after step n.

        ``prompt`` is one of the embedded texts. ``layout_CTHW``: normalized latents from which the
        low frequencies of the noise come, as the settings say. Raises ValueError for an embedding
        with non-finite values.
        """
        from mimix_core.wan.generation import sampling, start_noise

        if not bool(self.embeddings[prompt].isfinite().all()):
            raise ValueError("the prompt's embedding contains non-finite values (NaN or Inf)")

        def callback(_pipeline: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> Any:
            on_step(index + 1)
            return tensors

        settings = self.settings
        device = self.pipeline.vae.device
        call: dict[str, Any] = {
            "prompt_embeds": self.embeddings[prompt].to(device),
            **self.guidance,
        }
        if max(self.guidance.values()) > 1:
            call["negative_prompt_embeds"] = self.embeddings[settings.negative_prompt].to(device)
        if layout_CTHW is not None:
            call["latents"] = start_noise.mix_layout(
                sampling.draw_noise(seed, layout_CTHW.shape),
                layout_CTHW,
                settings.start_strength,
                settings.start_frequency,
            )[None]
        try:
            return sampling.denoise(
                self.pipeline,
                seed,
                width=settings.width,
                height=settings.height,
                num_frames=settings.num_frames,
                num_inference_steps=settings.num_inference_steps,
                callback_on_step_end=callback,
                **call,
            )
        finally:
            for cache in self.step_caches:
                cache.reset()

    def count_passes(self) -> dict[str, int]:
        """Count the forward passes so far by whether they were reused; empty without a cache."""
        if not self.step_caches:
            return {}
        return {
            "passes_computed": sum(cache.computed for cache in self.step_caches),
            "passes_reused": sum(cache.reused for cache in self.step_caches),
        }

    def decode(self, latents_BCTHW: torch.Tensor) -> NDArray[np.uint8]:
        """Decode normalized latents to frames_THWC. Raises ValueError for non-finite values."""
        return self.decode_latents(self.pipeline.vae, latents_BCTHW)


def load_generator(
    components: ComponentFolders,
    adapter: Adapter | None,
    where: str,
    prompts: Sequence[str],
    settings: SampleSettings,
    device: torch.device,
    low_noise: Adapter | None = None,
    process: VideoProcess | None = None,
) -> VideoGenerator:
    """Load everything that is needed to generate these prompts on ``device``.

    ``adapter``: of the transformer, the high-noise one of two experts; ``low_noise``: of the other
    expert. None: it generates as it is. ``where`` names the adapter files in errors. ``process``:
    if several processes generate each video together; all of them call the generator alike. Raises
    BadInput for an adapter that does not fit the transformer, and for an attention kernel or
    compilation that is not available.
    """
    from mimix_core.wan.generation.architecture_settings import check_generation_settings
    from mimix_core.wan.generation.expert_swap import ExpertSwap
    from mimix_core.wan.text_embeddings import check_finite_embedding

    backbone = components.backbone
    check_generation_settings(settings, backbone)
    interface = model_registry.load_interface(backbone)
    plan = plan_components(components, settings, device)
    if plan.streamed and settings.step_cache is not None:
        raise BadInput(
            "blocks that are streamed to the GPU in turn cannot be left out by a step cache",
            where="settings, key samples.step_cache",
            fix="Leave it out, or set samples.offload to off on a GPU that holds the model.",
        )
    negative = settings.negative_prompt
    embeddings = embed_prompts(components, [negative, *prompts], device, plan)
    check_finite_embedding(embeddings[negative], negative)
    transformer, stats = load_adapted_transformer(
        components.transformer, adapter, where, settings, device, plan, interface.load_transformer
    )
    transformers = {"transformer": transformer}
    scales = {"transformer": settings.guidance_scale}
    if components.transformer_2 is not None:
        if plan.swapped:
            transformer.to("cpu")
        transformers["transformer_2"], more = load_adapted_transformer(
            components.transformer_2,
            low_noise,
            where,
            settings,
            device,
            plan,
            interface.load_transformer,
        )
        scales["transformer_2"] = settings.low_noise_guidance
        stats |= {"adapter_low_noise": more["adapter"], "swapped": int(plan.swapped)}
    if plan.swapped:
        ExpertSwap(list(transformers.values()), device)
    pipeline = denoising_pipeline.build_pipeline(components, transformers, settings, device, plan)
    if process is not None and process.sequence_group is not None:
        from mimix_core.wan.generation.sequence_parallel import split_sequence

        for model in transformers.values():
            split_sequence(model, process)
    guide = _select_guidance(settings, embeddings[negative].to(device), process)
    if guide is not None:
        for name, scale in scales.items():
            setattr(pipeline, name, guide(transformers[name], scale))
        scales = dict.fromkeys(scales, 1.0)
    guidance = {name.replace("transformer", "guidance_scale"): v for name, v in scales.items()}
    stats |= {"streamed": int(plan.streamed), "tiled": int(plan.tiled)}
    caches: tuple[StepCache, ...] = ()
    if settings.step_cache is not None:
        from mimix_core.wan.generation.step_cache import cache_steps

        passes = 2 if max(guidance.values()) > 1 else 1
        caches = tuple(
            cache_steps(model, settings.step_cache, passes) for model in transformers.values()
        )
    return VideoGenerator(
        pipeline, embeddings, settings, guidance, stats, interface.decode_latents, caches
    )


def _select_guidance(
    settings: SampleSettings, negative_1LD: torch.Tensor, process: VideoProcess | None
) -> Callable[[Any, float], GuidedTransformer] | None:
    """Return how a transformer guides itself, at a scale; None if the pipeline guides.

    At a scale of 1 or less there is a single pass, and nothing to guide.
    """
    from mimix_core.wan.generation.classifier_free_guidance import BatchedCFG, ParallelCFG

    if process is not None and process.guidance_group is not None:
        group, branch = process.guidance_group, process.branch
        return lambda model, scale: ParallelCFG(model, negative_1LD, scale, group, branch)
    if settings.batched_guidance and settings.guidance_scale > 1:
        return lambda model, scale: BatchedCFG(model, negative_1LD, scale)
    return None


def plan_components(
    components: ComponentFolders, settings: SampleSettings, device: torch.device
) -> DevicePlan:
    """Plan where the components run; on a CPU nothing is streamed."""
    if device.type == "cpu":
        return DevicePlan(text_on_gpu=False, streamed=False, tiled=settings.vae_tiling == "on")
    from mimix_core.engine.gpu_memory import usable_memory

    estimate = device_plan.estimate_memory(
        components.backbone,
        settings,
        text_encoder=components.text_encoder,
        transformer=components.transformer,
        vae=components.vae,
    )
    free, _ = usable_memory(device)
    return device_plan.plan_device(estimate, free, settings.offload, settings.vae_tiling)


def embed_prompts(
    components: ComponentFolders, texts: Sequence[str], device: torch.device, plan: DevicePlan
) -> dict[str, torch.Tensor]:
    """Embed each text as text_1LD, padded to 512 tokens, on the CPU; then free the text encoder.

    A text that is longer than the backbone reads is truncated. Texts are not batched, because an
    embedding's last bits depend on the other texts in a batch.
    """
    import torch

    from mimix_core.wan.flow_matching import pad_embeddings
    from mimix_core.wan.text_embeddings import truncate_tokens

    interface = model_registry.load_interface(components.backbone)
    ids = interface.tokenize(interface.load_tokenizer(components.tokenizer), texts)
    encoder_device = device if plan.text_on_gpu else torch.device("cpu")
    encoder = interface.load_text_encoder(components.text_encoder, encoder_device)
    embeddings = {}
    for text, tokens in zip(texts, ids, strict=True):
        truncated = truncate_tokens(tokens, components.backbone.text_tokens)
        [text_LD] = interface.embed_tokens(encoder, [truncated])
        embeddings[text] = pad_embeddings([text_LD])
    del encoder
    if encoder_device.type == "cuda":
        torch.cuda.empty_cache()
    return embeddings


def load_adapted_transformer(
    folder: Path,
    adapter: Adapter | None,
    where: str,
    settings: SampleSettings,
    device: torch.device,
    plan: DevicePlan,
    load_transformer: Callable[[Path, torch.dtype], Any],
) -> tuple[Any, dict[str, str | int | float]]:
    """Load the transformer with its adapter on ``device``; also return the choices made for it.

    Without an adapter it is as in the folder. ``load_transformer``: the backbone's.
    """
    import torch

    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    transformer = load_transformer(folder, dtype).eval()
    if not plan.streamed:
        transformer.to(device)
    mode = "none"
    if adapter is not None:
        mode = _apply_adapter(transformer, folder, adapter, where, settings, dtype)
    kernel, compiled = accelerate_inference(transformer, settings, device, streamed=plan.streamed)
    if plan.streamed:
        stream_blocks(transformer, device)
    return transformer, {
        "adapter": mode,
        "attention": kernel or "PyTorch's choice",
        "compiled": int(compiled),
    }


def _apply_adapter(
    transformer: Any,
    folder: Path,
    adapter: Adapter,
    where: str,
    settings: SampleSettings,
    dtype: torch.dtype,
) -> str:
    """Merge the adapter into the transformer of ``folder`` or attach it; return which."""
    from mimix_core.wan.generation import adapter_merging

    adapter_merging.check_adapter(transformer, adapter, where)
    stored = adapter_merging.StoredWeights(folder)
    adapter_merging.apply_changes(transformer, stored, adapter)
    mode = settings.adapter_mode
    if mode == "auto":
        mode = adapter_merging.select_adapter_mode(folder, adapter, dtype)
    if mode == "merged":
        adapter_merging.merge_adapter(transformer, stored, adapter)
    else:
        adapter_merging.attach_trained_adapter(transformer, adapter)
    return mode


def accelerate_inference(
    transformer: Any, settings: SampleSettings, device: torch.device, *, streamed: bool
) -> tuple[AttentionKernel | None, bool]:
    """Replace the blocks' layers by those of ``wan.fast`` and compile the blocks, in place.

    Returns the attention kernel, and whether the blocks are compiled. Other architectures than
    Wan's stay as they are. Raises BadInput for a kernel that cannot run on ``device``, and for
    compiled blocks that are streamed.
    """
    import torch

    from mimix_core.wan.fast import layers
    from mimix_core.wan.fast.attention import select_kernel
    from mimix_core.wan.frozen_weights import WAN_CLASS

    if type(transformer).__name__ != WAN_CLASS:
        return None, False
    head_width = transformer.config.attention_head_dim
    try:
        kernel = select_kernel(settings.attention, device, head_width, settings.precision)
    except BadInput as error:
        raise BadInput(
            error.what,
            where="settings, key samples.attention",
            fix="Set samples.attention to auto.",
        ) from error
    if settings.compile == "on" and streamed:
        raise BadInput(
            "blocks that are streamed to the GPU cannot be compiled",
            where="settings, key samples.compile",
            fix="Set samples.compile to auto, or samples.offload to off.",
        )
    compiled = settings.compile == "on" or (
        settings.compile == "auto" and device.type == "cuda" and not streamed
    )
    for block in transformer.blocks:
        layers.replace_layers(block, kernel, use_fp8=False)
        if compiled:
            block.compile(dynamic=False)
    if compiled:
        # All blocks share one graph per video size.
        torch._dynamo.config.recompile_limit = 128
    return kernel, compiled


def stream_blocks(transformer: Any, device: torch.device) -> None:
    """Offload the weights to CPU memory; each block is copied while the previous one computes."""
    import torch

    transformer.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )
