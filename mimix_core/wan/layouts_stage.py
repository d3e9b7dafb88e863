"""Stage ``layouts``: place cutouts of each prompt's characters and encode them as latents.

Runs only if videos start from cutouts (``samples.start: cutouts``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field

from mimix_core import tables
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FileRef, FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Resource, Stage, StageReport
from mimix_core.media.decode import read_rgb
from mimix_core.media.masks import read_masks
from mimix_core.tables import CLIPS, CUTOUTS, DATASET, LAYOUTS, Reason, Row
from mimix_core.wan import layouts, model_registry, tensor_shards
from mimix_core.wan.layouts import LayoutCutout, PlacedCutout


class LayoutInputs(FrozenModel):
    """Prompts, the cutouts to place and the VAE.

    ``dataset``: whose training split the cutouts are of. ``vetoes``: ids of cutouts whose masks
    people rejected. ``partial_results``: folder of finished layouts of interrupted units.
    """

    unit: Annotated[str, ExcludeFromKey()]
    prompts: tuple[VideoPrompt, ...]
    clips: tuple[TableRef, ...]
    cutouts: tuple[TableRef, ...]
    dataset: TableRef
    vetoes: tuple[str, ...] = ()
    backbone_name: str
    backbone_source: FileRef | None = None
    vae: FileRef
    partial_results: Annotated[Path, ExcludeFromKey()]


class LayoutSettings(FrozenModel):
    """Those of the generated videos and of composites that a layout depends on."""

    width: int
    height: int
    num_frames: int
    seed: int
    min_height: float = Field(gt=0)
    max_height: float = Field(gt=0)
    threads: int = Field(ge=1)
    device: Annotated[Literal["auto", "cpu", "cuda"], ExcludeFromKey()] = "auto"


def run(inputs: LayoutInputs, settings: LayoutSettings, out: Path) -> StageReport:
    """Write the latents of a layout for every prompt.

    A prompt of whose characters one has no cutout in the training split becomes a rejected row: its
    video starts from plain noise. Raises BadInput for masks or a clip that cannot be read.
    """
    cutouts = layouts.best_cutouts(_training_cutouts(inputs))
    placed: dict[str, list[PlacedCutout]] = {}
    for prompt in inputs.prompts:
        if all(name in cutouts for name in prompt.characters):
            placed[prompt.id] = _place(prompt, cutouts, settings)
    key = STAGE.key(inputs, settings)
    with tensor_shards.open_partial_results(inputs.partial_results, STAGE.name, key) as results:
        done = {name: found for name in placed if (found := results.get(name)) is not None}
        if missing := {name: them for name, them in placed.items() if name not in done}:
            done |= _encode(missing, inputs, settings, results)
        locations = tensor_shards.write_shards(out, "layouts", done)
    rows: list[Row] = []
    for prompt in inputs.prompts:
        shared = _shared_columns(prompt, inputs.backbone_name, placed.get(prompt.id, ()))
        if prompt.id in locations:
            rows.append(tables.ok(**shared, **locations[prompt.id].columns()))
        else:
            lacking = sorted(name for name in prompt.characters if name not in cutouts)
            detail = f"the training split has no cutout of {', '.join(lacking)}"
            rows.append(
                tables.rejected(Reason.NO_MASK, detail, **shared, **tensor_shards.NO_TENSOR)
            )
    return StageReport(rows, rows_in=len(inputs.prompts))


def _training_cutouts(inputs: LayoutInputs) -> list[LayoutCutout]:
    train = {
        row["sample_id"]
        for row in tables.usable(tables.read(inputs.dataset.path, DATASET))
        if row["split"] == "train"
    }
    clips = {
        row["clip_id"]: (ref.folder / row["file"], (row["width"], row["height"]))
        for ref in inputs.clips
        for row in tables.usable(tables.read(ref.path, CLIPS))
        if row["clip_id"] in train
    }
    return [
        LayoutCutout(row, ref.folder / row["file"], *clips[row["clip_id"]])
        for ref in inputs.cutouts
        for row in tables.usable(tables.read(ref.path, CUTOUTS))
        if row["clip_id"] in clips and row["cutout_id"] not in inputs.vetoes
    ]


def _place(
    prompt: VideoPrompt, cutouts: dict[str, list[LayoutCutout]], settings: LayoutSettings
) -> list[PlacedCutout]:
    """Place a prompt's cutouts: adding or removing prompts does not change those of the others."""
    from mimix_core.engine.torch_runtime import derive_seed

    return layouts.place_side_by_side(
        prompt.characters,
        cutouts,
        (settings.width, settings.height),
        (settings.min_height, settings.max_height),
        np.random.default_rng(derive_seed(settings.seed, "layout", prompt.id)),
    )


def _encode(
    placed: dict[str, list[PlacedCutout]],
    inputs: LayoutInputs,
    settings: LayoutSettings,
    results: tensor_shards.PartialResults,
) -> dict[str, tensor_shards.PartialResult]:
    from mimix_core.engine.gpu_lease import acquire_device
    from mimix_core.engine.torch_runtime import set_num_threads

    set_num_threads(settings.threads)
    interface = model_registry.load_interface(model_registry.get_backbone(inputs.backbone_name))
    done = {}
    progress.report_progress(0, len(placed), "waiting for a free device")
    with acquire_device(settings.device) as device:
        vae: Any = interface.load_vae(inputs.vae.path, device, "fp32")
        for number, (name, cutouts) in enumerate(placed.items()):
            progress.report_progress(number, len(placed), name)
            figures = [
                (one, read_rgb(one.cutout.video), read_masks(one.cutout.masks)) for one in cutouts
            ]
            frames_THWC = layouts.draw_layout(
                figures, (settings.width, settings.height), settings.num_frames
            )
            done[name] = results.put(name, interface.encode_frames(vae, frames_THWC))
    progress.report_progress(len(placed), len(placed))
    return done


def _shared_columns(
    prompt: VideoPrompt, backbone: str, placed: list[PlacedCutout] | tuple[()]
) -> Row:
    return {
        "prompt_id": prompt.id,
        "backbone": backbone,
        "characters": [one.cutout.row["character"] for one in placed],
        "cutouts": [one.cutout.row["cutout_id"] for one in placed],
        "places": [[one.scale, one.x, one.y] for one in placed],
    }


STAGE = Stage(
    name="layouts",
    title="Layouts",
    description="Place cutouts of each prompt's characters to start its video from; "
    "only with samples.start: cutouts.",
    row_noun="prompts",
    phase=Phase.GENERATION,
    upstream=("duplicates", "cutouts", "dataset", "backbone"),
    resources=frozenset({Resource.CPU, Resource.GPU}),
    version=1,
    inputs=LayoutInputs,
    settings=LayoutSettings,
    table=LAYOUTS,
    run=run,
)
