"""Stage ``videos``: a video for each prompt of a unit, by the backbone with the trained adapter.

A unit that was killed goes on with the videos it had not finished. With several GPUs each unit at
work has one to itself (``wan.device``).
"""

from __future__ import annotations

import gc
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray

from mimix_core import tables
from mimix_core.domain.caption_grammar import Variant
from mimix_core.domain.prompts import Prompt
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef, digest_file
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.media.encode import EncodeFailed
from mimix_core.settings import SampleSettings
from mimix_core.tables import SAMPLES, Reason, Row
from mimix_core.wan import model_registry, tensor_shards
from mimix_core.wan.generation.partial_videos import Kept
from mimix_core.wan.generation.provenance import Recipe, write_video
from mimix_core.wan.generation.video_generator import Parts
from mimix_core.wan.samples_stage import FOLDER

__all__ = ["STAGE", "VideoInputs", "recipe", "run", "video", "write_video"]

if TYPE_CHECKING:
    import torch

    from mimix_core.wan.generation.video_generator import Generator
    from mimix_core.wan.lora_formats import Adapter

_EMPTY: Row = {"file": "", "sha256": "", "frames": 0, "width": 0, "height": 0}


class VideoInputs(FrozenModel):
    """Prompts, the backbone's components and the adapter.

    ``parts``: where finished videos of a unit under way lie.
    """

    unit: Annotated[str, ExcludeFromKey()]
    prompts: tuple[Prompt, ...]
    backbone_name: str
    transformer: FileRef
    vae: FileRef
    text_encoder: FileRef
    tokenizer: FileRef
    scheduler: FileRef
    lora: TableRef
    parts: Annotated[Path, ExcludeFromKey()]


def run(inputs: VideoInputs, settings: SampleSettings, out: Path) -> StageReport:
    """Generate every prompt's video; a prompt that breaks fails alone.

    Effort: how many videos were made now and how many were found, the seconds of each and of what
    comes before, and what was chosen for this machine. Raises BadInput for a size that the backbone
    does not take and for an adapter of another base, before any model is loaded; Transient when the
    device has no memory left.
    """
    _check_size(inputs, settings)
    adapter, lora_sha256 = _adapter(inputs)
    recipes = {
        prompt.id: recipe(prompt, inputs, settings, lora_sha256) for prompt in inputs.prompts
    }
    (out / FOLDER).mkdir()
    with tensor_shards.unit_parts(inputs.parts, STAGE.name, STAGE.key(inputs, settings)) as parts:
        work = _Work(inputs, settings, recipes, Kept(parts.folder))
        work.find()
        if len(work.done) < len(recipes):
            work.generate(adapter)
        rows = [_row(work, prompt, out) for prompt in inputs.prompts]
    return StageReport(rows=rows, rows_in=len(inputs.prompts), runtime_stats=work.effort)


def recipe(
    prompt: Prompt, inputs: VideoInputs, settings: SampleSettings, lora_sha256: str
) -> Recipe:
    """What a prompt's video is made of."""
    from mimix_core.engine.torch_runtime import derive_seed

    return Recipe(
        prompt=prompt.text(Variant(settings.variant)),
        negative_prompt=settings.negative_prompt,
        # Of the prompt alone, so that a prompt's video stays when others come or go, and each
        # variant of a prompt starts from the same noise.
        seed=derive_seed(settings.seed, prompt.id),
        width=settings.width,
        height=settings.height,
        frames=settings.frames,
        steps=settings.steps,
        guidance=settings.guidance,
        shift=settings.shift,
        precision=settings.precision,
        vae_precision=settings.vae_precision,
        backbone=inputs.backbone_name,
        base_sha256=inputs.transformer.sha256,
        lora_sha256=lora_sha256,
    )


def video(pipeline: Any, seed: int, **call: Any) -> NDArray[np.uint8]:
    """One video, uint8 RGB frames_THWC; ``call`` as ``WanPipeline.__call__`` takes it.

    Raises ValueError for values that are no numbers.
    """
    from mimix_core.wan.generation import sampling

    return sampling.decode(pipeline.vae, sampling.latents(pipeline, seed, **call))


def _adapter(inputs: VideoInputs) -> tuple[Adapter, str]:
    """The adapter and its file's digest. Raises BadInput unless it was trained on the base."""
    from mimix_core.wan import lora_export

    path = _adapter_file(inputs)
    lora_export.check_base(path, inputs.backbone_name, inputs.transformer.sha256)
    adapter, _ = lora_export.read(path)
    return adapter, digest_file(path)


