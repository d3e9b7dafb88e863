"""Stage ``videos``: generate a video for each prompt of a unit with the trained adapter.

A killed unit resumes with its unfinished videos. With several GPUs, each running unit has exclusive
use of one, or of as many as generate a video together (``engine.gpu_lease``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.domain.caption_grammar import CaptionVariant
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine.artifacts import digest_file
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings import SampleSettings
from mimix_core.tables import LAYOUTS, SAMPLES, Reason, Row
from mimix_core.wan import model_registry, tensor_shards, video_processes
from mimix_core.wan.generation import sampling
from mimix_core.wan.generation.partial_videos import PartialVideos
from mimix_core.wan.generation.provenance import VideoProvenance, write_video
from mimix_core.wan.generation.video_split import plan_split
from mimix_core.wan.samples_stage import VIDEO_FOLDER
from mimix_core.wan.text_embeddings import PROMPTS_CUT_NOTE, describe_truncated
from mimix_core.wan.video_unit import VideoUnit
from mimix_core.wan.videos_inputs import LowNoiseExpert, VideoInputs, load_adapters

if TYPE_CHECKING:
    import torch

__all__ = [
    "STAGE",
    "LowNoiseExpert",
    "VideoInputs",
    "generate_video",
    "run",
    "video_provenance",
    "write_video",
]

_NO_VIDEO: Row = {"file": "", "sha256": "", "frames": 0, "width": 0, "height": 0}


def run(inputs: VideoInputs, settings: SampleSettings, out: Path) -> StageReport:
    """Generate a video for every prompt; a prompt that fails becomes a failed row.

    Notes: the prompts that were truncated to the length of the text encoder, if any, and with
    layouts the number of prompts that have one; the others start from noise alone.
    Runtime stats: the numbers of videos generated and found, the seconds per video and for loading,
    and the execution choices for this machine. Raises BadInput, before any model is loaded, for a
    size or split that the backbone does not support, and for an adapter of another base model or
    shape; Transient when the device is out of memory.
    """
    _check_size(inputs, settings)
    split = plan_split(settings, model_registry.get_backbone(inputs.backbone_name))
    adapters, lora_sha256s = load_adapters(inputs, settings)
    layouts = _read_layouts(inputs, settings)
    provenance = {
        prompt.id: video_provenance(
            prompt, inputs, settings, lora_sha256s, layouts.get(prompt.id, (None, ""))[1]
        )
        for prompt in inputs.prompts
    }
    (out / VIDEO_FOLDER).mkdir()
    key = STAGE.key(inputs, settings)
    with tensor_shards.open_partial_results(inputs.partial_results, STAGE.name, key) as results:
        refs = {name: ref for name, (ref, _) in layouts.items()}
        unit = VideoUnit(inputs, settings, provenance, refs, PartialVideos(results.folder))
        unit.load_finished()
        if len(unit.done) < len(provenance):
            if settings.gpus_per_video == 1:
                unit.generate(adapters)
            else:
                video_processes.generate_together(unit, split)
        rows = [_video_row(unit, prompt, out) for prompt in inputs.prompts]
    truncated = _describe_truncated_prompts(inputs, provenance)
    notes = {PROMPTS_CUT_NOTE: truncated} if truncated else {}
    if inputs.layouts is not None:
        notes["started_from_cutouts"] = f"{len(layouts)} of {len(inputs.prompts)}"
    return StageReport(
        rows=rows,
        rows_in=len(inputs.prompts),
        notes=notes,
        runtime_stats=unit.runtime_stats,
    )


def video_provenance(
    prompt: VideoPrompt,
    inputs: VideoInputs,
    settings: SampleSettings,
    lora_sha256s: Sequence[str],
    layout_sha256: str = "",
) -> VideoProvenance:
    """Return everything that a prompt's video depends on.

    ``lora_sha256s``: digest of the adapter file of each transformer, "" without one.
    """
    from mimix_core.engine.torch_runtime import derive_seed

    low_noise: dict[str, Any] = {}
    if inputs.low_noise is not None:
        low_noise = {
            "low_noise_base_sha256": inputs.low_noise.transformer.sha256,
            "low_noise_lora_sha256": lora_sha256s[1],
            "low_noise_guidance": settings.low_noise_guidance,
        }
    return VideoProvenance(
        prompt=prompt.render(CaptionVariant(settings.variant)),
        negative_prompt=settings.negative_prompt,
        # Derived from the prompt's id alone: adding or removing prompts does not change the videos
        # of the others, and all variants of a prompt start from the same noise.
        seed=derive_seed(settings.seed, prompt.id),
        width=settings.width,
        height=settings.height,
        frames=settings.num_frames,
        frame_rate=inputs.frame_rate,
        steps=settings.num_inference_steps,
        guidance=settings.guidance_scale,
        shift=settings.shift,
        precision=settings.precision,
        vae_precision=settings.vae_precision,
        backbone=inputs.backbone_name,
        base_sha256=inputs.transformer.sha256,
        lora_sha256=lora_sha256s[0],
        lora_weight=settings.adapter_weight,
        adapters=tuple(
            (file.sha256, chosen.weight, chosen.expert)
            if chosen.expert
            else (file.sha256, chosen.weight)
            for file, chosen in zip(inputs.adapters, settings.adapters, strict=True)
        ),
        **low_noise,
        solver=settings.solver,
        step_cache=settings.step_cache,
        start_sha256=layout_sha256,
        start_strength=settings.start_strength if layout_sha256 else 0.0,
        start_frequency=settings.start_frequency if layout_sha256 else 0.0,
    )


def _read_layouts(
    inputs: VideoInputs, settings: SampleSettings
) -> dict[str, tuple[tensor_shards.TensorRef, str]]:
    """Return the layout of each prompt that has one, with its digest.

    Raises BadInput if videos shall start from cutouts and the table of layouts is missing.
    """
    if settings.start == "noise":
        return {}
    if inputs.layouts is None:
        raise BadInput(
            "videos shall start from cutouts, but the table of layouts is missing",
            where=f"stage videos ({inputs.unit})",
            fix="Set samples.start to noise, or run the stage layouts.",
        )
    rows = tables.usable(tables.read(inputs.layouts.path, LAYOUTS))
    return {
        row["prompt_id"]: (tensor_shards.tensor_ref(inputs.layouts, row), row["sha256"])
        for row in rows
    }


def generate_video(
    pipeline: Any,
    seed: int,
    *,
    decode: Callable[[Any, torch.Tensor], NDArray[np.uint8]] = sampling.decode_latents,
    **call: Any,
) -> NDArray[np.uint8]:
    """Generate a video, uint8 RGB frames_THWC; ``call``: arguments of ``WanPipeline.__call__``.

    ``decode``: the backbone's ``decode_latents``. Raises ValueError for non-finite values.
    """
    return decode(pipeline.vae, sampling.denoise(pipeline, seed, **call))


def _describe_truncated_prompts(
    inputs: VideoInputs, provenance: Mapping[str, VideoProvenance]
) -> str:
    """Describe which prompts the text encoder cannot read completely; empty if none."""
    backbone = model_registry.get_backbone(inputs.backbone_name)
    interface = model_registry.load_interface(backbone)
    texts = {prompt_id: made.prompt for prompt_id, made in provenance.items()}
    for made in provenance.values():
        texts["samples.negative_prompt"] = made.negative_prompt
    tokenizer = interface.load_tokenizer(inputs.tokenizer.path)
    ids = interface.tokenize(tokenizer, list(texts.values()))
    return describe_truncated(zip(texts, map(len, ids), strict=True), backbone.text_tokens)


def _check_size(inputs: VideoInputs, settings: SampleSettings) -> None:
    backbone = model_registry.get_backbone(inputs.backbone_name)
    problem = backbone.size_error(settings.num_frames, settings.width, settings.height)
    if problem is not None:
        raise BadInput(problem, where="settings, keys samples.num_frames, .width and .height")


def _video_row(unit: VideoUnit, prompt: VideoPrompt, out: Path) -> Row:
    provenance = unit.provenance[prompt.id]
    shared: Row = {
        "prompt_id": prompt.id,
        "category": prompt.category,
        "prompt": provenance.prompt,
        "characters": list(prompt.characters),
        "backbone": provenance.backbone,
        "seed": provenance.seed,
    }
    if prompt.id in unit.failed:
        return tables.failed(
            Reason.GENERATION_FAILED, unit.failed[prompt.id], **shared, **_NO_VIDEO
        )
    name = f"{VIDEO_FOLDER}/{prompt.id}.mp4"
    shutil.copyfile(unit.done[prompt.id], out / name)
    return tables.ok(
        **shared,
        file=name,
        sha256=digest_file(out / name),
        frames=provenance.frames,
        width=provenance.width,
        height=provenance.height,
    )


STAGE = Stage(
    name="videos",
    title="Generation",
    description="Generate a video for each prompt with the trained adapter.",
    row_noun="prompts",
    phase=Phase.GENERATION,
    upstream=("backbone", "lora", "layouts"),
    resources=frozenset({Resource.CPU, Resource.GPU}),
    version=2,
    inputs=VideoInputs,
    settings=SampleSettings,
    table=SAMPLES,
    run=run,
)
