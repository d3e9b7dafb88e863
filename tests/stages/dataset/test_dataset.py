from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from mimix_core import tables
from mimix_core.domain.splits import Split, assign_splits, composite_count
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.settings import DatasetSettings
from mimix_core.stages.dataset.stage import STAGE, DatasetInputs, describe_shortfall
from mimix_core.tables import Row
from tests.factories import caption, clip, table_ref
from tests.stages.captions.test_recaption import composite

EPISODES = [f"show-e{n}" for n in range(4)]
SETTINGS = DatasetSettings()
SPLITS = assign_splits(
    {"show": EPISODES},
    seed=SETTINGS.seed,
    val_share=SETTINGS.val_share,
    test_share=SETTINGS.test_share,
)
TRAINED = [episode for episode in EPISODES if SPLITS[episode] is Split.TRAIN]
HELD_OUT = [episode for episode in EPISODES if SPLITS[episode] is not Split.TRAIN]
PER_EPISODE = 20


class InputTables:
    """Four episodes of twenty clips, one of them without a caption, and forty composites."""

    def __init__(self, folder: Path) -> None:
        self.clips: list[TableRef] = []
        self.captions: list[TableRef] = []
        for episode in EPISODES:
            names = [f"{episode}-{n:02}" for n in range(PER_EPISODE)]
            rows = [clip(name, episode_id=episode, sha256=name) for name in names]
            self.clips.append(table_ref(folder / episode / "clips", tables.CLIPS, rows))
            captions = [caption(name) for name in names if name != f"{TRAINED[0]}-00"]
            self.captions.append(
                table_ref(folder / episode / "captions", tables.CAPTIONS, captions)
            )
        train = {"source_episode_id": TRAINED[0], "background_episode_id": TRAINED[1]}
        made = [composite(f"x{n:02}", rank=39 - n, **train) for n in range(40)]
        made.append(composite("leak", rank=40, **train | {"source_episode_id": HELD_OUT[0]}))
        made.append(composite("uncaptioned", rank=41, **train))
        self.composites = table_ref(folder / "composites", tables.COMPOSITES, made)
        captions = [
            caption(row["composite_id"]) for row in made if row["composite_id"] != "uncaptioned"
        ]
        self.recaptions = table_ref(folder / "recaptions", tables.CAPTIONS, captions)

    def inputs(self) -> DatasetInputs:
        return DatasetInputs(
            unit="all",
            clips=tuple(self.clips),
            captions=tuple(self.captions),
            composites=self.composites,
            recaptions=self.recaptions,
        )


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> InputTables:
    return InputTables(tmp_path_factory.mktemp("material"))


def dataset(store: Store, material: InputTables, **settings: Any) -> dict[str, Row]:
    run = run_stage(store, STAGE, material.inputs(), DatasetSettings.model_validate(settings))
    return {row["sample_id"]: row for row in tables.read(run.ref.path, tables.DATASET)}


def included_composites(rows: dict[str, Row]) -> set[str]:
    return {n for n, row in rows.items() if row["kind"] == "composite" and row["status"] == "ok"}


def test_every_input_row_is_in_the_manifest(store: Store, material: InputTables) -> None:
    rows = dataset(store, material)
    assert len(rows) == 4 * PER_EPISODE + 42
    assert rows[f"{TRAINED[0]}-00"]["reason"] == "no_caption"
    assert rows["uncaptioned"]["reason"] == "no_caption"
    assert rows["leak"]["reason"] == "held_out"
    assert included_composites(rows) == {f"x{n:02}" for n in range(40)}
    for name, row in rows.items():
        if row["status"] != "ok":
            assert row["split"] == ""
        elif row["kind"] == "composite":
            assert row["split"] == "train"
        else:
            assert row["split"] == SPLITS[name[: len(EPISODES[0])]].value
    assert {row["split"] for row in rows.values()} >= {"train", "val"}


def test_a_sample_names_its_file_in_the_store(store: Store, material: InputTables) -> None:
    rows = dataset(store, material)
    ref = material.clips[1]
    name = f"{EPISODES[1]}-03"
    assert rows[name]["video"] == f"clips/{ref.key}/clips/{name}.mp4"
    assert rows[name]["sha256"] == name
    assert rows[name]["characters"] == ["Tom"]
    assert rows["x00"]["video"] == f"composites/{material.composites.key}/videos/x00.mp4"


@pytest.mark.parametrize("ratio", ["0", "0.037", "0.05", "0.1", "0.2", "0.33"])
def test_the_ratio_is_met_to_one_row(store: Store, material: InputTables, ratio: str) -> None:
    rows = dataset(store, material, ratio=ratio)
    train = [row for row in rows.values() if row["split"] == "train"]
    originals = sum(row["kind"] == "original" for row in train)
    assert originals == len(TRAINED) * PER_EPISODE - 1
    assert len(included_composites(rows)) == composite_count(originals, Fraction(ratio))
    share = Fraction(len(included_composites(rows)), len(train))
    assert abs(share - Fraction(ratio)) <= Fraction(1, 2 * originals)
    dropped = [row for row in rows.values() if row["reason"] == "not_needed_for_ratio"]
    assert len(dropped) == 40 - len(included_composites(rows))


def test_smaller_sets_are_subsets_of_larger_ones(store: Store, material: InputTables) -> None:
    sets = [
        included_composites(dataset(store, material, ratio=r))
        for r in ("0.05", "0.1", "0.2", "0.9")
    ]
    for small, large in pairwise(sets):
        assert small < large
    # The first of the plan are taken: rank 0 is x39.
    assert "x39" in sets[0]


