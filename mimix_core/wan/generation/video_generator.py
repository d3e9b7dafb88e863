"""The backbone as it generates: texts embedded first and their encoder given up, then the rest.

UMT5 alone is as large as a third of the 14B; it is never in memory with it.
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
from mimix_core.wan.generation.device_plan import Placing
from mimix_core.wan.model_registry import Backbone

if TYPE_CHECKING:
    import torch

    from mimix_core.wan.fast.attention import Kernel
    from mimix_core.wan.lora_formats import Adapter


@dataclass(frozen=True)
class Parts:
    """The folders of the backbone's components."""

    backbone: Backbone
    transformer: Path
    vae: Path
    text_encoder: Path
    tokenizer: Path
    scheduler: Path


@dataclass(frozen=True)
class Generator:
    """A pipeline that is ready. ``texts``: text_1LD by text, on the CPU. ``how``: what was chosen
    for this machine, to be noted."""

    pipeline: Any
    texts: Mapping[str, torch.Tensor]
    settings: SampleSettings
    how: Mapping[str, str | int | float]

    def frames(
        self, prompt: str, seed: int, step: Callable[[int], None] = lambda _: None
    ) -> NDArray[np.uint8]:
        """The video of one of the texts, uint8 RGB frames_THWC; ``step(n)`` after each step.

        Raises ValueError for values that are no numbers.
        """
        from mimix_core.wan.generation import sampling

        def stepped(_pipeline: Any, number: int, _time: Any, kept: dict[str, Any]) -> Any:
            step(number + 1)
            return kept

        settings = self.settings
        device = self.pipeline.vae.device
        call: dict[str, Any] = {
            "prompt_embeds": self.texts[prompt].to(device),
            "guidance_scale": 1.0 if batched(settings) else settings.guidance,
        }
        if not batched(settings):
            call["negative_prompt_embeds"] = self.texts[settings.negative_prompt].to(device)
        latents_BCTHW = sampling.latents(
            self.pipeline,
            seed,
            width=settings.width,
            height=settings.height,
            num_frames=settings.frames,
            num_inference_steps=settings.steps,
            callback_on_step_end=stepped,
            **call,
        )
        return sampling.decode(self.pipeline.vae, latents_BCTHW)


def load(
    parts: Parts,
    adapter: Adapter,
    where: str,
    prompts: Sequence[str],
    settings: SampleSettings,
    device: torch.device,
) -> Generator:
    """Everything that generating these prompts takes, on ``device``.

    ``where`` names the adapter's file in errors. Raises BadInput for an adapter that does not fit
    the transformer, and for an attention kernel or compilation that cannot be had here.
    """
    placing = place(parts, settings, device)
    negative = settings.negative_prompt
    texts = embed(parts, [negative, *prompts], device, placing)
    transformer, how = load_transformer(parts, adapter, where, settings, device, placing)
    pipeline = assemble(parts, transformer, settings, device, placing)
    if batched(settings):
        from mimix_core.wan.generation.classifier_free_guidance import Guided

        pipeline.transformer = Guided(transformer, texts[negative].to(device), settings.guidance)
    said = {**how, "streamed": int(placing.streamed), "tiled": int(placing.tiled)}
    return Generator(pipeline, texts, settings, said)


def batched(settings: SampleSettings) -> bool:
    """Whether both passes of guidance are one; a guidance of 1 or less has but one pass."""
    return settings.guidance_batch and settings.guidance > 1


def place(parts: Parts, settings: SampleSettings, device: torch.device) -> Placing:
    """What goes where on ``device``; on a CPU nothing comes and goes."""
    if device.type == "cpu":
        return Placing(text_on_gpu=False, streamed=False, tiled=settings.vae_tiling == "on")
    import torch

    needed = device_plan.needs(
        parts.backbone,
        settings,
        text_encoder=parts.text_encoder,
        transformer=parts.transformer,
        vae=parts.vae,
    )
    free, _ = torch.cuda.mem_get_info(device)
    return device_plan.plan(needed, free, settings.offload, settings.vae_tiling)


