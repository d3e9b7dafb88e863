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
from mimix_core.wan.generation import device_plan
from mimix_core.wan.generation.device_plan import DevicePlan
from mimix_core.wan.model_registry import Backbone

if TYPE_CHECKING:
    import torch

    from mimix_core.wan.fast.attention import AttentionKernel
    from mimix_core.wan.lora_formats import Adapter


@dataclass(frozen=True)
class ComponentFolders:
    """The folders of the backbone's components."""

    backbone: Backbone
    transformer: Path
    vae: Path
    text_encoder: Path
    tokenizer: Path
    scheduler: Path


@dataclass(frozen=True)
class VideoGenerator:
    """A loaded pipeline.

    ``embeddings``: text_1LD by text, on the CPU. ``runtime_stats``: the execution choices for this
    machine.
    """

    pipeline: Any
    embeddings: Mapping[str, torch.Tensor]
    settings: SampleSettings
    runtime_stats: Mapping[str, str | int | float]

    def generate(
        self,
        prompt: str,
        seed: int,
        on_step: Callable[[int], None] = lambda _: None,
        layout_CTHW: torch.Tensor | None = None,
    ) -> NDArray[np.uint8]:
        """Generate a video, uint8 RGB frames_THWC; ``on_step(n)`` is called after step n.

        ``prompt`` is one of the embedded texts. ``layout_CTHW``: normalized latents from which the
        low frequencies of the noise come, as the settings say. Raises ValueError for non-finite
        values.
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
            "guidance_scale": 1.0 if uses_batched_guidance(settings) else settings.guidance_scale,
        }
        if not uses_batched_guidance(settings):
            call["negative_prompt_embeds"] = self.embeddings[settings.negative_prompt].to(device)
        if layout_CTHW is not None:
            call["latents"] = start_noise.mix_layout(
                sampling.draw_noise(seed, layout_CTHW.shape),
                layout_CTHW,
                settings.start_strength,
                settings.start_frequency,
            )[None]
        latents_BCTHW = sampling.denoise(
            self.pipeline,
            seed,
            width=settings.width,
            height=settings.height,
            num_frames=settings.num_frames,
            num_inference_steps=settings.num_inference_steps,
            callback_on_step_end=callback,
            **call,
        )
        return sampling.decode_latents(self.pipeline.vae, latents_BCTHW)


def load_generator(
    components: ComponentFolders,
    adapter: Adapter,
    where: str,
    prompts: Sequence[str],
    settings: SampleSettings,
    device: torch.device,
) -> VideoGenerator:
    """Load everything that is needed to generate these prompts on ``device``.

    ``where`` names the adapter file in errors. Raises BadInput for an adapter that does not fit
    the transformer, and for an attention kernel or compilation that is not available.
    """
    from mimix_core.wan.text_embeddings import check_finite_embedding

    plan = plan_components(components, settings, device)
    negative = settings.negative_prompt
    embeddings = embed_prompts(components, [negative, *prompts], device, plan)
    check_finite_embedding(embeddings[negative], negative)
    transformer, stats = load_adapted_transformer(
        components, adapter, where, settings, device, plan
    )
    pipeline = build_pipeline(components, transformer, settings, device, plan)
    if uses_batched_guidance(settings):
        from mimix_core.wan.generation.classifier_free_guidance import BatchedCFG

        pipeline.transformer = BatchedCFG(
            transformer, embeddings[negative].to(device), settings.guidance_scale
        )
    stats |= {"streamed": int(plan.streamed), "tiled": int(plan.tiled)}
    return VideoGenerator(pipeline, embeddings, settings, stats)


def uses_batched_guidance(settings: SampleSettings) -> bool:
    """Return whether both passes of guidance are batched; a scale of 1 or less has one pass."""
    return settings.batched_guidance and settings.guidance_scale > 1


def plan_components(
    components: ComponentFolders, settings: SampleSettings, device: torch.device
) -> DevicePlan:
    """Plan where the components run; on a CPU nothing is streamed."""
    if device.type == "cpu":
        return DevicePlan(text_on_gpu=False, streamed=False, tiled=settings.vae_tiling == "on")
    import torch

    estimate = device_plan.estimate_memory(
        components.backbone,
        settings,
        text_encoder=components.text_encoder,
        transformer=components.transformer,
        vae=components.vae,
    )
    free, _ = torch.cuda.mem_get_info(device)
    return device_plan.plan_device(estimate, free, settings.offload, settings.vae_tiling)


def embed_prompts(
    components: ComponentFolders, texts: Sequence[str], device: torch.device, plan: DevicePlan
) -> dict[str, torch.Tensor]:
    """Embed each text as text_1LD, padded to 512 tokens, on the CPU; then free the text encoder.

    Texts are not batched, because an embedding's last bits depend on the other texts in a batch.
    """
    import torch

    from mimix_core.wan.flow_matching import pad_embeddings
    from mimix_core.wan.text_embeddings import TEXT_TOKENS, truncate_tokens

    interface = model_registry.load_interface(components.backbone)
    ids = interface.tokenize(interface.load_tokenizer(components.tokenizer), texts)
    encoder_device = device if plan.text_on_gpu else torch.device("cpu")
    encoder = interface.load_text_encoder(components.text_encoder, encoder_device)
    embeddings = {}
    for text, tokens in zip(texts, ids, strict=True):
        truncated = truncate_tokens(tokens, TEXT_TOKENS)
        [text_LD] = interface.embed_tokens(encoder, [truncated])
        embeddings[text] = pad_embeddings([text_LD])
    del encoder
    if encoder_device.type == "cuda":
        torch.cuda.empty_cache()
    return embeddings


def load_adapted_transformer(
    components: ComponentFolders,
    adapter: Adapter,
    where: str,
    settings: SampleSettings,
    device: torch.device,
    plan: DevicePlan,
) -> tuple[Any, dict[str, str | int | float]]:
    """Load the transformer with its adapter on ``device``; also return the choices made for it."""
    import torch

    from mimix_core.wan import lora
    from mimix_core.wan.generation import adapter_merging

    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    transformer = lora.load_transformer(components.transformer, dtype).eval()
    adapter_merging.check_adapter(transformer, adapter, where)
    if not plan.streamed:
        transformer.to(device)
    stored = adapter_merging.StoredWeights(components.transformer)
    adapter_merging.apply_changes(transformer, stored, adapter)
    mode = settings.adapter_mode
    if mode == "auto":
        mode = adapter_merging.select_adapter_mode(components.transformer, adapter, dtype)
    if mode == "merged":
        adapter_merging.merge_adapter(transformer, stored, adapter)
    else:
        adapter_merging.attach_trained_adapter(transformer, adapter)
    kernel, compiled = accelerate_inference(transformer, settings, device, streamed=plan.streamed)
    if plan.streamed:
        stream_blocks(transformer, device)
    return transformer, {
        "adapter": mode,
        "attention": kernel or "PyTorch's choice",
        "compiled": int(compiled),
    }


def accelerate_inference(
    transformer: Any, settings: SampleSettings, device: torch.device, *, streamed: bool
) -> tuple[AttentionKernel | None, bool]:
    """Replace the blocks' layers by those of ``wan.fast`` and compile the blocks, in place.

    Returns the attention kernel, and whether the blocks are compiled. Raises BadInput for a kernel
    that cannot run on ``device``, and for compiled blocks that are streamed.
    """
    import torch

    from mimix_core.wan.fast import layers
    from mimix_core.wan.fast.attention import select_kernel

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


def build_pipeline(
    components: ComponentFolders,
    transformer: Any,
    settings: SampleSettings,
    device: torch.device,
    plan: DevicePlan,
) -> Any:
    """Build the backbone's pipeline around a transformer, without a text encoder."""
    import diffusers

    vae = model_registry.load_interface(components.backbone).load_vae(
        components.vae, device, settings.vae_precision
    )
    if plan.tiled:
        vae.enable_tiling()
    pipeline = getattr(diffusers, components.backbone.pipeline_class)(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=load_scheduler(components, settings),
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def load_scheduler(components: ComponentFolders, settings: SampleSettings) -> Any:
    """Load the scheduler of the settings' solver; UniPC's is the backbone's own."""
    import diffusers

    from mimix_core.wan.generation.euler_scheduler import EqualStepsEulerScheduler

    if settings.solver == "euler":
        return EqualStepsEulerScheduler(shift=settings.shift)
    return diffusers.UniPCMultistepScheduler.from_pretrained(
        components.scheduler, flow_shift=settings.shift
    )