def test_a_rejected_clip_is_left_out_with_the_reason_and_the_ratio_follows(
    store: Store, material: InputTables
) -> None:
    names = [f"{TRAINED[1]}-{number:02}" for number in range(3, 6)]
    inputs = material.inputs().model_copy(update={"vetoes": dict.fromkeys(names, "a logo")})
    run = run_stage(store, STAGE, inputs, DatasetSettings(ratio="0.1"))
    rows = {row["sample_id"]: row for row in tables.read(run.ref.path, tables.DATASET)}
    assert {rows[name]["reason"] for name in names} == {"left_out_by_hand"}
    assert rows[names[0]]["detail"] == "left out by hand: a logo"
    originals = len(TRAINED) * PER_EPISODE - 1 - len(names)
    assert len(included_composites(rows)) == composite_count(originals, Fraction("0.1"))


def test_the_manifest_is_one_plain_parquet_file(store: Store, material: InputTables) -> None:
    run = run_stage(store, STAGE, material.inputs(), DatasetSettings())
    columns = set(pq.read_table(run.ref.path).column_names)
    assert {"caption", "video", "split", "kind", "style", "characters", "sha256"} <= columns
    notes = store.record(run.ref).notes
    assert notes["composites"] == 40
    assert notes["train"] == len(TRAINED) * PER_EPISODE - 1 + 40


def test_a_row_names_its_sources(store: Store, material: InputTables) -> None:
    rows = dataset(store, material)
    original, composed = rows[f"{EPISODES[1]}-03"], rows["x05"]
    assert (original["episode_id"], original["source_episode_id"]) == (EPISODES[1], "")
    assert (original["pasted"], original["rank"]) == ("", -1)
    assert (composed["episode_id"], composed["source_episode_id"]) == (TRAINED[1], TRAINED[0])
    assert (composed["pasted"], composed["pasted_style"]) == ("Tom", "cartoon")
    assert composed["rank"] == 34
    for row in (original, composed):
        assert Fraction(row["rate_num"], row["rate_den"]) == 16
        assert row["caption_backend"] == "test"


def counted(text: str, heading: str) -> dict[str, tuple[int, int]]:
    """The lines of a card's table: name, originals and composites."""
    part = text.split(f"## {heading}\n")[1].split("\n## ", maxsplit=1)[0]
    lines = [line.split("|")[1:4] for line in part.splitlines() if line.startswith("| ")]
    return {name.strip(): (int(a), int(b)) for name, a, b in lines[2:]}


def test_the_card_counts_what_the_table_holds(store: Store, material: InputTables) -> None:
    run = run_stage(store, STAGE, material.inputs(), DatasetSettings(ratio=Decimal("0.1")))
    rows = [r for r in tables.read(run.ref.path, tables.DATASET) if r["status"] == "ok"]
    text = (run.ref.folder / "README.md").read_text()
    wanted: dict[str, dict[str, list[int]]] = {"Splits": {}, "Styles": {}, "Shows": {}}
    wanted["Characters"] = {}
    for row in rows:
        for heading, name in (
            ("Splits", row["split"]),
            ("Styles", f"{row['split']}, {row['style']}"),
            ("Shows", f"{row['split']}, {row['show']}"),
            *(("Characters", f"{row['split']}, {who}") for who in row["characters"]),
        ):
            wanted[heading].setdefault(name, [0, 0])[row["kind"] == "composite"] += 1
    for heading, names in wanted.items():
        found = counted(text, heading)
        assert {n: c for n, c in found.items() if c != (0, 0)} == {
            n: tuple(c) for n, c in names.items()
        }
    made = sum(row["kind"] == "composite" for row in rows)
    assert counted(text, "Pasted characters") == {"Tom (cartoon), realistic": (0, made)}
    assert f"A share of 0.1 was requested: {made} composites." in text
    assert "| composite, not_needed_for_ratio | " in text


def test_an_unmet_ratio_is_reported(store: Store, material: InputTables) -> None:
    run = run_stage(store, STAGE, material.inputs(), DatasetSettings(ratio=Decimal("0.9")))
    notes = store.record(run.ref).notes
    assert notes["composites"] == 40 < int(notes["composites_wanted"])
    assert "There are not enough captioned composites" in (run.ref.folder / "README.md").read_text()
    wanted = notes["composites_wanted"]
    missing = describe_shortfall(notes, Decimal("0.9"))
    assert missing.startswith(f"40 of the {wanted} composites that a share of 0.9 needs")


@pytest.mark.parametrize("ratio", ["0", "0.05", "0.2", "0.5"])
def test_a_met_ratio_has_no_shortfall(store: Store, material: InputTables, ratio: str) -> None:
    run = run_stage(store, STAGE, material.inputs(), DatasetSettings(ratio=Decimal(ratio)))
    met = Fraction(ratio) <= Fraction(40, 40 + len(TRAINED) * PER_EPISODE - 1)
    assert bool(describe_shortfall(store.record(run.ref).notes, Decimal(ratio))) is not met


def test_the_datasets_library_reads_the_manifest(
    store: Store, material: InputTables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    run = run_stage(store, STAGE, material.inputs(), DatasetSettings())
    rows = tables.read(run.ref.path, tables.DATASET)
    for where in (
        {"path": "parquet", "data_files": str(run.ref.path)},
        {"path": str(run.ref.folder)},
    ):
        loaded = datasets.load_dataset(**where, split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.to_list() == rows
        trained = loaded.filter(lambda row: row["split"] == "train")
        assert len(trained) == sum(row["split"] == "train" for row in rows)
