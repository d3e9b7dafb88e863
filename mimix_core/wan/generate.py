"""Stage ``samples``: a video for each prompt, by WanPipeline with the trained adapter."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from mimix_core import progress, tables
from mimix_core.benchmark.prompts import Prompt, load_prompts
from mimix_core.errors import BadInput
from mimix_core.keys import Immaterial
from mimix_core.media.encode import ClipWriter, EncodeFailed
from mimix_core.refs import FileRef, Frozen, TableRef, digest_file
from mimix_core.settings import SampleSettings
from mimix_core.stage import Stage, StageReport
from mimix_core.tables import SAMPLES, Reason, Row

if TYPE_CHECKING:
    import torch

_CRF, _PRESET = 16, "fast"


class SampleInputs(Frozen):
    """Prompts, the names they may use, the backbone's components and the adapter."""

    unit: Annotated[str, Immaterial()]
    prompts: FileRef
    roster: tuple[str, ...]
    backbone_name: str
    transformer: FileRef
    vae: FileRef
    text_encoder: FileRef
    tokenizer: FileRef
    scheduler: FileRef
    lora: TableRef


def run(inputs: SampleInputs, settings: SampleSettings, out: Path) -> StageReport:
    """Generate every prompt's video; a prompt that breaks fails alone.

    Raises BadInput for a wrong prompts file, before any model is loaded.
    """
    prompts = load_prompts(inputs.prompts.path, inputs.roster)
    from mimix_core.wan.runtime import pick_device, pin_threads

    pin_threads(settings.threads)
    pipeline = load_pipeline(inputs, settings, pick_device(settings.device))
    (out / "samples").mkdir()
    rows: list[Row] = []
    for number, prompt in enumerate(prompts):
        progress.advance(number, len(prompts), prompt.id)
        rows.append(_row(inputs, settings, out, prompt, pipeline))
    progress.advance(len(prompts), len(prompts))
    return StageReport(rows=rows, rows_in=len(prompts))


def _row(
    inputs: SampleInputs, settings: SampleSettings, out: Path, prompt: Prompt, pipeline: Any
) -> Row:
    from mimix_core.wan.runtime import seed_of

    name = f"samples/{prompt.id}.mp4"
    # Of the prompt alone, so that a prompt's video stays when others come or go.
    seed = seed_of(settings.seed, prompt.id)
    same: Row = {
        "prompt_id": prompt.id,
        "category": prompt.category,
        "prompt": prompt.text(),
        "characters": list(prompt.characters),
        "backbone": inputs.backbone_name,
        "seed": seed,
    }
    try:
        frames_THWC = generate(pipeline, prompt.text(), seed, settings)
        write_video(out / name, frames_THWC)
    except (RuntimeError, ValueError, EncodeFailed) as error:
        detail = f"{type(error).__name__}: {error}"
        empty = {"file": "", "sha256": "", "frames": 0, "width": 0, "height": 0}
        return tables.failed(Reason.GENERATION_FAILED, detail, **same, **empty)
    frames, height, width, _ = frames_THWC.shape
    return tables.ok(
        **same,
        file=name,
        sha256=digest_file(out / name),
        frames=frames,
        width=width,
        height=height,
    )


def load_pipeline(inputs: SampleInputs, settings: SampleSettings, device: torch.device) -> Any:
    """``WanPipeline`` of the components, with the adapter and the settings' shift.

    The VAE is in fp32, the text encoder as its weights are stored. Raises BadInput when the
    adapter was not trained on the transformer, or does not fit it.
    """
    import torch
    from diffusers import UniPCMultistepScheduler, WanPipeline, WanTransformer3DModel

    from mimix_core.wan import export, text
    from mimix_core.wan.vae import load_vae

    adapter = inputs.lora.folder / export.FILE
    export.check_base(adapter, inputs.backbone_name, inputs.transformer.sha256)

    tokenizer, text_encoder = text.load(inputs.tokenizer.path, inputs.text_encoder.path, device)
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    pipeline = WanPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=load_vae(inputs.vae.path, device),
        scheduler=UniPCMultistepScheduler.from_pretrained(
            inputs.scheduler.path, flow_shift=settings.shift
        ),
        transformer=WanTransformer3DModel.from_pretrained(
            inputs.transformer.path, torch_dtype=dtype
        ).to(device),
    )
    try:
        pipeline.load_lora_weights(adapter.parent, weight_name=adapter.name)
    except (RuntimeError, ValueError, OSError) as error:
        raise BadInput(
            f"the adapter does not fit this transformer: {error}",
            where=str(adapter),
            fix="Train it on the backbone that the settings name.",
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def generate(pipeline: Any, prompt: str, seed: int, settings: SampleSettings) -> NDArray[np.uint8]:
    """One video, uint8 RGB frames_THWC."""
    return video(
        pipeline,
        seed,
        prompt=prompt,
        width=settings.width,
        height=settings.height,
        num_frames=settings.frames,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
    )


def video(pipeline: Any, seed: int, **call: Any) -> NDArray[np.uint8]:
    """One video, uint8 RGB frames_THWC; ``call`` as ``WanPipeline.__call__`` takes it.

    The noise is drawn on the CPU: the same on any device. Raises ValueError for values that are no
    numbers.
    """
    import torch

    video_BTHWC = pipeline(
        generator=torch.Generator().manual_seed(seed), output_type="np", **call
    ).frames
    if not np.isfinite(video_BTHWC).all():
        raise ValueError("the video holds values that are no numbers")
    frames_THWC: NDArray[np.uint8] = (video_BTHWC[0] * 255).round().astype(np.uint8)
    return frames_THWC


def write_video(path: Path, frames_THWC: NDArray[np.uint8]) -> None:
    """Write RGB frames as a 16 frames/s clip. Raises EncodeFailed."""
    _, height, width, _ = frames_THWC.shape
    with ClipWriter(path, width, height, crf=_CRF, preset=_PRESET) as writer:
        for image_HWC in frames_THWC:
            writer.write_rgb(image_HWC)


STAGE = Stage(
    name="samples",
    version=1,
    inputs=SampleInputs,
    settings=SampleSettings,
    table=SAMPLES,
    run=run,
)
