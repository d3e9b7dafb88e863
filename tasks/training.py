"""Tasks ``backbone``, ``latents``, ``embeddings`` and ``lora``: precompute and train."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mimix_core import tables
from mimix_core.diagnostics.look_alikes import (
    ADVICE,
    alarming_pairs,
    describe_pair,
    load_library_bank,
)
from mimix_core.engine.artifacts import FileRef, TableRef
from mimix_core.engine.extensions import extension_source, is_module_name
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings, SampleSettings
from mimix_core.training import checkpoint
from mimix_core.training.few_steps import describe_few_steps
from mimix_core.training.forgetting import EARLIER_STEP_NOTE
from mimix_core.training.stage import STAGE as LORA_STAGE
from mimix_core.training.stage import LoraInputs, PreviewComponents, run_folder
from mimix_core.wan.backbone_stage import BackboneInputs, load_components, resolve_weights_folder
from mimix_core.wan.latents_stage import LatentInputs
from mimix_core.wan.model_registry import Expert, get_backbone
from mimix_core.wan.regions_stage import RegionInputs, RegionSettings
from mimix_core.wan.tensor_shards import remove_stale_results
from mimix_core.wan.text_embeddings import (
    PROMPTS_CUT_NOTE,
    EmbeddingInputs,
    describe_truncated,
)
from tasks.base import Run, stage_task
from tasks.decisions import load_vetoes

backbone_task = stage_task("backbone")
latents_task = stage_task("latents")
embeddings_task = stage_task("embeddings")
regions_task = stage_task("regions")
lora_task = stage_task("lora")

MAX_LATENTS_PER_UNIT = 512
"""Maximum number of samples per unit of latents: about ten minutes of one H200."""


@dataclass(frozen=True)
class PreparedBackbone:
    """Text-to-video model: its table, and the folder of each of its components.

    ``source``: the Python file of a backbone from outside MiMix, part of all stage keys after it.
    """

    name: str
    table: TableRef
    components: dict[str, FileRef]
    source: FileRef | None = None


def prepare_backbone(run: Run) -> PreparedBackbone:
    """Check the folder of the real model, or build a stand-in."""
    settings = run.workspace.config.backbone
    weights = run.workspace.file_ref(resolve_weights_folder(settings), "backbone.path")
    inputs = BackboneInputs(unit="all", weights=weights)
    table = run.run_single(backbone_task, inputs, settings)
    source = extension_source(settings.name) if is_module_name(settings.name) else None
    return PreparedBackbone(
        settings.name,
        table,
        load_components(table, weights),
        None if source is None else run.workspace.store.source_ref(source),
    )


@dataclass(frozen=True)
class EncodedLatents:
    """Tables of latents: of videos, and of their middle frames if training mixes images in."""

    videos: list[TableRef]
    images: list[TableRef]


def encode_latents(
    run: Run, samples: Sequence[TableRef], model: PreparedBackbone
) -> EncodedLatents:
    """Encode clips or composites as VAE latents; a long table is split into several units."""
    kinds: list[Literal["all", "middle"]] = ["all"]
    if run.workspace.config.lora.image_ratio > 0:
        kinds.append("middle")
    inputs = [
        LatentInputs(
            unit=unit if frames == "all" else f"images of {unit}",
            samples=table,
            span=span,
            frames=frames,
            backbone_name=model.name,
            backbone_source=model.source,
            vae=model.components["vae"],
            partial_results=_parts_folder(run),
        )
        for frames in kinds
        for table in samples
        for unit, span in split_latent_units(table)
    ]
    refs = run.run_units(latents_task, inputs, run.workspace.config.latents)
    if run.computes:
        remove_stale_results(_parts_folder(run), str(latents_task.name))
    videos = len(inputs) // len(kinds)
    return EncodedLatents(refs[:videos], refs[videos:])


def split_latent_units(table: TableRef) -> list[tuple[str, tuple[int, int] | None]]:
    """Split a table's usable rows into units of work; return their names and row ranges.

    All composites are in one table: as a single unit, it would occupy one GPU long after the
    others have finished.
    """
    count = math.ceil(table.counts.ok / MAX_LATENTS_PER_UNIT)
    if count <= 1:
        return [(table.unit, None)]
    ends = [table.counts.ok * part // count for part in range(count + 1)]
    return [
        (f"{table.unit} {part + 1}/{count}", (ends[part], ends[part + 1])) for part in range(count)
    ]


def _warn_of_look_alikes(run: Run) -> None:
    """Warn about characters that a model trained on this library is likely to mix."""
    try:
        bank = load_library_bank(
            run.workspace.library, run.workspace.config.decisions, run.workspace.config.workspace
        )
    except BadInput as error:
        run.console.warn(f"characters are not compared with each other: {error}")
        return
    pairs = alarming_pairs(bank)
    if pairs:
        run.console.warn(
            f"look-alikes: {'; '.join(map(describe_pair, pairs))}: one of them is nearer to the "
            f"other than to itself. {ADVICE}"
        )


def find_regions(
    run: Run,
    clips: Sequence[TableRef],
    composites: TableRef,
    cutouts: Sequence[TableRef],
    latents: Sequence[TableRef],
) -> list[TableRef]:
    """Find the characters' cells in all latents; none if the loss does not depend on them.

    ``cutouts``: of the same episodes as ``clips``. ``latents``: of the clips, then the composites.
    """
    if not run.workspace.config.lora.uses_regions:
        return []
    sources: list[tuple[TableRef, tuple[TableRef, ...], TableRef | None]] = [
        *((table, (own,), None) for table, own in zip(clips, cutouts, strict=True)),
        (composites, tuple(cutouts), composites),
    ]
    per_unit = [
        (unit, masks, pasted)
        for table, masks, pasted in sources
        for unit, _ in split_latent_units(table)
    ]
    vetoes = load_vetoes(run.workspace)
    inputs = [
        RegionInputs(
            unit=unit,
            latents=table,
            cutouts=masks,
            composites=pasted,
            vetoes=_own_vetoes(vetoes, masks),
            partial_results=_parts_folder(run),
        )
        for (unit, masks, pasted), table in zip(per_unit, latents, strict=True)
    ]
    refs = run.run_units(regions_task, inputs, RegionSettings())
    if run.computes:
        remove_stale_results(_parts_folder(run), str(regions_task.name))
    return refs


def _own_vetoes(vetoes: Sequence[str], cutouts: Sequence[TableRef]) -> tuple[str, ...]:
    """Return the vetoes of these cutouts alone: another episode's must not change the key."""
    if not vetoes:
        return ()
    known = {row["cutout_id"] for ref in cutouts for row in tables.read(ref.path, tables.CUTOUTS)}
    return tuple(name for name in vetoes if name in known)


