"""The dataset as a plain folder: videos by split and kind, and a metadata file beside them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from mimix_core import tables
from mimix_core.engine import folder_export
from mimix_core.engine.artifacts import TableRef
from mimix_core.engine.folder_export import ExportedFile, FileTransfer
from mimix_core.engine.locks import exclusive_lock
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, StageFailed
from mimix_core.settings import DatasetSettings
from mimix_core.stages.dataset.dataset_card import CARD_FILE
from mimix_core.stages.dataset.dataset_export import export_dataset
from mimix_core.stages.dataset.stage import STAGE, DatasetInputs
from mimix_core.stages.dataset.trainer_layouts import ExportFormat
from tests.factories import caption, clip, table_ref
from tests.stages.captions.test_recaption import composite
from tests.stages.dataset.test_dataset import EPISODES, HELD_OUT, TRAINED


def content(name: str) -> bytes:
    return f"the video of {name}".encode()


def digest(name: str) -> str:
    return hashlib.sha256(content(name)).hexdigest()


@pytest.fixture
def dataset(store: Store, tmp_path: Path) -> TableRef:
    """Two clips of each of four episodes and three composites, whose files are in the store."""
    clips, captions = [], []
    for episode in EPISODES:
        names = [f"{episode}-{n}" for n in range(2)]
        rows = [clip(n, episode_id=episode, sha256=digest(n)) for n in names]
        clips.append(table_ref(tmp_path / episode / "clips", tables.CLIPS, rows))
        made = [caption(name) for name in names]
        captions.append(table_ref(tmp_path / episode / "captions", tables.CAPTIONS, made))
    pasted = [
        composite(
            f"x{n}",
            rank=n,
            sha256=digest(f"x{n}"),
            source_episode_id=TRAINED[0],
            background_episode_id=TRAINED[1],
        )
        for n in range(3)
    ]
    inputs = DatasetInputs(
        unit="all",
        clips=tuple(clips),
        captions=tuple(captions),
        composites=table_ref(tmp_path / "composites", tables.COMPOSITES, pasted),
        recaptions=table_ref(
            tmp_path / "recaptions", tables.CAPTIONS, [caption(f"x{n}") for n in range(3)]
        ),
    )
    ref = run_stage(store, STAGE, inputs, DatasetSettings()).ref
    for row in tables.read(ref.path, tables.DATASET):
        path = store.root / row["video"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(row["sample_id"]))
    return ref


def lines(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / split / "metadata.jsonl").open()]


def test_originals_and_composites_are_exported_by_split(
    store: Store, dataset: TableRef, tmp_path: Path
) -> None:
    folder = tmp_path / "out" / "set"
    made = export_dataset(dataset, store.root, folder)
    originals = {f"{episode}-{n}" for episode in TRAINED for n in range(2)}
    assert dict(made.counts) == {
        ("train", "original"): len(originals),
        ("train", "composite"): 3,
        ("val", "original"): 2 * len(HELD_OUT),
    }
    train = {line["sample_id"]: line for line in lines(folder, "train")}
    assert set(train) == originals | {"x0", "x1", "x2"}
    for name, line in train.items():
        kind = "composite" if name[0] == "x" else "original"
        assert line["file_name"] == f"{kind}/{name}.mp4"
        assert (folder / "train" / line["file_name"]).read_bytes() == content(name)
        assert line["text"] == "[Character: Tom], runs. [scene-style:cartoon]"
        assert line["characters"] == ["Tom"]
    assert {line["episode_id"] for line in lines(folder, "val")} == set(HELD_OUT)
    videos = {p.relative_to(folder).as_posix() for p in folder.rglob("*.mp4")}
    named = {f"{s}/{line['file_name']}" for s in ("train", "val") for line in lines(folder, s)}
    assert videos == named
    card = (folder / CARD_FILE).read_text()
    assert "  - split: validation\n    path: val/**" in card
    assert f"{len(originals)} originals in train, 3 composites in train" in card
    assert not list(folder.parent.glob(".*"))


def test_splits_and_kinds_can_be_selected(store: Store, dataset: TableRef, tmp_path: Path) -> None:
    made = export_dataset(dataset, store.root, tmp_path / "a", splits=["train"], kinds=["original"])
    assert set(made.counts) == {("train", "original")}
    assert [p.name for p in (tmp_path / "a").iterdir() if p.is_dir()] == ["train"]
    with pytest.raises(BadInput, match="no composite samples in test or val"):
        export_dataset(
            dataset, store.root, tmp_path / "b", splits=["val", "test"], kinds=["composite"]
        )
    assert not (tmp_path / "b").exists()


def test_the_same_dataset_gives_the_same_bytes(
    store: Store, dataset: TableRef, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        export_dataset(dataset, store.root, tmp_path / name)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 2 * len(EPISODES) + 3 + 4  # two metadata files, card and record
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_a_changed_or_missing_video_is_never_exported(
    store: Store, dataset: TableRef, tmp_path: Path
) -> None:
    rows = {row["sample_id"]: row for row in tables.read(dataset.path, tables.DATASET)}
    video = store.root / rows["x1"]["video"]
    video.write_bytes(b"another")
    with pytest.raises(StageFailed, match=r"x1.mp4 has changed since it was made"):
        export_dataset(dataset, store.root, tmp_path / "out")
    video.unlink()
    with pytest.raises(StageFailed, match=r"x1.mp4 is missing. Run `mimix augment` again"):
        export_dataset(dataset, store.root, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / ".out.part").rglob("x1.mp4*"))
    video.write_bytes(content("x1"))
    assert export_dataset(dataset, store.root, tmp_path / "out").videos == len(rows)
    assert not (tmp_path / ".out.part").exists()


@pytest.mark.parametrize("transfer", FileTransfer)
def test_an_interrupted_export_goes_on(
    store: Store,
    dataset: TableRef,
    tmp_path: Path,
    transfer: FileTransfer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Killed in the middle of the third video, it takes the two that are whole, and no other."""
    whole = folder_export._transfer_file
    transferred: list[str] = []

    def die_at_the_third(file: ExportedFile, target: Path, how: FileTransfer) -> None:
        if len(transferred) == 2:
            target.parent.mkdir(parents=True, exist_ok=True)
            half = file.path.read_bytes()[:5]
            target.with_name(target.name + ".unfinished").write_bytes(half)
            target.with_name("of-another-dataset.mp4").write_bytes(b"old")
            raise KeyboardInterrupt
        whole(file, target, how)
        transferred.append(target.name)

    monkeypatch.setattr(folder_export, "_transfer_file", die_at_the_third)
    with pytest.raises(KeyboardInterrupt):
        export_dataset(dataset, store.root, tmp_path / "out", transfer=transfer)
    assert not (tmp_path / "out").exists()
    first = next((tmp_path / ".out.part").rglob(transferred[0]))
    first.unlink()
    first.write_bytes(b"torn")

    def count(file: ExportedFile, target: Path, how: FileTransfer) -> None:
        whole(file, target, how)
        again.append(target.name)

    again: list[str] = []
    monkeypatch.setattr(folder_export, "_transfer_file", count)
    made = export_dataset(dataset, store.root, tmp_path / "out", transfer=transfer)
    assert transferred[0] in again and transferred[1] not in again
    assert len(again) == made.videos - 1
    files = list((tmp_path / "out").rglob("*.mp4*"))
    assert len(files) == made.videos
    assert all(path.read_bytes() == content(path.stem) for path in files)
    linked = {path.stat().st_nlink > 1 for path in files}
    assert linked == {transfer is FileTransfer.LINK}


