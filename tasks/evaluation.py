"""Tasks ``videos``, ``samples`` and ``scores``: generate videos of the prompts, measure them."""

from collections.abc import Sequence
from dataclasses import dataclass

from mimix_core.benchmark.scores_stage import ScoreInputs, extension_files, required_weights
from mimix_core.domain.prompts import VideoPrompt, load_prompts
from mimix_core.engine.artifacts import TableRef
from mimix_core.errors import BadInput
from mimix_core.wan.layouts_stage import LayoutInputs, LayoutSettings
from mimix_core.wan.model_registry import get_backbone
from mimix_core.wan.samples_stage import SampleInputs
from mimix_core.wan.tensor_shards import remove_stale_results
from mimix_core.wan.text_embeddings import PROMPTS_CUT_NOTE
from mimix_core.wan.videos_stage import LowNoiseExpert, VideoInputs
from tasks.base import Run, stage_task
from tasks.decisions import load_vetoes
from tasks.training import PreparedBackbone

layouts_task = stage_task("layouts")
videos_task = stage_task("videos")
samples_task = stage_task("samples")
scores_task = stage_task("scores")

MAX_VIDEOS_PER_UNIT = 8
"""Maximum number of prompts per unit: 40 minutes of one H200. Several GPUs each process a unit
(``run.max_workers`` at a time); loading the model is a small part of a unit's time."""


@dataclass(frozen=True)
class LayoutSources:
    """What layouts are made of: clips and cutouts by episode, and the dataset with its split."""

    clips: Sequence[TableRef]
    cutouts: Sequence[TableRef]
    dataset: TableRef


def generate_samples(
    run: Run,
    model: PreparedBackbone,
    lora: Sequence[TableRef],
    sources: LayoutSources | None = None,
) -> TableRef:
    """Generate one video per prompt, in units, and join their tables into one.

    ``lora``: the trained adapter, or one of each trained expert, named by its unit. ``sources``:
    needed if videos start from cutouts.
    """
    settings = run.workspace.config.samples
    prompts = run.workspace.file_ref(settings.prompts, "samples.prompts")
    if prompts is None:
        raise BadInput(
            "no prompts to generate from",
            where="settings, key samples.prompts",
            fix="Set it to the path of a prompts file (see demo/prompts.yaml).",
        )
    roster = [character.name for character in run.workspace.library.characters()]
    parts = run.workspace.config.workspace / "parts"
    units = split_prompt_units(load_prompts(prompts.path, roster))
    layouts: Sequence[TableRef | None] = [None] * len(units)
    if settings.start == "cutouts" and sources is not None:
        layouts = _lay_out_cutouts(run, model, units, sources)
    adapters = [
        run.workspace.file_ref(adapter.path, "samples.adapters") for adapter in settings.adapters
    ]
    trained, low_noise = _split_experts(model, lora)
    inputs = [
        VideoInputs(
            unit=unit,
            prompts=unit_prompts,
            backbone_name=model.name,
            backbone_source=model.source,
            transformer=model.components["transformer"],
            vae=model.components["vae"],
            text_encoder=model.components["text_encoder"],
            tokenizer=model.components["tokenizer"],
            scheduler=model.components["scheduler"],
            lora=trained,
            low_noise=low_noise,
            layouts=layout,
            adapters=tuple(file for file in adapters if file is not None),
            frame_rate=run.workspace.config.clips.frame_rate,
            partial_results=parts,
        )
        for (unit, unit_prompts), layout in zip(units, layouts, strict=True)
    ]
    videos = run.run_units(videos_task, inputs, settings)
    if run.computes:
        remove_stale_results(parts, str(videos_task.name))
    for ref in videos if run.computes else ():
        cut = run.workspace.store.record(ref).notes.get(PROMPTS_CUT_NOTE)
        if cut:
            limit = get_backbone(model.name).text_tokens
            run.console.warn(f"videos ({ref.unit}): prompts are truncated to {limit} tokens: {cut}")
    return run.run_single(samples_task, SampleInputs(unit="all", videos=tuple(videos)), settings)


def _split_experts(
    model: PreparedBackbone, lora: Sequence[TableRef]
) -> tuple[TableRef | None, LowNoiseExpert | None]:
    """Return the adapter of ``transformer``, and the low-noise expert of a backbone of two."""
    experts = get_backbone(model.name).experts
    if not experts:
        return lora[0], None
    by_expert = {ref.unit: ref for ref in lora}
    high, low = experts
    second = LowNoiseExpert(
        transformer=model.components[low.component], lora=by_expert.get(low.name)
    )
    return by_expert.get(high.name), second


def _lay_out_cutouts(
    run: Run,
    model: PreparedBackbone,
    units: Sequence[tuple[str, tuple[VideoPrompt, ...]]],
    sources: LayoutSources,
) -> list[TableRef]:
    """Place the cutouts of each unit's prompts; warn about prompts that lack one."""
    config = run.workspace.config
    samples, parts = config.samples, config.workspace / "parts"
    settings = LayoutSettings(
        width=samples.width,
        height=samples.height,
        num_frames=samples.num_frames,
        seed=samples.seed,
        min_height=config.composites.min_height,
        max_height=config.composites.max_height,
        threads=samples.threads,
        device=samples.device,
    )
    inputs = [
        LayoutInputs(
            unit=unit,
            prompts=prompts,
            clips=tuple(sources.clips),
            cutouts=tuple(sources.cutouts),
            dataset=sources.dataset,
            vetoes=load_vetoes(run.workspace),
            backbone_name=model.name,
            backbone_source=model.source,
            vae=model.components["vae"],
            partial_results=parts,
        )
        for unit, prompts in units
    ]
    refs = run.run_units(layouts_task, inputs, settings)
    if run.computes:
        remove_stale_results(parts, str(layouts_task.name))
        without = sum(ref.counts.rejected for ref in refs)
        if without:
            run.console.warn(
                f"layouts: {without} prompts ask for a character without a cutout in the training "
                "split; their videos start from noise alone"
            )
    return refs


def split_prompt_units(prompts: Sequence[VideoPrompt]) -> list[tuple[str, tuple[VideoPrompt, ...]]]:
    """Split the prompts, in their order, into named units of work."""
    starts = range(0, len(prompts), MAX_VIDEOS_PER_UNIT)
    return [
        (
            f"{start + 1}-{min(start + MAX_VIDEOS_PER_UNIT, len(prompts))}",
            tuple(prompts[start : start + MAX_VIDEOS_PER_UNIT]),
        )
        for start in starts
    ]


def score_samples(run: Run, samples: TableRef, clips: Sequence[TableRef]) -> TableRef:
    """Score every generated video, and real clips for comparison, with every metric."""
    settings = run.workspace.config.scores
    files = (run.workspace.file_ref(path, "scores.weights") for path in required_weights(settings))
    inputs = ScoreInputs(
        unit="all",
        samples=samples,
        clips=tuple(clips),
        weights=tuple(file for file in files if file is not None),
        extensions=tuple(
            run.workspace.store.source_ref(path) for path in extension_files(settings)
        ),
    )
    return run.run_single(scores_task, inputs, settings)
