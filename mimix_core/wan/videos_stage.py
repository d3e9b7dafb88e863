"""Stage ``videos``: generate a video for each prompt of a unit with the trained adapter.

A killed unit resumes with its unfinished videos. With several GPUs, each running unit has exclusive
use of one (``engine.gpu_lease``).
"""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.domain.caption_grammar import CaptionVariant
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine import progress
from mimix_core.engine.artifacts import digest_file
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.media.encode import EncodeFailed
from mimix_core.settings import SampleSettings
from mimix_core.tables import LAYOUTS, SAMPLES, Reason, Row
from mimix_core.wan import model_registry, tensor_shards
from mimix_core.wan.generation.partial_videos import PartialVideos
from mimix_core.wan.generation.provenance import VideoProvenance, write_video
from mimix_core.wan.generation.video_generator import ComponentFolders
from mimix_core.wan.samples_stage import VIDEO_FOLDER
from mimix_core.wan.text_embeddings import PROMPTS_CUT_NOTE, TEXT_TOKENS, describe_truncated
from mimix_core.wan.videos_inputs import LowNoiseExpert, VideoInputs, adapter_files, load_adapters

__all__ = [
    "STAGE",
    "LowNoiseExpert",
    "VideoInputs",
    "generate_video",
    "run",
    "video_provenance",
    "write_video",
]

if TYPE_CHECKING:
    import torch

    from mimix_core.wan.generation.video_generator import VideoGenerator
    from mimix_core.wan.lora_formats import Adapter

_NO_VIDEO: Row = {"file": "", "sha256": "", "frames": 0, "width": 0, "height": 0}


def run(inputs: VideoInputs, settings: SampleSettings, out: Path) -> StageReport:
    """Generate a video for every prompt; a prompt that fails becomes a failed row.

    Notes: the prompts that were truncated to the length of the text encoder, if any, and with
    layouts the number of prompts that have one; the others start from noise alone.
    Runtime stats: the numbers of videos generated and found, the seconds per video and for loading,
    and the execution choices for this machine. Raises BadInput, before any model is loaded, for a
    size that the backbone does not support and for an adapter of another base model or shape;
    Transient when the device is out of memory.
    """
    _check_size(inputs, settings)
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
        unit = _VideoUnit(inputs, settings, provenance, refs, PartialVideos(results.folder))
        unit.load_finished()
        if len(unit.done) < len(provenance):
            unit.generate(adapters)
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


def generate_video(pipeline: Any, seed: int, **call: Any) -> NDArray[np.uint8]:
    """Generate a video, uint8 RGB frames_THWC; ``call``: arguments of ``WanPipeline.__call__``.

    Raises ValueError for non-finite values.
    """
    from mimix_core.wan.generation import sampling

    return sampling.decode_latents(pipeline.vae, sampling.denoise(pipeline, seed, **call))


def _describe_truncated_prompts(
    inputs: VideoInputs, provenance: Mapping[str, VideoProvenance]
) -> str:
    """Describe which prompts the text encoder cannot read completely; empty if none."""
    interface = model_registry.load_interface(model_registry.get_backbone(inputs.backbone_name))
    texts = {prompt_id: made.prompt for prompt_id, made in provenance.items()}
    for made in provenance.values():
        texts["samples.negative_prompt"] = made.negative_prompt
    tokenizer = interface.load_tokenizer(inputs.tokenizer.path)
    ids = interface.tokenize(tokenizer, list(texts.values()))
    return describe_truncated(zip(texts, map(len, ids), strict=True), TEXT_TOKENS)


def _check_size(inputs: VideoInputs, settings: SampleSettings) -> None:
    backbone = model_registry.get_backbone(inputs.backbone_name)
    problem = backbone.size_error(settings.num_frames, settings.width, settings.height)
    if problem is not None:
        raise BadInput(problem, where="settings, keys samples.num_frames, .width and .height")


@dataclass
class _VideoUnit:
    """Generates the videos of one unit: finished and failed prompts, and timings."""

    inputs: VideoInputs
    settings: SampleSettings
    provenance: dict[str, VideoProvenance]
    layouts: Mapping[str, tensor_shards.TensorRef]
    partial_videos: PartialVideos
    done: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    runtime_stats: dict[str, str | int | float] = field(default_factory=dict)

    def load_finished(self) -> None:
        """Find the videos that an earlier attempt finished."""
        for prompt_id, provenance in self.provenance.items():
            path = self.partial_videos.get(provenance)
            if path is not None:
                self.done[prompt_id] = path
        self.runtime_stats["found"] = len(self.done)

    def generate(self, adapters: Sequence[Adapter | None]) -> None:
        """Generate the missing videos."""
        from mimix_core.engine.gpu_lease import acquire_device
        from mimix_core.engine.torch_runtime import set_num_threads

        set_num_threads(self.settings.threads)
        self._report_progress(0, "waiting for a free device")
        with acquire_device(self.settings.device) as device:
            self._generate(adapters, device)
            # The pipeline and its hooks form a reference cycle, which holds GPU memory.
            gc.collect()

    def _generate(self, adapters: Sequence[Adapter | None], device: torch.device) -> None:
        from mimix_core.wan.generation import video_generator

        missing = {
            prompt_id: provenance
            for prompt_id, provenance in self.provenance.items()
            if prompt_id not in self.done
        }
        started = time.monotonic()
        self._report_progress(0, "loading the model")
        generator = video_generator.load_generator(
            _component_folders(self.inputs),
            adapters[0],
            ", ".join(map(str, adapter_files(self.inputs))),
            sorted({provenance.prompt for provenance in missing.values()}),
            self.settings,
            device,
            *adapters[1:],
        )
        loaded = time.monotonic()
        for prompt_id, provenance in missing.items():
            self._generate_one(generator, prompt_id, provenance)
        self.runtime_stats |= {
            **generator.runtime_stats,
            "device": str(device),
            "generated": len(missing) - len(self.failed),
            "seconds_to_load": round(loaded - started, 3),
            "seconds_per_video": round((time.monotonic() - loaded) / len(missing), 3),
        }

    def _generate_one(
        self, generator: VideoGenerator, prompt_id: str, provenance: VideoProvenance
    ) -> None:
        import torch

        layout = self.layouts.get(prompt_id)
        try:
            frames_THWC = generator.generate(
                provenance.prompt,
                provenance.seed,
                lambda step: self._report_progress(step, prompt_id),
                None if layout is None else tensor_shards.read_latents(layout),
            )
            self.done[prompt_id] = self.partial_videos.put(
                provenance,
                lambda path: write_video(path, frames_THWC, provenance.to_json()),
            )
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # a fault of the device, not of this prompt
        except (RuntimeError, ValueError, EncodeFailed) as error:
            self.failed[prompt_id] = f"{type(error).__name__}: {error}"

    def _report_progress(self, step: int, note: str) -> None:
        steps = self.settings.num_inference_steps
        done = (len(self.done) + len(self.failed)) * steps + step
        progress.report_progress(done, len(self.provenance) * steps, note)


def _component_folders(inputs: VideoInputs) -> ComponentFolders:
    return ComponentFolders(
        backbone=model_registry.get_backbone(inputs.backbone_name),
        transformer=inputs.transformer.path,
        vae=inputs.vae.path,
        text_encoder=inputs.text_encoder.path,
        tokenizer=inputs.tokenizer.path,
        scheduler=inputs.scheduler.path,
        transformer_2=inputs.low_noise.transformer.path if inputs.low_noise else None,
    )


def _video_row(unit: _VideoUnit, prompt: VideoPrompt, out: Path) -> Row:
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
