"""Stage ``regions``: find the latent cells of each character, from the masks of its cutouts.

Runs only if the training weighs regions (``lora.region_weight``, ``lora.region_preservation``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from mimix_core import tables
from mimix_core.engine import progress
from mimix_core.engine.artifacts import FrozenModel, TableRef
from mimix_core.engine.cache_key import ExcludeFromKey
from mimix_core.engine.stage import Phase, Stage, StageReport
from mimix_core.errors import BadInput
from mimix_core.media.masks import read_masks
from mimix_core.tables import (
    COMPOSITES,
    CUTOUTS,
    LATENTS,
    REGIONS,
    CompositeRow,
    CutoutRow,
    LatentRow,
    Reason,
    Row,
)
from mimix_core.wan import latent_regions, model_registry, tensor_shards
from mimix_core.wan.latent_regions import IDENTITY, Cells, FrameTransform


class RegionInputs(FrozenModel):
    """The latents of clips or composites, and the cutouts whose masks they show.

    ``composites``: for latents of composites, else None. ``partial_results``: folder of finished
    regions of interrupted units. ``vetoes``: ids of cutouts whose masks people rejected.
    """

    unit: Annotated[str, ExcludeFromKey()]
    latents: TableRef
    cutouts: tuple[TableRef, ...]
    composites: TableRef | None = None
    vetoes: tuple[str, ...] = ()
    partial_results: Annotated[Path, ExcludeFromKey()]


class RegionSettings(FrozenModel):
    """The stage has no settings: its result depends on masks and latents alone."""


@dataclass(frozen=True)
class _PlacedMask:
    """A character's mask in a video. ``size``: of the video, None: of the mask itself."""

    character: str
    file: Path
    path: tuple[FrameTransform, ...] = (IDENTITY,)
    size: tuple[int, int] | None = None


def run(inputs: RegionInputs, settings: RegionSettings, out: Path) -> StageReport:
    """Write the cells of every character of each sample that has latents.

    A sample without a usable mask of any character becomes a rejected row: its loss is not
    weighted. Raises BadInput for a masks file that cannot be read or does not fit its video.
    """
    masks = _masks_by_sample(inputs)
    latents = list(tables.usable(tables.read(inputs.latents.path, LATENTS)))
    key = STAGE.key(inputs, settings)
    done: dict[str, tensor_shards.PartialResult] = {}
    found: dict[str, dict[str, Cells]] = {}
    with tensor_shards.open_partial_results(inputs.partial_results, STAGE.name, key) as results:
        for number, latent in enumerate(latents):
            name = latent["sample_id"]
            progress.report_progress(number, len(latents), name)
            regions = _sample_regions(latent, masks.get(name, ()))
            if regions:
                found[name] = regions
                done[name] = results.put(name, _to_tensor(regions))
        locations = tensor_shards.write_shards(out, "regions", done)
    progress.report_progress(len(latents), len(latents))
    rows = [_region_row(latent, found, locations) for latent in latents]
    return StageReport(rows, rows_in=len(latents), notes={"with_regions": len(found)})


def _to_tensor(regions: Mapping[str, Cells]) -> Any:
    """Stack the cells of the characters, uint8 [characters, frames, rows, columns]."""
    import torch

    return torch.from_numpy(np.stack(list(regions.values())).astype(np.uint8))


def _masks_by_sample(inputs: RegionInputs) -> dict[str, list[_PlacedMask]]:
    """Return the masks of each clip or, with ``composites``, of each composite."""
    cutouts: dict[str, tuple[TableRef, CutoutRow]] = {}
    by_clip: dict[str, list[_PlacedMask]] = {}
    for ref in inputs.cutouts:
        for row in tables.usable(tables.read(ref.path, CUTOUTS)):
            cutouts[row["cutout_id"]] = (ref, row)
            if row["cutout_id"] in inputs.vetoes:
                continue
            mask = _PlacedMask(row["character"], ref.folder / row["file"])
            by_clip.setdefault(row["clip_id"], []).append(mask)
    if inputs.composites is None:
        return by_clip
    composites = tables.usable(tables.read(inputs.composites.path, COMPOSITES))
    return {
        row["composite_id"]: [
            *by_clip.get(row["background_clip_id"], ()),
            _pasted_mask(row, *cutouts[row["cutout_id"]]),
        ]
        for row in composites
    }


def _pasted_mask(row: CompositeRow, ref: TableRef, cutout: CutoutRow) -> _PlacedMask:
    """Return the mask of a composite's pasted character, at the place that its row says."""
    path = [(scale, x, y) for scale, x, y in row["path"]] or [(row["scale"], row["x"], row["y"])]
    size = (row["width"], row["height"])
    return _PlacedMask(row["character"], ref.folder / cutout["file"], tuple(path), size)


def _sample_regions(latent: LatentRow, masks: Iterable[_PlacedMask]) -> dict[str, Cells]:
    """Return the cells of each character of a sample, by name; without those it has none of."""
    _, frames, rows, columns = latent["shape"]
    frame_stride = model_registry.get_backbone(latent["backbone"]).vae_stride[0]
    regions: dict[str, Cells] = {}
    for mask in masks:
        alpha_NHW = read_masks(mask.file)
        height, width = alpha_NHW.shape[1:]
        try:
            cells_THW = latent_regions.touched_cells(
                alpha_NHW,
                mask.path,
                mask.size or (width, height),
                (frames, rows, columns),
                frame_stride,
            )
        except ValueError as error:
            raise BadInput(
                f"its masks do not fit the latents of {latent['sample_id']}: {error}",
                where=str(mask.file),
                fix="Run the stage cutouts again (mimix store).",
            ) from error
        if cells_THW.any():
            known = regions.get(mask.character)
            regions[mask.character] = cells_THW if known is None else known | cells_THW
    return dict(sorted(regions.items()))


def _region_row(
    latent: LatentRow,
    found: Mapping[str, Mapping[str, Cells]],
    locations: Mapping[str, tensor_shards.TensorLocation],
) -> Row:
    name = latent["sample_id"]
    regions = found.get(name, {})
    shared: Row = {
        "sample_id": name,
        "backbone": latent["backbone"],
        "characters": list(regions),
        "areas": [float(cells_THW.mean()) for cells_THW in regions.values()],
    }
    if name in locations:
        return tables.ok(**shared, **locations[name].columns())
    detail = "no character of it has a usable mask"
    return tables.rejected(Reason.NO_MASK, detail, **shared, **tensor_shards.NO_TENSOR)


STAGE = Stage(
    name="regions",
    title="Regions",
    description="Find the latent cells of each character, for a loss that looks at them; "
    "only with lora.region_weight or lora.region_preservation.",
    row_noun="samples",
    phase=Phase.TRAINING,
    upstream=("cutouts", "composites", "latents"),
    version=1,
    inputs=RegionInputs,
    settings=RegionSettings,
    table=REGIONS,
    run=run,
)