def test_the_same_export_again_is_there_already(
    store: Store, dataset: TableRef, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    first = export_dataset(dataset, store.root, out)
    (out / "cache").mkdir()  # of a trainer
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    assert export_dataset(dataset, store.root, out) == first
    assert times == {path: path.stat().st_mtime_ns for path in out.rglob("*.mp4")}
    for other in ({"splits": ["train"]}, {"export_format": ExportFormat.MUSUBI}):
        with pytest.raises(BadInput, match="already exists and holds another export"):
            export_dataset(dataset, store.root, out, **other)


def test_a_foreign_folder_is_never_written_to(
    store: Store, dataset: TableRef, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadInput, match="already exists and holds other files"):
        export_dataset(dataset, store.root, tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(BadInput, match="is not a folder"):
        export_dataset(dataset, store.root, tmp_path / "mine" / "thesis.txt")


def test_a_mounted_folder_cannot_be_replaced(
    store: Store, dataset: TableRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "volume").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "volume")
    with pytest.raises(
        BadInput, match=r"is where a disk .* Give a folder in it, e\.g\. .*/volume/"
    ):
        export_dataset(dataset, store.root, tmp_path / "volume")
    assert not list(tmp_path.glob(".*.part")), "nothing is copied before"
    assert export_dataset(dataset, store.root, tmp_path / "volume" / "export").videos


def test_two_exports_into_one_folder_exclude_each_other(
    store: Store, dataset: TableRef, tmp_path: Path
) -> None:
    with (
        exclusive_lock(tmp_path / ".out.part" / ".lock"),
        pytest.raises(BadInput, match="another export writes to it"),
    ):
        export_dataset(dataset, store.root, tmp_path / "out")
    assert export_dataset(dataset, store.root, tmp_path / "out").videos