def embed_captions(
    run: Run, captions: Sequence[TableRef], model: PreparedBackbone
) -> list[TableRef]:
    """Embed captions; one table per table of captions."""
    inputs = [
        EmbeddingInputs(
            unit=table.unit,
            captions=table,
            backbone_name=model.name,
            backbone_source=model.source,
            text_encoder=model.components["text_encoder"],
            tokenizer=model.components["tokenizer"],
            partial_results=_parts_folder(run),
            earlier_results=run.workspace.store.root / str(embeddings_task.name),
        )
        for table in captions
    ]
    refs = run.run_units(embeddings_task, inputs, run.workspace.config.embeddings)
    if run.computes:
        remove_stale_results(_parts_folder(run), str(embeddings_task.name))
    for ref in refs if run.computes else ():
        truncated = run.workspace.store.record(ref).notes["captions_cut"]
        if truncated:
            limit = min(
                run.workspace.config.embeddings.max_tokens, get_backbone(model.name).text_tokens
            )
            rows = tables.usable(tables.read(ref.path, tables.EMBEDDINGS))
            which = describe_truncated(
                ((row["sample_id"], row["tokens"] + row["tokens_cut"]) for row in rows), limit
            )
            run.console.warn(
                f"embeddings ({ref.unit}): {truncated} captions are truncated to {limit} tokens: "
                f"{which}"
            )
    return refs


def _parts_folder(run: Run) -> Path:
    """Return the folder of finished parts of interrupted units."""
    return run.workspace.config.workspace / "parts"


