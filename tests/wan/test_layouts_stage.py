"""Stages ``layouts`` and ``videos``: videos that start from cutouts, and those that do not."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from mimix_core import tables
from mimix_core.domain.prompts import VideoPrompt
from mimix_core.engine.artifacts import TableRef, file_ref
from mimix_core.engine.cache_key import canonical_json
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.media import read_rgb
from mimix_core.media.masks import write_masks
from mimix_core.settings import SampleSettings
from mimix_core.tables import CLIPS, CUTOUTS, DATASET, LAYOUTS, SAMPLES, Row
from mimix_core.wan import layouts_stage, tensor_shards, videos_stage
from mimix_core.wan.generation import provenance
from mimix_core.wan.layouts_stage import LayoutInputs, LayoutSettings
from mimix_core.wan.lora_formats import Adapter
from tests.factories import clip, table_ref, video
from tests.wan.video_inputs import NAME, PROMPTS, SETTINGS, adapter, inputs, prompt

KEY = "fae5dc331f3cbd24597657c358d25a07bd91ef3626c094d737982de9e870622b"


def test_settings_and_provenance_without_a_start_are_those_from_before_it_existed() -> None:
    plain = canonical_json(SampleSettings())
    assert not [name for name in plain if name.startswith("start")]
    assert hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest() == KEY
    assert "start" in canonical_json(SampleSettings(start="cutouts"))
    made = provenance.VideoProvenance(
        prompt="p",
        negative_prompt="",
        seed=1,
        width=16,
        height=16,
        frames=1,
        steps=1,
        guidance=1.0,
        shift=5.0,
        precision="bf16",
        vae_precision="fp32",
        backbone="b",
        base_sha256="c",
        lora_sha256="d",
    )
    assert [name for name in json.loads(made.to_json()) if name.startswith("start")] == []
    started = made.model_copy(update={"start_sha256": "e", "start_strength": 0.5})
    assert json.loads(started.to_json())["start_strength"] == 0.5
    assert started.digest() != made.digest()


def cutout(folder: Path, name: str, clip_id: str, character: str) -> Row:
    alpha = np.zeros((5, 48, 64), np.uint8)
    alpha[:, 10:44, 20:40] = 255
    folder.mkdir(parents=True, exist_ok=True)
    write_masks(folder / f"{name}.parquet", alpha)
    return tables.ok(
        cutout_id=name,
        clip_id=clip_id,
        show="show",
        style="cartoon",
        character=character,
        locator="boxes",
        backend="masks",
        area=[0.2] * 5,
        boxes=[[20, 10, 40, 44]] * 5,
        score=[1.0] * 5,
        presence=1.0,
        border=[],
        file=f"{name}.parquet",
    )


def dataset_row(name: str, split: str) -> Row:
    row = dict.fromkeys(tables.row_schema(tables.DatasetRow).names, "")
    numbers = ("frames", "rate_num", "rate_den", "width", "height", "rank")
    row |= dict.fromkeys(numbers, 1) | {"characters": [], "sample_id": name, "split": split}
    return tables.ok(**{k: v for k, v in row.items() if k not in ("status", "reason", "detail")})


@pytest.fixture(scope="module")
def layout_inputs(tmp_path_factory: pytest.TempPathFactory, pipeline_folder: Path) -> LayoutInputs:
    """Bunny has a cutout in a training clip, Fox only in a held-out one."""
    folder = tmp_path_factory.mktemp("layouts")
    frames = np.full((5, 48, 64, 3), (30, 60, 200), np.uint8)
    frames[:, 10:44, 20:40] = (220, 40, 10)
    for name in ("train", "val"):
        video(folder / "clips" / "clips" / f"{name}.mp4", frames)
    clips = table_ref(folder / "clips", CLIPS, [clip(name, frames=5) for name in ("train", "val")])
    rows = [
        cutout(folder / "cutouts", "bunny", "train", "Bunny"),
        cutout(folder / "cutouts", "fox", "val", "Fox"),
    ]
    return LayoutInputs(
        unit="one",
        prompts=(*PROMPTS, fox_prompt()),
        clips=(clips,),
        cutouts=(table_ref(folder / "cutouts", CUTOUTS, rows),),
        dataset=table_ref(
            folder / "dataset", DATASET, [dataset_row("train", "train"), dataset_row("val", "val")]
        ),
        backbone_name=NAME,
        vae=file_ref(pipeline_folder / "vae"),
        partial_results=folder / "parts",
    )


def fox_prompt() -> VideoPrompt:
    return prompt("fox").model_copy(
        update={
            "category": "inter-style",
            "characters": ("Bunny", "Fox"),
            "actions": (
                *prompt("fox").actions,
                prompt("fox").actions[0].model_copy(update={"name": "Fox"}),
            ),
        }
    )


LAYOUT = LayoutSettings(
    width=32, height=32, num_frames=5, seed=0, min_height=0.2, max_height=0.8, threads=1
)


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory: pytest.TempPathFactory, layout_inputs: LayoutInputs) -> TableRef:
    store = Store(tmp_path_factory.mktemp("store"))
    return run_stage(store, layouts_stage.STAGE, layout_inputs, LAYOUT).ref


@pytest.mark.slow
def test_only_cutouts_of_the_training_split_are_placed(laid_out: TableRef) -> None:
    rows = {row["prompt_id"]: row for row in tables.read(laid_out.path, LAYOUTS)}
    assert {name: row["status"] for name, row in rows.items()} == {
        "one": "ok",
        "two": "ok",
        "fox": "rejected",
    }
    assert rows["fox"]["detail"] == "the training split has no cutout of Fox"
    assert rows["one"]["cutouts"] == ["bunny"]
    [[scale, x, y]] = rows["one"]["places"]
    # As high as in its clip (34 of 48), feet at 44 of 48, in the middle.
    assert scale == pytest.approx(32 / 48)
    assert (scale * 30 + x, scale * 44 + y) == (pytest.approx(16), pytest.approx(32 * 44 / 48))
    assert tensor_shards.read_latents(tensor_shards.tensor_ref(laid_out, rows["one"])).shape == (
        16,
        2,
        4,
        4,
    )


def frames_of(folder: Path, pipeline: Path, weights: Adapter, settings, **more):
    request = inputs(pipeline, folder / "inputs", weights, **more)
    ref = run_stage(Store(folder / "store"), videos_stage.STAGE, request, settings).ref
    made = {row["prompt_id"]: ref.folder / row["file"] for row in tables.read(ref.path, SAMPLES)}
    return {name: (read_rgb(path), path) for name, path in made.items()}


@pytest.mark.slow
def test_a_video_starts_from_its_layout_and_one_without_from_noise(
    tmp_path: Path, pipeline_folder: Path, laid_out: TableRef
) -> None:
    weights = adapter(pipeline_folder)
    prompts = (PROMPTS[0], fox_prompt())
    plain = frames_of(tmp_path / "0", pipeline_folder, weights, SETTINGS, prompts=prompts)
    found = {}
    for strength in (0.0, 1.0):
        settings = SETTINGS.model_copy(update={"start": "cutouts", "start_strength": strength})
        found[strength] = frames_of(
            tmp_path / str(strength),
            pipeline_folder,
            weights,
            settings,
            prompts=prompts,
            layouts=laid_out,
        )
    # Without strength the pipeline gets the noise that it would have drawn itself.
    assert np.array_equal(found[0.0]["one"][0], plain["one"][0])
    assert not np.array_equal(found[1.0]["one"][0], plain["one"][0])
    assert found[1.0]["fox"][1].read_bytes() == plain["fox"][1].read_bytes()
    said = provenance.read_provenance(found[1.0]["one"][1])
    assert (len(said.start_sha256), said.start_strength, said.start_frequency) == (64, 1.0, 0.25)
    again = frames_of(
        tmp_path / "again",
        pipeline_folder,
        weights,
        SETTINGS.model_copy(update={"start": "cutouts", "start_strength": 1.0}),
        prompts=prompts,
        layouts=laid_out,
    )
    assert again["one"][1].read_bytes() == found[1.0]["one"][1].read_bytes()


@pytest.mark.slow
def test_a_missing_table_of_layouts_is_an_error(tmp_path: Path, pipeline_folder: Path) -> None:
    settings = SETTINGS.model_copy(update={"start": "cutouts"})
    with pytest.raises(BadInput, match="the table of layouts is missing"):
        frames_of(tmp_path, pipeline_folder, adapter(pipeline_folder), settings)
