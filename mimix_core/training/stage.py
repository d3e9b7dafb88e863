"""Stage ``lora``: train the adapter on the dataset's precomputed latents and embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from mimix_core import tables
from mimix_core.domain.timeline import CLIP_RATE
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey, OmitDefault
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings import ExpertName, LoraSettings
from mimix_core.tables import (
    DATASET,
    EMBEDDINGS,
    LATENTS,
    LORA,
    REGIONS,
    Row,
    Status,
)
from mimix_core.training import previews, trackers
from mimix_core.training.forgetting import check_bound_is_measured, unmeasured_characters
from mimix_core.training.launcher import run_job
from mimix_core.training.learning_rate import check_schedule
from mimix_core.training.sample_schedule import (
    count_occurrences,
    count_optimizer_steps,
    epoch_length,
    epoch_steps,
    mixed_epoch_length,
)
from mimix_core.training.training_samples import build_sample, find_images, rows_by_sample
from mimix_core.training.validation_samples import select_validation_samples, validation_share
from mimix_core.training.worker_messages import PreviewConfig, TrainingJob, TrainingSample
from mimix_core.wan import model_registry
from mimix_core.wan.adapter_metadata import AdapterMetadata, result_settings
from mimix_core.wan.model_registry import FULL_RANGE, NoiseRange
from mimix_core.wan.text_embeddings import PROMPTS_CUT_NOTE

_MIN_SHARE_OF_LEVELS = 1e-3
"""Below it the quantiles of an expert's levels would differ in their last bits alone."""

PROCESS_LOG = "train.log"
LOG_FOLDER = "journal"

_EXECUTION_SETTINGS: dict[str, int] = {
    "num_processes": 1,
    "micro_batch_size": 1,
    "zero_stage": 0,
    "threads": 1,
}
"""Settings that only affect the last bits of sums: a run can resume with other values."""


class PreviewComponents(FrozenModel):
    """The backbone's other components, and what previews have in common with samples.

    ``negative_prompt`` and ``shift``: those of ``SampleSettings``, so that a preview shows what the
    adapter will generate. ``other_expert``: the transformer of the expert that is not trained.
    ``frame_rate``: of the previews.
    """

    vae: FileRef
    text_encoder: FileRef
    tokenizer: FileRef
    scheduler: FileRef
    negative_prompt: str
    shift: float
    other_expert: Annotated[FileRef | None, OmitDefault()] = None
    frame_rate: Annotated[int, OmitDefault()] = int(CLIP_RATE)


class LoraInputs(FrozenModel):
    """The dataset, its precomputed tensors, and the transformer to adapt.

    ``preview``: set if and only if the settings enable previews. ``checkpoints``: parent folder of
    each run's checkpoints, which are deleted at the end, and logs. ``regions``: of the latents, if
    and only if the loss depends on them. ``image_latents``: of the middle frames of the same
    samples, if and only if images are mixed in. ``initial_adapter``: the one to start from, if any.
    ``expert``: which of the backbone's experts ``transformer`` is; None for one transformer.
    ``new_characters``: those that are added to it.
    """

    unit: Annotated[str, ExcludeFromKey()]
    dataset: TableRef
    latents: tuple[TableRef, ...]
    embeddings: tuple[TableRef, ...]
    regions: Annotated[tuple[TableRef, ...], OmitDefault()] = ()
    image_latents: Annotated[tuple[TableRef, ...], OmitDefault()] = ()
    backbone_name: str
    backbone_source: FileRef | None = None
    transformer: FileRef
    expert: Annotated[ExpertName | None, OmitDefault()] = None
    initial_adapter: Annotated[FileRef | None, OmitDefault()] = None
    new_characters: Annotated[tuple[str, ...], OmitDefault()] = ()
    preview: PreviewComponents | None = None
    checkpoints: Annotated[Path | None, ExcludeFromKey()] = None


def run_folder(inputs: LoraInputs, settings: LoraSettings) -> Path | None:
    """Return the run's folder for checkpoints and logs, which outlive a single attempt."""
    if inputs.checkpoints is None:
        return None
    return inputs.checkpoints / STAGE.key(inputs, settings.model_copy(update=_EXECUTION_SETTINGS))


@dataclass(frozen=True)
class TrainingPlan:
    """The training job, and a result row for each row of the dataset."""

    job: TrainingJob
    rows: tuple[Row, ...]