def _preview_components(
    model: PreparedBackbone, samples: SampleSettings, expert: Expert | None, frame_rate: int
) -> PreviewComponents:
    names = ("vae", "text_encoder", "tokenizer", "scheduler")
    others = [one for one in get_backbone(model.name).experts if expert not in (None, one)]
    return PreviewComponents(
        **{name: model.components[name] for name in names},
        negative_prompt=samples.negative_prompt,
        shift=samples.shift,
        other_expert=model.components[others[0].component] if others else None,
        frame_rate=frame_rate,
    )


def train_lora(
    run: Run,
    dataset: TableRef,
    latents: Sequence[TableRef],
    embeddings: Sequence[TableRef],
    model: PreparedBackbone,
    regions: Sequence[TableRef] = (),
    image_latents: Sequence[TableRef] = (),
) -> tuple[TableRef, ...]:
    """Train an adapter with DeepSpeed, or one of each expert that the settings name.

    Experts are trained one after the other, so that a GPU holds one of them; each table's unit is
    its expert. ``regions``: of the latents, if the loss depends on them. ``image_latents``: of the
    images to mix in.
    """
    settings = run.workspace.config.lora
    experts = get_backbone(model.name).experts
    trained: Sequence[Expert | None] = [one for one in experts if one.name in settings.experts]
    return tuple(
        _train_adapter(
            run,
            _lora_inputs(run, dataset, latents, embeddings, model, regions, image_latents, expert),
            settings,
        )
        for expert in trained or [None]
    )


def _lora_inputs(
    run: Run,
    dataset: TableRef,
    latents: Sequence[TableRef],
    embeddings: Sequence[TableRef],
    model: PreparedBackbone,
    regions: Sequence[TableRef],
    image_latents: Sequence[TableRef],
    expert: Expert | None,
) -> LoraInputs:
    config = run.workspace.config
    initial, setting = config.lora.initial_adapter, "lora.initial_adapter"
    if expert is not None and expert.name == "low-noise":
        initial, setting = config.lora.initial_adapter_low_noise, f"{setting}_low_noise"
    return LoraInputs(
        unit="all" if expert is None else expert.name,
        dataset=dataset,
        latents=tuple(latents),
        embeddings=tuple(embeddings),
        regions=tuple(regions),
        image_latents=tuple(image_latents),
        backbone_name=model.name,
        backbone_source=model.source,
        transformer=model.components["transformer" if expert is None else expert.component],
        expert=None if expert is None else expert.name,
        initial_adapter=run.workspace.file_ref(initial, setting),
        new_characters=config.dataset.new_characters,
        preview=_preview_components(model, config.samples, expert, config.clips.frame_rate)
        if config.lora.preview_interval
        else None,
        checkpoints=config.workspace / "checkpoints",
    )


def _train_adapter(run: Run, inputs: LoraInputs, settings: LoraSettings) -> TableRef:
    """Train one adapter; an interrupted run resumes from its checkpoint."""
    key = LORA_STAGE.key(inputs, settings)
    if run.computes and run.workspace.store.lookup(LORA_STAGE.name, key) is None:
        _warn_of_look_alikes(run)
        few_steps = describe_few_steps(inputs.dataset.path, settings)
        if few_steps is not None:
            run.console.warn(f"lora: {few_steps}")
    ref = run.run_single(lora_task, inputs, settings)
    if not run.computes:
        return ref
    notes = run.workspace.store.record(ref).notes
    if cut := notes.get(PROMPTS_CUT_NOTE):
        limit = get_backbone(inputs.backbone_name).text_tokens
        run.console.warn(f"lora: prompts are truncated to {limit} tokens: {cut}")
    if earlier := notes.get(EARLIER_STEP_NOTE):
        run.console.warn(f"lora: the adapter is {earlier}")
    if unmeasured := notes.get("forgetting_not_measured"):
        run.console.warn(
            f"lora: no held-out sample measures whether {unmeasured} are forgotten: none shows "
            "them without a new character"
        )
    folder = run_folder(inputs, settings)
    if folder is not None:
        checkpoint.delete_checkpoints(folder)
    return ref
