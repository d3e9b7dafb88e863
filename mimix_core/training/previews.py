"""Short videos of fixed prompts by the adapter in training: always with the same noise."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mimix_core.settings import LoraSettings
from mimix_core.training.worker_messages import PreviewConfig

if TYPE_CHECKING:
    import torch

PREVIEW_FOLDER = "previews"
# What Wan's own pipeline is guided away from when nothing is said: the empty prompt.
_NEGATIVE = "negative"
_MAX_TOKENS = 512


def embed_preview_prompts(
    path: Path, prompts: Sequence[str], backbone: str, tokenizer: Path, text_encoder: Path
) -> None:
    """Write what ``Preview.prompts`` names, for these prompts, on the CPU.

    There are few, and the GPUs' memory is the training's.
    """
    import torch

    from mimix_core.wan import model_registry, safetensors_io, text_embeddings

    interface = model_registry.load_interface(model_registry.get_backbone(backbone))
    encoder = interface.load_text_encoder(text_encoder, torch.device("cpu"))
    ids = interface.tokenize(interface.load_tokenizer(tokenizer), ["", *prompts])
    # One at a time: no text's values depend on its neighbours.
    embedded = [
        interface.embed_tokens(encoder, [text_embeddings.truncate_tokens(one, _MAX_TOKENS)])[0]
        for one in ids
    ]
    names = [_NEGATIVE, *(str(number) for number in range(len(prompts)))]
    safetensors_io.write_tensors(path, dict(zip(names, embedded, strict=True)))


def preview_path(step: int, number: int) -> str:
    """Where the video of a prompt after so many steps lies, relative to the run's folder."""
    return f"{PREVIEW_FOLDER}/step-{step:06d}/{number}.mp4"


def preview_seed(settings: LoraSettings, number: int) -> int:
    """Of a prompt's noise, the same at every step."""
    from mimix_core.engine.torch_runtime import derive_seed

    return derive_seed(settings.seed, "preview", number)


def build_preview_pipeline(transformer: Any, preview: PreviewConfig, device: torch.device) -> Any:
    """The backbone's pipeline around the transformer in training, without a text encoder."""
    import diffusers

    from mimix_core.wan import model_registry

    found = model_registry.get_backbone(preview.backbone)
    made = getattr(diffusers, found.pipeline_class)(
        tokenizer=None,
        text_encoder=None,
        vae=model_registry.load_interface(found).load_vae(preview.vae, device, "fp32"),
        scheduler=diffusers.UniPCMultistepScheduler.from_pretrained(preview.scheduler),
        transformer=transformer,
    )
    made.set_progress_bar_config(disable=True)
    return made


def write_previews(
    made: Any,
    preview: PreviewConfig,
    settings: LoraSettings,
    folder: Path,
    step: int,
    *,
    rank: int,
    processes: int,
) -> None:
    """Write this process's share of the videos; all processes call it together.

    Raises what generating raises: a preview that cannot be made ends the training, at the first
    step that has one.
    """
    from mimix_core.wan import flow_matching, safetensors_io, videos_stage

    device = made.vae.device
    text_1LD = {
        name: flow_matching.pad_embeddings([text_LD]).to(device)
        for name, text_LD in safetensors_io.read_tensors(preview.prompts).items()
    }
    count = len(settings.preview_prompts)
    with _evaluating(made.transformer):
        for turn in range(math.ceil(count / processes)):
            number = turn * processes + rank
            # With ZeRO 3 a forward pass needs all processes: one without a prompt repeats one.
            frames_THWC = videos_stage.generate_video(
                made,
                preview_seed(settings, min(number, count - 1)),
                prompt_embeds=text_1LD[str(min(number, count - 1))],
                negative_prompt_embeds=text_1LD[_NEGATIVE],
                width=settings.preview_width,
                height=settings.preview_height,
                num_frames=settings.preview_num_frames,
                num_inference_steps=settings.preview_num_inference_steps,
                guidance_scale=settings.preview_guidance_scale,
            )
            if number < count:
                path = folder / preview_path(step, number)
                path.parent.mkdir(parents=True, exist_ok=True)
                videos_stage.write_video(path, frames_THWC)


@contextmanager
def _evaluating(transformer: Any) -> Iterator[None]:
    transformer.eval()
    try:
        yield
    finally:
        transformer.train()
