"""Stage ``regions``: masks of clips and of composites become latent cells of each character."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.media.masks import write_masks
from mimix_core.tables import COMPOSITES, CUTOUTS, LATENTS, REGIONS, Row
from mimix_core.wan import regions_stage, tensor_shards
from mimix_core.wan.regions_stage import RegionInputs, RegionSettings
from tests.factories import table_ref

FRAMES, HEIGHT, WIDTH = 5, 32, 48


def cutout(folder: Path, name: str, clip: str, character: str, x: int, frames: int = FRAMES) -> Row:
    """A character of 4 x 4 pixels at (x, 8), which does not move."""
    alpha = np.zeros((frames, HEIGHT, WIDTH), np.uint8)
    alpha[:, 8:12, x : x + 4] = 255
    folder.mkdir(parents=True, exist_ok=True)
    write_masks(folder / f"{name}.parquet", alpha)
    return tables.ok(
        cutout_id=name,
        clip_id=clip,
        show="show",
        style="cartoon",
        character=character,
        locator="boxes",
        backend="masks",
        area=[],
        boxes=[],
        score=[],
        presence=1.0,
        border=[],
        file=f"{name}.parquet",
    )


def latents(folder: Path, *names: str) -> TableRef:
    rows = [
        tables.ok(
            sample_id=name,
            backbone="tiny-random-wan",
            file="",
            key=name,
            shape=[16, 2, HEIGHT // 8, WIDTH // 8],
            sha256="",
        )
        for name in names
    ]
    return table_ref(folder, LATENTS, rows)


@pytest.fixture
def cutouts(tmp_path: Path) -> TableRef:
    folder = tmp_path / "cutouts"
    rows = [
        cutout(folder, "two-tom", "two", "Tom", 0),
        cutout(folder, "two-jerry", "two", "Jerry", 20),
        cutout(folder, "bean", "source", "Mr. Bean", 8),
        cutout(folder, "spoilt", "spoilt", "Tom", 0)
        | {"status": "rejected", "reason": "mask_jumps", "detail": "jumps", "file": ""},
    ]
    return table_ref(folder, CUTOUTS, rows)


def run(tmp_path: Path, **inputs: object) -> tuple[TableRef, dict[str, Row]]:
    request = RegionInputs.model_validate(
        {"unit": "one", "partial_results": tmp_path / "parts", **inputs}
    )
    ref = run_stage(Store(tmp_path / "store"), regions_stage.STAGE, request, RegionSettings()).ref
    return ref, {row["sample_id"]: dict(row) for row in tables.read(ref.path, REGIONS)}


def cells(ref: TableRef, row: Row) -> dict[str, set[tuple[int, int]]]:
    """The cells (row, column) of each character, the same in both latent frames."""
    regions = tensor_shards.read_regions(tensor_shards.tensor_ref(ref, row)).numpy()
    assert regions.shape[1:] == (2, HEIGHT // 8, WIDTH // 8)
    assert np.array_equal(regions[:, 0], regions[:, 1])
    return {
        name: {tuple(cell) for cell in np.argwhere(region[0]).tolist()}
        for name, region in zip(row["characters"], regions, strict=True)
    }


def test_every_character_of_a_clip_has_its_cells(tmp_path: Path, cutouts: TableRef) -> None:
    names = ("two", "source", "spoilt", "nobody")
    ref, rows = run(tmp_path, latents=latents(tmp_path / "latents", *names), cutouts=(cutouts,))
    assert {name: (row["status"], row["reason"]) for name, row in rows.items()} == {
        "two": ("ok", None),
        "source": ("ok", None),
        "spoilt": ("rejected", "no_mask"),
        "nobody": ("rejected", "no_mask"),
    }
    assert cells(ref, rows["two"]) == {"Jerry": {(1, 2)}, "Tom": {(1, 0)}}
    assert rows["two"]["areas"] == [1 / 24, 1 / 24]
    assert cells(ref, rows["source"]) == {"Mr. Bean": {(1, 1)}}


def composite(**values: object) -> Row:
    row: Row = dict.fromkeys(
        ("source_clip_id", "source_episode_id", "background_episode_id", "sheet_file", "sha256"), ""
    )
    row |= {
        "composite_id": "pasted",
        "cutout_id": "bean",
        "background_clip_id": "two",
        "show": "show",
        "style": "cartoon",
        "character": "Mr. Bean",
        "character_style": "realistic",
        "rank": 0,
        "scale": 2.0,
        "x": 8.0,
        "y": -8.0,
        "path": [],
        "source_camera": "static",
        "background_camera": "static",
        "covered": 0.0,
        "ground": None,
        "width": WIDTH,
        "height": HEIGHT,
        "frames": FRAMES,
        "file": "pasted.mp4",
    }
    return tables.ok(**row | values)


def test_a_composite_has_the_pasted_character_and_those_of_its_scene(
    tmp_path: Path, cutouts: TableRef
) -> None:
    moving = [[2.0, 8.0, -8.0]] * 4 + [[1.0, 40.0, 0.0]]
    rows_in = [composite(), composite(composite_id="moving", path=moving)]
    pasted = table_ref(tmp_path / "composites", COMPOSITES, rows_in)
    ref, rows = run(
        tmp_path,
        latents=latents(tmp_path / "latents", "moving", "pasted"),
        cutouts=(cutouts,),
        composites=pasted,
    )
    # From (8, 8) and 4 x 4 pixels to (24, 8) and 8 x 8.
    assert cells(ref, rows["pasted"]) == {
        "Jerry": {(1, 2)},
        "Mr. Bean": {(1, 3)},
        "Tom": {(1, 0)},
    }
    regions = tensor_shards.read_regions(tensor_shards.tensor_ref(ref, rows["moving"])).numpy()
    bean = regions[rows["moving"]["characters"].index("Mr. Bean")]
    # In its last frame, of the second latent frame, it is right of the scene.
    assert np.argwhere(bean).tolist() == [[0, 1, 3], [1, 1, 3]]


def test_a_mask_that_people_rejected_is_not_used(tmp_path: Path, cutouts: TableRef) -> None:
    ref, rows = run(
        tmp_path,
        latents=latents(tmp_path / "latents", "two"),
        cutouts=(cutouts,),
        vetoes=("two-tom",),
    )
    assert cells(ref, rows["two"]) == {"Jerry": {(1, 2)}}


def test_masks_of_another_length_are_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "cutouts"
    short = table_ref(folder, CUTOUTS, [cutout(folder, "short", "two", "Tom", 0, frames=4)])
    with pytest.raises(BadInput, match="do not fit the latents of two: 4 frames"):
        run(tmp_path, latents=latents(tmp_path / "latents", "two"), cutouts=(short,))
