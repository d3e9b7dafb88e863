"""Stage ``lora`` for real: DeepSpeed in child processes on a tiny random Wan."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from mimix_core import tables
from mimix_core.errors import BadInput
from mimix_core.refs import TableRef, digest_file, file_ref
from mimix_core.settings import LoraSettings
from mimix_core.stage import run_stage
from mimix_core.store import Store
from mimix_core.tables import DATASET, EMBEDDINGS, LATENTS, LORA, ok
from mimix_core.training import stage
from mimix_core.wan import lora, tensors, tiny
from tests.made import table_ref

pytestmark = pytest.mark.slow

NAME = "tiny-random-wan"
CAPTION = "[Character: Bunny], smiles. [scene-style:cartoon]"
SETTINGS = LoraSettings(
    rank=8,
    alpha=8,
    targets=("to_q", "to_v", "ffn.net.2", "proj_out"),
    epochs=5,
    batch=4,
    learning_rate=1e-2,
    warmup_steps=2,
    precision="fp32",
    gradient_checkpointing=False,
    validate_every=5,
    validation_quantiles=3,
)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> stage.LoraInputs:
    """9 samples to train on, 2 held out, 1 for tests, and 3 that lack something."""
    folder = tmp_path_factory.mktemp("lora")
    tiny.build([CAPTION], 0, folder / "pipeline")
    splits = ["train"] * 9 + ["val"] * 2 + ["test"]
    names = [f"clip{n:02d}" for n in range(len(splits))]
    dataset = [sample(name, split) for name, split in zip(names, splits, strict=True)]
    dataset += [sample(name, "train") for name in ("no-latent", "no-text", "other-text")]
    latents, texts = [], []
    for number, name in enumerate([*names, "no-text", "other-text"]):
        # Smooth pictures of one kind: there is something to learn.
        numbers = torch.Generator().manual_seed(number)
        coarse = torch.randn(1, 16, 2, 2, 2, generator=numbers)
        clean = torch.nn.functional.interpolate(coarse, size=(3, 4, 6), mode="trilinear")[0]
        tensors.write(folder / f"{name}.latents", {"latents_CTHW": clean})
        row = {"sample_id": name, "backbone": NAME, "sha256": "", "file": f"{name}.latents"}
        latents.append(ok(**row, shape=list(clean.shape)))
    for name in [*names, "no-latent", "other-text"]:
        tensors.write(folder / f"{name}.text", {"text_LD": torch.ones(5, 32)})
        row = {"sample_id": name, "backbone": NAME, "sha256": "", "file": f"{name}.text"}
        caption = "another" if name == "other-text" else CAPTION
        texts.append(ok(**row, caption=caption, tokens=5))
    return stage.LoraInputs(
        unit="all",
        dataset=table_ref(folder / "dataset", DATASET, dataset),
        latents=(beside(folder, "latents", LATENTS, latents),),
        embeddings=(beside(folder, "texts", EMBEDDINGS, texts),),
        backbone_name=NAME,
        transformer=file_ref(folder / "pipeline" / "transformer"),
    )


def beside(folder: Path, name: str, table: tables.Table, rows: list[tables.Row]) -> TableRef:
    """A table in ``folder`` itself: its files lie there."""
    ref = table_ref(folder / name, table, rows)
    path = folder / f"{name}.parquet"
    ref.path.rename(path)
    return ref.model_copy(update={"path": path})


def sample(name: str, split: str) -> tables.Row:
    return ok(
        sample_id=name,
        kind="original",
        split=split,
        show="show",
        style="cartoon",
        characters=["Bunny"],
        caption=CAPTION,
        video="",
        sha256="",
        frames=9,
        width=48,
        height=32,
    )


@pytest.fixture(scope="module")
def first(inputs: stage.LoraInputs, tmp_path_factory: pytest.TempPathFactory) -> TableRef:
    return run_stage(Store(tmp_path_factory.mktemp("one")), stage.STAGE, inputs, SETTINGS).ref


def log(ref: TableRef) -> list[dict[str, float]]:
    lines = (ref.folder / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def held_out(ref: TableRef) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for record in log(ref):
        if "val_loss" in record:
            found.setdefault(int(record["step"]), []).append(record["val_loss"])
    return found


def files(ref: TableRef) -> dict[str, str]:
    return {p.name: digest_file(p) for p in ref.folder.iterdir() if p.name != "stage.json"}


def test_each_dataset_row_is_answered_for(first: TableRef) -> None:
    rows = {row["sample_id"]: row for row in tables.read(first.path, LORA)}
    assert {name: row["seen"] for name, row in rows.items() if row["status"] == "ok"} == {
        **{f"clip{n:02d}": 5 for n in range(9)},
        **{f"clip{n:02d}": 0 for n in (9, 10, 11)},
    }
    assert {name: row["reason"] for name, row in rows.items() if row["status"] == "failed"} == {
        "no-latent": "no_latent",
        "no-text": "no_caption",
        "other-text": "no_caption",
    }


def test_the_held_out_loss_falls_at_every_noise_level(first: TableRef) -> None:
    curve = held_out(first)
    assert sorted(curve) == [0, 5, 10, 12]
    for before, after in zip(curve[0], curve[12], strict=True):
        assert after < 0.9 * before


def test_the_log_has_every_step_with_its_warm_up(first: TableRef) -> None:
    steps = [record for record in log(first) if "train_loss" in record]
    assert [record["step"] for record in steps] == list(range(1, 13))
    assert [record["lr"] for record in steps[:3]] == [0.005, 0.01, 0.01]
    assert all(record["grad_norm"] > 0 for record in steps)


def test_training_repeats_bit_by_bit_without_home_or_compiler(
    first: TableRef,
    inputs: stage.LoraInputs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.setenv("PATH", "/nonexistent")
    again = run_stage(Store(tmp_path / "again"), stage.STAGE, inputs, SETTINGS).ref
    assert files(again) == files(first)
    assert lora.FILE in files(again)
    logged = (again.folder / "train.log").read_text()
    assert str(tmp_path) not in logged
    assert os.sep + "site-packages" not in logged


def test_two_processes_with_zero_2_train_as_one_does(
    first: TableRef, inputs: stage.LoraInputs, tmp_path: Path
) -> None:
    settings = SETTINGS.model_copy(update={"processes": 2, "zero_stage": 2, "threads": 1})
    two = run_stage(Store(tmp_path), stage.STAGE, inputs, settings).ref
    losses = [[r["train_loss"] for r in log(ref) if "train_loss" in r] for ref in (first, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-3)
    assert held_out(two)[12] == pytest.approx(held_out(first)[12], rel=1e-3)
    weights = [tensors.read(ref.folder / lora.FILE) for ref in (first, two)]
    for name, tensor in weights[0].items():
        assert torch.allclose(tensor, weights[1][name], atol=2e-3), name


def test_parts_of_another_backbone_are_refused(inputs: stage.LoraInputs, tmp_path: Path) -> None:
    other = inputs.model_copy(update={"backbone_name": "wan2.1-t2v-14b"})
    with pytest.raises(BadInput, match=r"made with tiny-random-wan, not wan2.1-t2v-14b"):
        stage.run(other, SETTINGS, tmp_path)


def test_nothing_to_train_on_is_refused(inputs: stage.LoraInputs, tmp_path: Path) -> None:
    bare = inputs.model_copy(update={"latents": ()})
    with pytest.raises(BadInput, match="none of 15 samples can be trained on"):
        stage.run(bare, SETTINGS, tmp_path)
