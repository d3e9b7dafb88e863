"""The backbone, the latents and embeddings of the dataset, and the LoRA."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mimix_core.engine.artifacts import FileRef, TableRef
from mimix_core.training import checkpoint
from mimix_core.training.stage import LoraInputs, PreviewComponents, run_folder
from mimix_core.wan.backbone_stage import BackboneInputs, load_components, resolve_weights_folder
from mimix_core.wan.latents_stage import LatentInputs
from mimix_core.wan.tensor_shards import remove_stale_results
from mimix_core.wan.text_embeddings import EmbeddingInputs
from tasks.base import Run, stage_task

backbone_task = stage_task("backbone")
latents_task = stage_task("latents")
embeddings_task = stage_task("embeddings")
lora_task = stage_task("lora")

MAX_LATENTS_PER_UNIT = 512
"""Samples whose latents are one unit of work, at most: about ten minutes of one H200."""


@dataclass(frozen=True)
class Backbone:
    """The text-to-video model: its table, and the folder of each of its components."""

    name: str
    table: TableRef
    components: dict[str, FileRef]


def prepare_backbone(run: Run, captions: Sequence[TableRef]) -> Backbone:
    """The real model's folder, or the stand-in built for these captions."""
    settings = run.workspace.config.backbone
    weights = run.workspace.file_ref(resolve_weights_folder(settings), "backbone.path")
    inputs = BackboneInputs(unit="all", captions=tuple(captions), weights=weights)
    table = run.run_single(backbone_task, inputs, settings)
    return Backbone(settings.name, table, load_components(table, weights))


def encode_latents(run: Run, samples: Sequence[TableRef], model: Backbone) -> list[TableRef]:
    """VAE latents of tables of clips or composites: one table each, or several of a long one."""
    inputs = [
        LatentInputs(
            unit=unit,
            samples=table,
            span=span,
            backbone_name=model.name,
            vae=model.components["vae"],
            parts=_parts_folder(run),
        )
        for table in samples
        for unit, span in split_latent_units(table)
    ]
    refs = run.run_units(latents_task, inputs, run.workspace.config.latents)
    remove_stale_results(_parts_folder(run), str(latents_task.name))
    return refs


def split_latent_units(table: TableRef) -> list[tuple[str, tuple[int, int] | None]]:
    """The units that a table's usable rows are encoded in, each with its share of them.

    All composites are one table: were it one unit, it would keep one GPU busy long after the
    others are done.
    """
    count = math.ceil(table.counts.ok / MAX_LATENTS_PER_UNIT)
    if count <= 1:
        return [(table.unit, None)]
    ends = [table.counts.ok * share // count for share in range(count + 1)]
    return [
        (f"{table.unit} {share + 1}/{count}", (ends[share], ends[share + 1]))
        for share in range(count)
    ]


def embed_captions(run: Run, captions: Sequence[TableRef], model: Backbone) -> list[TableRef]:
    """Text embeddings: one table per table of captions."""
    inputs = [
        EmbeddingInputs(
            unit=table.unit,
            captions=table,
            backbone_name=model.name,
            text_encoder=model.components["text_encoder"],
            tokenizer=model.components["tokenizer"],
            parts=_parts_folder(run),
        )
        for table in captions
    ]
    refs = run.run_units(embeddings_task, inputs, run.workspace.config.embeddings)
    remove_stale_results(_parts_folder(run), str(embeddings_task.name))
    for ref in refs:
        cut = run.workspace.store.record(ref).notes["captions_cut"]
        if cut:
            limit = run.workspace.config.embeddings.max_tokens
            run.console.warn(f"embeddings ({ref.unit}): {cut} captions are cut to {limit} tokens")
    return refs


def _parts_folder(run: Run) -> Path:
    """Where what killed units had finished lies."""
    return run.workspace.config.workspace / "parts"


def _preview_parts(model: Backbone) -> PreviewComponents:
    names = PreviewComponents.model_fields
    return PreviewComponents(**{name: model.components[name] for name in names})


def train_lora(
    run: Run,
    dataset: TableRef,
    latents: Sequence[TableRef],
    embeddings: Sequence[TableRef],
    model: Backbone,
) -> TableRef:
    """One adapter, trained by DeepSpeed; a run that was ended goes on from its checkpoint."""
    settings = run.workspace.config.lora
    inputs = LoraInputs(
        unit="all",
        dataset=dataset,
        latents=tuple(latents),
        embeddings=tuple(embeddings),
        backbone_name=model.name,
        transformer=model.components["transformer"],
        preview=_preview_parts(model) if settings.preview_interval else None,
        checkpoints=run.workspace.config.workspace / "checkpoints",
    )
    ref = run.run_single(lora_task, inputs, settings)
    folder = run_folder(inputs, settings)
    if folder is not None:
        checkpoint.delete_checkpoints(folder)
    return ref
