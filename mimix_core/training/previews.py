"""Generate preview videos during training: fixed prompts, always with the same noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimix_core.settings import LoraSettings
from mimix_core.training.worker_messages import PreviewConfig, TrainingStopped

if TYPE_CHECKING:
    import torch

    from mimix_core.training.distributed import DistributedContext

PREVIEW_FOLDER = "previews"
# Key of the negative prompt.
_NEGATIVE = "negative"


def embed_preview_prompts(
    path: Path,
    prompts: Sequence[str],
    negative_prompt: str,
    backbone: str,
    tokenizer: Path,
    text_encoder: Path,
) -> str:
    """Embed these prompts on the CPU and write the file ``PreviewConfig.prompts``.

    They are few, and training needs the GPUs' memory. Returns which are too long for the text
    encoder and were truncated; empty if none is.
    """
    import torch

    from mimix_core.wan import model_registry, safetensors_io, text_embeddings

    max_tokens = model_registry.get_backbone(backbone).text_tokens
    interface = model_registry.load_interface(model_registry.get_backbone(backbone))
    encoder = interface.load_text_encoder(text_encoder, torch.device("cpu"))
    texts = [negative_prompt, *prompts]
    ids = interface.tokenize(interface.load_tokenizer(tokenizer), texts)
    # Not batched: an embedding's last bits depend on the other texts in a batch.
    embedded = [
        text_embeddings.check_finite_embedding(
            interface.embed_tokens(encoder, [text_embeddings.truncate_tokens(tokens, max_tokens)])[
                0
            ],
            text,
        )
        for text, tokens in zip(texts, ids, strict=True)
    ]
    names = [_NEGATIVE, *(str(number) for number in range(len(prompts)))]
    safetensors_io.write_tensors(path, dict(zip(names, embedded, strict=True)))
    labels = ["samples.negative_prompt"]
    labels += [f"lora.preview_prompts[{number}]" for number in range(len(prompts))]
    lengths = [len(tokens) for tokens in ids]
    return text_embeddings.describe_truncated(zip(labels, lengths, strict=True), max_tokens)


def preview_path(step: int, number: int) -> str:
    """Return the path of a prompt's video after ``step`` steps, relative to the run's folder."""
    return f"{PREVIEW_FOLDER}/step-{step:06d}/{number}.mp4"


def preview_seed(settings: LoraSettings, number: int) -> int:
    """Return the seed of a prompt's noise, the same at every step."""
    from mimix_core.engine.torch_runtime import derive_seed

    return derive_seed(settings.seed, "preview", number)


def build_preview_pipeline(transformer: Any, preview: PreviewConfig, device: torch.device) -> Any:
    """Build the backbone's pipeline around the transformer in training, without a text encoder.

    The other expert of two stays in main memory: its blocks are copied to the GPU one by one.
    """
    import diffusers

    from mimix_core.wan import model_registry
    from mimix_core.wan.generation.velocity_pipeline import VelocityPipeline
    from mimix_core.wan.generation.video_generator import stream_blocks

    backbone = model_registry.get_backbone(preview.backbone)
    interface = model_registry.load_interface(backbone)
    vae = interface.load_vae(preview.vae, device, "fp32")
    if interface.load_scheduler is not None:
        scheduler = interface.load_scheduler(preview.scheduler, preview.shift)
        return VelocityPipeline(transformer, vae, scheduler, backbone.vae_stride)
    experts: dict[str, Any] = {_trained_component(preview): transformer}
    if preview.other_expert is not None:
        other = interface.load_transformer(preview.other_expert, transformer.dtype).eval()
        if device.type == "cuda":
            stream_blocks(other, device)
        [component] = {expert.component for expert in backbone.experts} - experts.keys()
        experts |= {component: other, "boundary_ratio": backbone.boundary}
    pipeline = getattr(diffusers, backbone.pipeline_class)(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=diffusers.UniPCMultistepScheduler.from_pretrained(
            preview.scheduler, flow_shift=preview.shift
        ),
        **experts,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _trained_component(preview: PreviewConfig) -> str:
    """Return the pipeline's name of the transformer in training."""
    from mimix_core.wan import model_registry

    if preview.expert is None:
        return "transformer"
    return model_registry.get_backbone(preview.backbone).expert(preview.expert).component


def write_previews(
    pipeline: Any,
    preview: PreviewConfig,
    settings: LoraSettings,
    folder: Path,
    step: int,
    *,
    context: DistributedContext,
    stop_requested: Callable[[], bool],
) -> None:
    """Generate and write this process's share of the videos; a collective call.

    Exceptions of generation propagate: a failing preview ends the training, at the first step with
    previews. Raises TrainingStopped after a denoising step, in all processes after the same one.
    """
    from mimix_core.training.distributed import any_rank
    from mimix_core.wan import flow_matching, model_registry, safetensors_io, videos_stage

    interface = model_registry.load_interface(model_registry.get_backbone(preview.backbone))

    def callback(_pipeline: Any, index: int, _timestep: Any, tensors: dict[str, Any]) -> Any:
        if any_rank(stop_requested(), context):
            raise TrainingStopped(f"in the previews, {index + 1} denoising steps of a video done")
        return tensors

    device = pipeline.vae.device
    text_1LD = {
        name: flow_matching.pad_embeddings([text_LD]).to(device)
        for name, text_LD in safetensors_io.read_tensors(preview.prompts).items()
    }
    count = len(settings.preview_prompts)
    with _eval_mode(getattr(pipeline, _trained_component(preview))):
        for turn in range(math.ceil(count / context.world_size)):
            number = turn * context.world_size + context.rank
            # With ZeRO 3 a forward pass needs all processes; spare ones repeat the last prompt.
            frames_THWC = videos_stage.generate_video(
                pipeline,
                preview_seed(settings, min(number, count - 1)),
                decode=interface.decode_latents,
                prompt_embeds=text_1LD[str(min(number, count - 1))],
                negative_prompt_embeds=text_1LD[_NEGATIVE],
                width=settings.preview_width,
                height=settings.preview_height,
                num_frames=settings.preview_num_frames,
                num_inference_steps=settings.preview_num_inference_steps,
                guidance_scale=settings.preview_guidance_scale,
                callback_on_step_end=callback,
            )
            if number < count:
                path = folder / preview_path(step, number)
                path.parent.mkdir(parents=True, exist_ok=True)
                videos_stage.write_video(path, frames_THWC, Fraction(preview.frame_rate))


@contextmanager
def _eval_mode(transformer: Any) -> Iterator[None]:
    transformer.eval()
    try:
        yield
    finally:
        transformer.train()