def run(inputs: LoraInputs, settings: LoraSettings, out: Path) -> StageReport:
    """Train the adapter; samples without latents or embedding become failed rows.

    Raises BadInput when no sample is left or inputs were made with another backbone.
    """
    from mimix_core.training.optimizers import check_optimizer

    check_optimizer(settings)
    trackers.check_trackers(settings.trackers)
    plan = plan_training(inputs, settings, out)
    preview, truncated = _prepare_preview(inputs, settings, out)
    job = plan.job.model_copy(update={"preview": preview})
    finished = run_job(job, out / PROCESS_LOG, progress.report_progress)
    notes = dict(finished.notes)
    if settings.uses_regions:
        with_regions = sum(sample.regions is not None for sample in job.train)
        count = sum(not sample.image for sample in job.train)
        notes["samples_with_regions"] = f"{with_regions} of {count}"
    if settings.image_ratio > 0:
        images = sum(sample.image for sample in job.train)
        videos = [sample for sample in job.train if not sample.image]
        drawn = mixed_epoch_length(job.train, settings) - epoch_length(
            videos, settings.show_repeats
        )
        notes["images"] = f"{drawn} per epoch, of {images}"
    held_out = sum(row["split"] == "val" and row["status"] == Status.OK for row in plan.rows)
    if len(job.val) < held_out:
        notes["held_out_samples"] = f"{len(job.val)} of {held_out}"
    if job.val:
        share = validation_share(mixed_epoch_length(job.train, settings), len(job.val), settings)
        notes["validation_share"] = f"{share:.1%} of the training"
    known = job.adapter_metadata.characters
    if unmeasured := unmeasured_characters(known, job.val, inputs.new_characters):
        notes["forgetting_not_measured"] = ", ".join(unmeasured)
    if truncated:
        notes[PROMPTS_CUT_NOTE] = truncated
    return StageReport(
        rows=plan.rows,
        rows_in=len(plan.rows),
        notes=notes,
        files=_adapter_files(job.train, settings),
    )


def _adapter_files(samples: Sequence[TrainingSample], settings: LoraSettings) -> tuple[str, ...]:
    """Return the paths of all adapters in the result, whether the run has EMA weights or not."""
    from mimix_core.training.epoch_adapters import epoch_adapter_path
    from mimix_core.wan import lora_export

    saved = (
        epoch_adapter_path(epoch, ema=ema)
        for epoch in epoch_steps(mixed_epoch_length(samples, settings), settings)
        for ema in (False, True)
    )
    return (lora_export.ADAPTER_FILE, lora_export.EMA_ADAPTER_FILE, *saved)


def plan_training(inputs: LoraInputs, settings: LoraSettings, out: Path) -> TrainingPlan:
    """Plan the training job for these inputs, which writes to ``out``. Raises BadInput."""
    latents = rows_by_sample(inputs.latents, LATENTS, inputs.backbone_name)
    embeddings = rows_by_sample(inputs.embeddings, EMBEDDINGS, inputs.backbone_name)
    regions = rows_by_sample(inputs.regions, REGIONS, inputs.backbone_name)
    if settings.uses_regions and not inputs.regions:
        raise BadInput(
            "the loss is weighted by regions, but their table is missing",
            where=f"stage lora ({inputs.unit})",
            fix="Set lora.region_weight and lora.region_preservation to 0, or run the stage "
            "regions.",
        )
    samples: dict[str, list[TrainingSample]] = {"train": [], "val": [], "test": []}
    rows: list[Row] = []
    for row in tables.usable(tables.read(inputs.dataset.path, DATASET)):
        sample = build_sample(row, latents, embeddings, regions)
        if isinstance(sample, TrainingSample):
            samples[row["split"]].append(sample)
            rows.append(tables.ok(sample_id=row["sample_id"], split=row["split"], seen=0))
        else:
            rows.append(sample)
    if not samples["train"]:
        raise BadInput(
            f"none of {len(rows)} samples can be used for training",
            where=f"stage lora ({inputs.unit})",
            fix="Check the reasons in the dataset, latents and embeddings tables.",
        )
    if settings.image_ratio > 0:
        frames = rows_by_sample(inputs.image_latents, LATENTS, inputs.backbone_name)
        samples["train"] += find_images(samples["train"], frames, f"stage lora ({inputs.unit})")
    seen = count_occurrences(samples["train"], settings)
    rows = [row | {"seen": seen[row["sample_id"]]} for row in rows]
    length = mixed_epoch_length(samples["train"], settings)
    check_schedule(
        count_optimizer_steps(length, settings.epochs, settings.global_batch_size), settings
    )
    levels = _noise_range(inputs)
    check_levels(settings, levels, f"stage lora ({inputs.unit})")
    if inputs.initial_adapter is not None:
        from mimix_core.training.initial_adapter import check_initial_base

        check_initial_base(
            inputs.initial_adapter.path, inputs.backbone_name, inputs.transformer.sha256
        )
    folder = run_folder(inputs, settings)
    val = select_validation_samples(samples["val"], length, settings, inputs.new_characters)
    if settings.max_forgetting is not None:
        check_bound_is_measured(
            val, inputs.new_characters, f"stage lora ({inputs.unit}), setting lora.max_forgetting"
        )
    job = TrainingJob(
        settings=settings,
        transformer=inputs.transformer.path,
        initial_adapter=inputs.initial_adapter.path if inputs.initial_adapter else None,
        train=tuple(samples["train"]),
        new_characters=inputs.new_characters,
        val=tuple(val),
        out=out,
        levels=levels,
        log_folder=None if folder is None else folder / LOG_FOLDER,
        adapter_metadata=_adapter_metadata(inputs, settings, samples["train"]),
        checkpoints=folder,
    )
    return TrainingPlan(job, tuple(rows))


