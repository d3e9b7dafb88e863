"""The backbone, the latents and embeddings of the dataset, and the LoRA."""

from collections.abc import Sequence
from dataclasses import dataclass

from mimix_core.refs import FileRef, TableRef
from mimix_core.training.stage import LoraInputs
from mimix_core.wan.backbone import BackboneInputs, components, weights_folder
from mimix_core.wan.latents import LatentInputs
from mimix_core.wan.text import EmbeddingInputs
from tasks.base import Run, stage_task

backbone_task = stage_task("backbone")
latents_task = stage_task("latents")
embeddings_task = stage_task("embeddings")
# Training resumes from nothing yet: a second try would cost the whole run again.
lora_task = stage_task("lora", retries=0)


@dataclass(frozen=True)
class Backbone:
    """The text-to-video model: its table, and the folder of each of its components."""

    name: str
    table: TableRef
    components: dict[str, FileRef]


def backbone(run: Run, captions: Sequence[TableRef]) -> Backbone:
    """The real model's folder, or the stand-in built for these captions."""
    settings = run.workspace.config.backbone
    weights = run.workspace.file(weights_folder(settings), "backbone.path")
    inputs = BackboneInputs(unit="all", captions=tuple(captions), weights=weights)
    table = run.one(backbone_task, inputs, settings)
    return Backbone(settings.name, table, components(table, weights))


def latents(run: Run, samples: Sequence[TableRef], model: Backbone) -> list[TableRef]:
    """VAE latents: one table per table of clips or composites."""
    inputs = [
        LatentInputs(
            unit=table.unit, samples=table, backbone_name=model.name, vae=model.components["vae"]
        )
        for table in samples
    ]
    return run.each(latents_task, inputs, run.workspace.config.latents)


def embeddings(run: Run, captions: Sequence[TableRef], model: Backbone) -> list[TableRef]:
    """Text embeddings: one table per table of captions."""
    inputs = [
        EmbeddingInputs(
            unit=table.unit,
            captions=table,
            backbone_name=model.name,
            text_encoder=model.components["text_encoder"],
            tokenizer=model.components["tokenizer"],
        )
        for table in captions
    ]
    return run.each(embeddings_task, inputs, run.workspace.config.embeddings)


def lora(
    run: Run,
    dataset: TableRef,
    latents: Sequence[TableRef],
    embeddings: Sequence[TableRef],
    model: Backbone,
) -> TableRef:
    """One adapter, trained by DeepSpeed."""
    inputs = LoraInputs(
        unit="all",
        dataset=dataset,
        latents=tuple(latents),
        embeddings=tuple(embeddings),
        backbone_name=model.name,
        transformer=model.components["transformer"],
    )
    return run.one(lora_task, inputs, run.workspace.config.lora)