def embed(
    parts: Parts, texts: Sequence[str], device: torch.device, placing: Placing
) -> dict[str, torch.Tensor]:
    """text_1LD of each text, padded to 512 tokens, on the CPU; the encoder is gone afterwards.

    One at a time: no text's values depend on its neighbours.
    """
    import torch

    from mimix_core.wan.flow_matching import TEXT_TOKENS, pad_text
    from mimix_core.wan.text_embeddings import cut

    rules = model_registry.rules(parts.backbone)
    ids = rules.tokens(rules.load_tokenizer(parts.tokenizer), texts)
    on = device if placing.text_on_gpu else torch.device("cpu")
    encoder = rules.load_text_encoder(parts.text_encoder, on)
    found = {
        text: pad_text(rules.embed(encoder, [cut(tokens, TEXT_TOKENS)]))
        for text, tokens in zip(texts, ids, strict=True)
    }
    del encoder
    if on.type == "cuda":
        torch.cuda.empty_cache()
    return found


def load_transformer(
    parts: Parts,
    adapter: Adapter,
    where: str,
    settings: SampleSettings,
    device: torch.device,
    placing: Placing,
) -> tuple[Any, dict[str, str | int | float]]:
    """The transformer with its adapter on ``device``, and what was chosen for it."""
    import torch

    from mimix_core.wan import lora
    from mimix_core.wan.generation import adapter_merging

    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    transformer = lora.load_transformer(parts.transformer, dtype).eval()
    adapter_merging.check(transformer, adapter, where)
    if not placing.streamed:
        transformer.to(device)
    best = adapter_merging.best_way(parts.transformer, adapter, dtype)
    way = best if settings.adapter == "auto" else settings.adapter
    if way == "merged":
        adapter_merging.merge(
            transformer, adapter_merging.StoredWeights(parts.transformer), adapter
        )
    else:
        adapter_merging.attach(transformer, adapter)
    kernel, compiled = accelerate(transformer, settings, device, streamed=placing.streamed)
    if placing.streamed:
        stream(transformer, device)
    return transformer, {
        "adapter": way,
        "attention": kernel or "PyTorch's choice",
        "compiled": int(compiled),
    }


def accelerate(
    transformer: Any, settings: SampleSettings, device: torch.device, *, streamed: bool
) -> tuple[Kernel | None, bool]:
    """Put the blocks on this project's operators (``wan.fast``) and compile them, in place.

    Gives the attention kernel, and whether they are compiled. Raises BadInput for a kernel that
    cannot run on ``device``, and for compiled blocks that are streamed.
    """
    import torch

    from mimix_core.wan.fast import layers
    from mimix_core.wan.fast.attention import pick_kernel

    head_width = transformer.config.attention_head_dim
    try:
        kernel = pick_kernel(settings.attention, device, head_width, settings.precision)
    except BadInput as error:
        raise BadInput(
            error.what,
            where="settings, key samples.attention",
            fix="Set samples.attention to auto.",
        ) from error
    if settings.compile == "on" and streamed:
        raise BadInput(
            "blocks that are streamed to the GPU are not compiled",
            where="settings, key samples.compile",
            fix="Set samples.compile to auto, or samples.offload to off.",
        )
    compiled = settings.compile == "on" or (
        settings.compile == "auto" and device.type == "cuda" and not streamed
    )
    for block in transformer.blocks:
        layers.swap(block, kernel, in_fp8=False)
        if compiled:
            block.compile(dynamic=False)
    if compiled:
        # One graph serves all blocks; a second size of video is a second one.
        torch._dynamo.config.recompile_limit = 128
    return kernel, compiled


def stream(transformer: Any, device: torch.device) -> None:
    """Keep the weights in this machine's memory; each block comes while the one before computes."""
    import torch

    transformer.enable_group_offload(
        onload_device=device,
        offload_device=torch.device("cpu"),
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=device.type == "cuda",
    )


def assemble(
    parts: Parts,
    transformer: Any,
    settings: SampleSettings,
    device: torch.device,
    placing: Placing,
) -> Any:
    """The backbone's pipeline around a transformer, without a text encoder."""
    import diffusers

    vae = model_registry.rules(parts.backbone).load_vae(parts.vae, device, settings.vae_precision)
    if placing.tiled:
        vae.enable_tiling()
    pipeline = getattr(diffusers, parts.backbone.pipeline)(
        tokenizer=None,
        text_encoder=None,
        vae=vae,
        scheduler=diffusers.UniPCMultistepScheduler.from_pretrained(
            parts.scheduler, flow_shift=settings.shift
        ),
        transformer=transformer,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline
