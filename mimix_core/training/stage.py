"""Stage ``lora``: train the adapter on the dataset's precomputed latents and embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mimix_core import tables
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.tables import DATASET, EMBEDDINGS, LATENTS, LORA, Reason, Row, Table
from mimix_core.training import previews, trackers
from mimix_core.training.launcher import run_job
from mimix_core.training.worker_messages import PreviewConfig, TrainingJob, TrainingSample
from mimix_core.wan import model_registry
from mimix_core.wan.adapter_metadata import AdapterMetadata, result_settings
from mimix_core.wan.tensor_shards import tensor_ref

PROCESS_LOG = "train.log"
LOG_FOLDER = "journal"

_SHARED_OUT: dict[str, int] = {
    "num_processes": 1,
    "micro_batch_size": 1,
    "zero_stage": 0,
    "threads": 1,
}
"""How work is shared out changes sums' last bits and nothing else: a run may go on with another."""


class PreviewComponents(FrozenModel):
    """The backbone's other components; only previews need them."""

    vae: FileRef
    text_encoder: FileRef
    tokenizer: FileRef
    scheduler: FileRef


class LoraInputs(FrozenModel):
    """The manifest, what was precomputed for it, and the transformer to adapt.

    ``preview``: given when the settings ask for previews, and not otherwise.
    ``checkpoints``: below it a run keeps its checkpoints until it is done, and its journal.
    """

    unit: Annotated[str, ExcludeFromKey()]
    dataset: TableRef
    latents: tuple[TableRef, ...]
    embeddings: tuple[TableRef, ...]
    backbone_name: str
    backbone_source: FileRef | None = None
    transformer: FileRef
    preview: PreviewComponents | None = None
    checkpoints: Annotated[Path | None, ExcludeFromKey()] = None


def run_folder(inputs: LoraInputs, settings: LoraSettings) -> Path | None:
    """Where the run that these inputs and settings ask for keeps what outlives an attempt."""
    if inputs.checkpoints is None:
        return None
    return inputs.checkpoints / STAGE.key(inputs, settings.model_copy(update=_SHARED_OUT))


@dataclass(frozen=True)
class TrainingPlan:
    """What is to be trained on what, and what becomes of each row of the dataset."""

    job: TrainingJob
    rows: tuple[Row, ...]


def run(inputs: LoraInputs, settings: LoraSettings, out: Path) -> StageReport:
    """Train; a sample without latents or embedding fails alone, and the others are trained on.

    Raises BadInput when nothing is left to train on or the parts are of different backbones.
    """
    trackers.check_trackers(settings.trackers)
    planned = plan_training(inputs, settings, out)
    job = planned.job.model_copy(update={"preview": _preview(inputs, settings, out)})
    finished = run_job(job, out / PROCESS_LOG, progress.report_progress)
    return StageReport(rows=planned.rows, rows_in=len(planned.rows), notes=finished.notes)


def plan_training(inputs: LoraInputs, settings: LoraSettings, out: Path) -> TrainingPlan:
    """The job for these inputs, which writes to ``out``. Raises BadInput as ``run`` does."""
    latents = _by_sample(inputs.latents, LATENTS, inputs.backbone_name)
    embeddings = _by_sample(inputs.embeddings, EMBEDDINGS, inputs.backbone_name)
    samples: dict[str, list[TrainingSample]] = {"train": [], "val": [], "test": []}
    rows: list[Row] = []
    for row in tables.usable(tables.read(inputs.dataset.path, DATASET)):
        found = _sample(row, latents, embeddings)
        if isinstance(found, TrainingSample):
            samples[row["split"]].append(found)
            seen = settings.epochs if row["split"] == "train" else 0
            rows.append(tables.ok(sample_id=row["sample_id"], split=row["split"], seen=seen))
        else:
            rows.append(found)
    if not samples["train"]:
        raise BadInput(
            f"none of {len(rows)} samples can be trained on",
            where=f"stage lora ({inputs.unit})",
            fix="See the reasons in the dataset, latents and embeddings tables.",
        )
    folder = run_folder(inputs, settings)
    job = TrainingJob(
        settings=settings,
        transformer=inputs.transformer.path,
        train=tuple(samples["train"]),
        val=tuple(samples["val"]),
        out=out,
        log_folder=None if folder is None else folder / LOG_FOLDER,
        adapter_metadata=_card(inputs, settings, samples["train"]),
        checkpoints=folder,
    )
    return TrainingPlan(job, tuple(rows))


def _preview(inputs: LoraInputs, settings: LoraSettings, out: Path) -> PreviewConfig | None:
    """What previews are made with, their prompts embedded; None when none are asked for."""
    if settings.preview_interval is None:
        return None
    parts = inputs.preview
    if parts is None:
        raise BadInput(
            "previews are asked for, and the components that make them are not given",
            where=f"stage lora ({inputs.unit})",
        )
    from mimix_core.engine.torch_runtime import set_num_threads

    prompts = out / previews.PREVIEW_FOLDER / "prompts.safetensors"
    prompts.parent.mkdir()
    set_num_threads(settings.threads)
    progress.report_progress(0, 1, "embeds the prompts of the previews")
    previews.embed_preview_prompts(
        prompts,
        settings.preview_prompts,
        inputs.backbone_name,
        parts.tokenizer.path,
        parts.text_encoder.path,
    )
    return PreviewConfig(
        backbone=inputs.backbone_name,
        prompts=prompts,
        vae=parts.vae.path,
        scheduler=parts.scheduler.path,
    )


def _card(
    inputs: LoraInputs, settings: LoraSettings, train: list[TrainingSample]
) -> AdapterMetadata:
    return AdapterMetadata(
        base=inputs.backbone_name,
        base_sha256=inputs.transformer.sha256,
        rank=settings.rank,
        alpha=settings.alpha,
        targets=settings.target_modules
        or model_registry.get_backbone(inputs.backbone_name).lora_targets,
        characters=tuple(sorted({name for sample in train for name in sample.characters})),
        styles=tuple(sorted({sample.style for sample in train})),
        dataset_sha256=inputs.dataset.sha256,
        settings=result_settings(settings),
    )


def _by_sample(
    refs: tuple[TableRef, ...], table: Table, backbone: str
) -> dict[str, tuple[TableRef, Row]]:
    found = {}
    for ref in refs:
        for row in tables.usable(tables.read(ref.path, table)):
            if row["backbone"] != backbone:
                raise BadInput(
                    f"{row['sample_id']} was made with {row['backbone']}, not {backbone}",
                    where=str(ref.path),
                    fix="Make latents, embeddings and LoRA with the same backbone.",
                )
            found[row["sample_id"]] = (ref, row)
    return found


def _sample(
    row: Row,
    latents: dict[str, tuple[TableRef, Row]],
    embeddings: dict[str, tuple[TableRef, Row]],
) -> TrainingSample | Row:
    """The sample of a dataset row, or the failed row that says what it lacks."""
    sample_id = row["sample_id"]
    bare: Row = {"sample_id": sample_id, "split": row["split"], "seen": 0}
    if sample_id not in latents:
        return tables.failed(Reason.NO_LATENT, "there is no latent of this sample", **bare)
    if sample_id not in embeddings:
        return tables.failed(Reason.NO_CAPTION, "there is no embedding of its caption", **bare)
    (video, latent), (text, embedding) = latents[sample_id], embeddings[sample_id]
    if embedding["caption"] != row["caption"]:
        return tables.failed(Reason.NO_CAPTION, "the embedding is of another caption", **bare)
    return TrainingSample(
        sample_id=sample_id,
        show=row["show"],
        style=row["style"],
        characters=tuple(row["characters"]),
        latents=tensor_ref(video, latent),
        text=tensor_ref(text, embedding),
    )


STAGE = Stage(
    name="lora",
    title="Training",
    description="Train low-rank adapters (LoRA) on the dataset; the backbone stays frozen.",
    row_noun="samples",
    phase=Phase.TRAINING,
    upstream=("dataset", "latents", "embeddings", "backbone"),
    resources=frozenset({Resource.CPU, Resource.GPU}),
    version=2,
    inputs=LoraInputs,
    settings=LoraSettings,
    table=LORA,
    run=run,
)