def _noise_range(inputs: LoraInputs) -> NoiseRange:
    """Return the noise levels at which the transformer predicts."""
    if inputs.expert is None:
        return FULL_RANGE
    return model_registry.get_backbone(inputs.backbone_name).expert(inputs.expert).levels


def check_levels(settings: LoraSettings, levels: NoiseRange, where: str) -> None:
    """Raise BadInput if the settings' distribution of noise levels has next to none in a range."""
    if levels == FULL_RANGE:
        return
    from mimix_core.training.data_loader import noise_levels

    share = noise_levels(settings, levels).share
    if share < _MIN_SHARE_OF_LEVELS:
        raise BadInput(
            f"only {share:.1g} of the noise levels that the settings draw are between "
            f"{levels[0]:g} and {levels[1]:g}, where this expert predicts",
            where=where,
            fix="Set lora.timestep_sampling to uniform, or change lora.shift, .logit_mean and "
            ".logit_std.",
        )


def _prepare_preview(
    inputs: LoraInputs, settings: LoraSettings, out: Path
) -> tuple[PreviewConfig | None, str]:
    """Embed the preview prompts and return the inputs of previews; None if disabled.

    Also returns which prompts were truncated.
    """
    if settings.preview_interval is None:
        return None, ""
    components = inputs.preview
    if components is None:
        raise BadInput(
            "previews are enabled, but the components to generate them are missing",
            where=f"stage lora ({inputs.unit})",
        )
    from mimix_core.engine.torch_runtime import set_num_threads

    prompts = out / previews.PREVIEW_FOLDER / "prompts.safetensors"
    prompts.parent.mkdir()
    set_num_threads(settings.threads)
    progress.report_progress(0, 1, "embedding the prompts of the previews")
    truncated = previews.embed_preview_prompts(
        prompts,
        settings.preview_prompts,
        components.negative_prompt,
        inputs.backbone_name,
        components.tokenizer.path,
        components.text_encoder.path,
    )
    config = PreviewConfig(
        backbone=inputs.backbone_name,
        prompts=prompts,
        vae=components.vae.path,
        scheduler=components.scheduler.path,
        shift=components.shift,
        expert=inputs.expert,
        other_expert=components.other_expert.path if components.other_expert else None,
        frame_rate=components.frame_rate,
    )
    return config, truncated


def _adapter_metadata(
    inputs: LoraInputs, settings: LoraSettings, train: list[TrainingSample]
) -> AdapterMetadata:
    initial: dict[str, Any] = (
        {"initial_adapter_sha256": inputs.initial_adapter.sha256} if inputs.initial_adapter else {}
    )
    characters = {name for sample in train for name in sample.characters}
    if inputs.initial_adapter is not None and inputs.new_characters:
        # Old characters that are not replayed are characters of the adapter all the same.
        from mimix_core.training.initial_adapter import read_initial_adapter

        _, earlier = read_initial_adapter(inputs.initial_adapter.path)
        initial["new_characters"] = list(inputs.new_characters)
        characters.update(earlier.characters if earlier else ())
    return AdapterMetadata(
        base=inputs.backbone_name,
        base_sha256=inputs.transformer.sha256,
        rank=settings.rank,
        alpha=settings.alpha,
        targets=settings.target_modules
        or model_registry.get_backbone(inputs.backbone_name).lora_targets,
        characters=tuple(sorted(characters)),
        styles=tuple(sorted({sample.style for sample in train})),
        dataset_sha256=inputs.dataset.sha256,
        settings=result_settings(settings) | initial,
        expert=inputs.expert,
    )


STAGE = Stage(
    name="lora",
    title="Training",
    description="Train low-rank adapters (LoRA) on the dataset; the backbone stays frozen.",
    row_noun="samples",
    phase=Phase.TRAINING,
    upstream=("dataset", "latents", "embeddings", "regions", "backbone"),
    resources=frozenset({Resource.CPU, Resource.GPU}),
    version=5,
    inputs=LoraInputs,
    settings=LoraSettings,
    table=LORA,
    run=run,
)