def _adapter_file(inputs: VideoInputs) -> Path:
    from mimix_core.wan import lora_export

    return inputs.lora.folder / lora_export.FILE


def _check_size(inputs: VideoInputs, settings: SampleSettings) -> None:
    backbone = model_registry.get(inputs.backbone_name)
    problem = backbone.misfit(settings.frames, settings.width, settings.height)
    if problem is not None:
        raise BadInput(problem, where="settings, keys samples.frames, .width and .height")


@dataclass
class _Work:
    """One unit under way: what is done, what failed and why, and where the time went."""

    inputs: VideoInputs
    settings: SampleSettings
    recipes: dict[str, Recipe]
    kept: Kept
    done: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    effort: dict[str, str | int | float] = field(default_factory=dict)

    def find(self) -> None:
        """Take what an earlier attempt had finished."""
        for name, made_of in self.recipes.items():
            path = self.kept.find(made_of)
            if path is not None:
                self.done[name] = path
        self.effort["found"] = len(self.done)

    def generate(self, adapter: Adapter) -> None:
        """Make the videos that are not there yet."""
        from mimix_core.engine.gpu_lease import acquire_device
        from mimix_core.engine.torch_runtime import set_num_threads

        set_num_threads(self.settings.threads)
        self._tell(0, "waits for a free device")
        with acquire_device(self.settings.device) as device:
            self._generate(adapter, device)
            # A pipeline and its hooks refer to each other: the GPU is free only when they are gone.
            gc.collect()

    def _generate(self, adapter: Adapter, device: torch.device) -> None:
        from mimix_core.wan.generation import video_generator

        missing = {name: made for name, made in self.recipes.items() if name not in self.done}
        started = time.monotonic()
        self._tell(0, "loads the model")
        generator = video_generator.load(
            _parts(self.inputs),
            adapter,
            str(_adapter_file(self.inputs)),
            sorted({made.prompt for made in missing.values()}),
            self.settings,
            device,
        )
        loaded = time.monotonic()
        for name, made_of in missing.items():
            self._make(generator, name, made_of)
        self.effort |= {
            **generator.how,
            "device": str(device),
            "generated": len(missing) - len(self.failed),
            "seconds_to_load": round(loaded - started, 3),
            "seconds_per_video": round((time.monotonic() - loaded) / len(missing), 3),
        }

    def _make(self, generator: Generator, name: str, made_of: Recipe) -> None:
        import torch

        try:
            frames_THWC = generator.frames(
                made_of.prompt, made_of.seed, lambda step: self._tell(step, name)
            )
            self.done[name] = self.kept.keep(
                made_of, lambda path: write_video(path, frames_THWC, made_of.model_dump_json())
            )
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # of the device, not of this prompt
        except (RuntimeError, ValueError, EncodeFailed) as error:
            self.failed[name] = f"{type(error).__name__}: {error}"

    def _tell(self, step: int, note: str) -> None:
        over = (len(self.done) + len(self.failed)) * self.settings.steps
        progress.advance(over + step, len(self.recipes) * self.settings.steps, note)


def _parts(inputs: VideoInputs) -> Parts:
    return Parts(
        backbone=model_registry.get(inputs.backbone_name),
        transformer=inputs.transformer.path,
        vae=inputs.vae.path,
        text_encoder=inputs.text_encoder.path,
        tokenizer=inputs.tokenizer.path,
        scheduler=inputs.scheduler.path,
    )


def _row(work: _Work, prompt: Prompt, out: Path) -> Row:
    made_of = work.recipes[prompt.id]
    same: Row = {
        "prompt_id": prompt.id,
        "category": prompt.category,
        "prompt": made_of.prompt,
        "characters": list(prompt.characters),
        "backbone": made_of.backbone,
        "seed": made_of.seed,
    }
    if prompt.id in work.failed:
        return tables.failed(Reason.GENERATION_FAILED, work.failed[prompt.id], **same, **_EMPTY)
    name = f"{FOLDER}/{prompt.id}.mp4"
    shutil.copyfile(work.done[prompt.id], out / name)
    return tables.ok(
        **same,
        file=name,
        sha256=digest_file(out / name),
        frames=made_of.frames,
        width=made_of.width,
        height=made_of.height,
    )


STAGE = Stage(
    name="videos",
    title="Generation",
    description="Generate a video for each prompt with the trained adapter.",
    row_noun="prompts",
    phase=Phase.GENERATION,
    upstream=("backbone", "lora"),
    resources=frozenset({Resource.CPU, Resource.GPU}),
    version=2,
    inputs=VideoInputs,
    settings=SampleSettings,
    table=SAMPLES,
    run=run,
)
