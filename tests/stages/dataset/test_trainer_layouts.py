"""Each trainer's own loading rules, restated here, find every video with its caption, unchanged.

The rules are those of the loaders at the commits that docs/exports.md names; what a person checked
with the loaders themselves is recorded there.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mimix_core import tables
from mimix_core.engine.artifacts import TableRef
from mimix_core.stages.dataset.dataset_export import export_dataset
from mimix_core.stages.dataset.trainer_layouts import ExportFormat
from mimix_core.tables import Row
from tests.factories import table_ref, video

TAG = " [scene-style:cartoon]"
CAPTIONS = {
    "plain": "[Character: Tom], runs." + TAG,
    "umlauts": "[Character: Jürgen Öß], grüßt Zoë." + TAG,
    "emoji": "[Character: 🐰 Häschen 👩‍👩‍👧], says “hop” 🎉." + TAG,
    "quotes": """[Character: O'Neil "Tip"], says 'a, b; c' \\ \\n {x} $HOME `ls`.""" + TAG,
    "newlines": "[Character: Tom],\nsits\n\ndown,\tslowly.\u2028" + TAG,
    "long": "[Character: Tom], " + "runs and runs, " * 4000 + "stops." + TAG,
    "missing": "NA",
    "number": "007",
}
WIDTH, HEIGHT, FRAMES = 64, 48, 5
FOLDER = 'Übung \'à "la" 🎬 #1'


def dataset_row(name: str, sha256: str, **values: object) -> Row:
    row: Row = {
        "sample_id": name,
        "kind": "composite" if name in ("emoji", "long") else "original",
        "split": "val" if name in ("plain", "quotes") else "train",
        "show": "show",
        "style": "cartoon",
        "characters": ["Jürgen Öß"],
        "caption": CAPTIONS[name],
        "caption_backend": "hand",
        "video": f"clips/key/{name}.mp4",
        "sha256": sha256,
        "frames": FRAMES,
        "rate_num": 16,
        "rate_den": 1,
        "width": WIDTH,
        "height": HEIGHT,
        "episode_id": "show-episode",
        "source_episode_id": "",
        "pasted": "",
        "pasted_style": "",
        "rank": -1,
    }
    return tables.ok(**row | values)


@pytest.fixture(scope="module")
def store_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def dataset(store_root: Path) -> TableRef:
    """Real videos with every hostile caption, in train and val, originals and composites."""
    rows = []
    for number, name in enumerate(CAPTIONS):
        frames = np.full((FRAMES, HEIGHT, WIDTH, 3), 20 * number, np.uint8)
        digest = video(store_root / "clips" / "key" / f"{name}.mp4", frames)
        rows.append(dataset_row(name, digest))
    ref = table_ref(store_root / "dataset", tables.DATASET, rows)
    (ref.folder / "README.md").write_text("---\nx: 1\n---\n# A MiMix dataset\n")
    return ref


@pytest.fixture
def exported(dataset: TableRef, store_root: Path, tmp_path: Path) -> Callable[[ExportFormat], Path]:
    def make(export_format: ExportFormat) -> Path:
        export_dataset(dataset, store_root, tmp_path / FOLDER, export_format=export_format)
        return tmp_path / FOLDER

    return make


def expected(split: str) -> dict[str, str]:
    val = {"plain", "quotes"}
    return {
        name: caption for name, caption in CAPTIONS.items() if (name in val) == (split == "val")
    }


def read_text(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def read_directories(paths: list[Path]) -> dict[str, str]:
    """Videos of folders with the ``.txt`` of the same name, as both TOML trainers read them."""
    found: dict[str, str] = {}
    for folder in paths:
        videos = list(folder.glob("*.mp4"))
        assert videos and len(list(folder.iterdir())) == 2 * len(videos)
        found |= {path.stem: read_text(path.with_suffix(".txt")) for path in videos}
    return found


@pytest.mark.parametrize(("split", "config"), [("train", "dataset"), ("val", "dataset-val")])
def test_diffusion_pipe(exported: Callable[[ExportFormat], Path], split: str, config: str) -> None:
    folder = exported(ExportFormat.DIFFUSION_PIPE)
    settings = tomllib.loads((folder / f"{config}.toml").read_text(encoding="utf-8"))
    assert settings["size_buckets"] == [[WIDTH, HEIGHT, FRAMES]]
    assert settings["cache_shuffle_num"] == 0
    assert {directory["num_repeats"] for directory in settings["directory"]} == {1}
    directories = [Path(directory["path"]) for directory in settings["directory"]]
    assert read_directories(directories) == expected(split)
    # A caption file would be ignored for this one (utils/dataset.py).
    assert not list(folder.rglob("captions.json"))


def test_musubi(exported: Callable[[ExportFormat], Path]) -> None:
    folder = exported(ExportFormat.MUSUBI)
    settings = tomllib.loads((folder / "dataset.toml").read_text(encoding="utf-8"))
    assert settings["general"]["caption_extension"] == ".txt"
    datasets = settings["datasets"]
    for entry in datasets:
        # dataset/config_utils.py checks the types: lists of integers, and a decimal rate.
        assert entry["resolution"] == [WIDTH, HEIGHT] and entry["target_frames"] == [FRAMES]
        assert isinstance(entry["source_fps"], float) and entry["source_fps"] == 16
    assert len({entry["cache_directory"] for entry in datasets}) == len(datasets) == 2
    directories = [Path(entry["video_directory"]) for entry in datasets]
    assert read_directories(directories) == expected("train")


@pytest.mark.parametrize("split", ["train", "val"])
def test_diffsynth(exported: Callable[[ExportFormat], Path], split: str) -> None:
    folder = exported(ExportFormat.DIFFSYNTH)
    with (folder / split / "metadata.jsonl").open(encoding="utf-8") as lines:
        read = [json.loads(line.strip()) for line in lines]
    assert all(set(line) == {"video", "prompt"} for line in read)
    assert {Path(line["video"]).stem: line["prompt"] for line in read} == expected(split)
    assert all((folder / split / line["video"]).is_file() for line in read)


@pytest.mark.parametrize("export_format", [ExportFormat.HF, ExportFormat.FINETRAINERS])
@pytest.mark.parametrize("split", ["train", "val"])
def test_the_datasets_library_reads_videos_and_captions(
    exported: Callable[[ExportFormat], Path],
    tmp_path: Path,
    export_format: ExportFormat,
    split: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The call of finetrainers' VideoFolderDataset, and that of docs/exports.md."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    folder = exported(export_format)
    rows = datasets.load_dataset(
        "videofolder",
        data_dir=str(folder / split),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    ).cast_column("video", datasets.Video(decode=False))
    column = "text" if export_format is ExportFormat.HF else "caption"
    found = {Path(row["video"]["path"]): row[column] for row in rows}
    assert {path.stem: caption for path, caption in found.items()} == expected(split)
    for path in found:
        assert path.read_bytes() == next((folder / split).rglob(path.name)).read_bytes()
    if export_format is ExportFormat.FINETRAINERS:
        assert rows.column_names == ["video", "caption"]


def test_the_datasets_library_knows_the_splits(
    exported: Callable[[ExportFormat], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    loaded = datasets.load_dataset(
        str(exported(ExportFormat.HF)), cache_dir=str(tmp_path / "cache")
    )
    for split, name in (("train", "train"), ("val", "validation")):
        rows = loaded[name].cast_column("video", datasets.Video(decode=False))
        assert set(rows["text"]) == set(expected(split).values())
        assert rows[0]["characters"] == ["Jürgen Öß"]


def test_finetrainers_configuration(exported: Callable[[ExportFormat], Path]) -> None:
    folder = exported(ExportFormat.FINETRAINERS)
    training = json.loads((folder / "training.json").read_text(encoding="utf-8"))
    (entry,) = training["datasets"]
    assert Path(entry["data_root"]) == folder / "train" and entry["dataset_type"] == "video"
    assert entry["video_resolution_buckets"] == [[FRAMES, HEIGHT, WIDTH]]
    validation = json.loads((folder / "validation.json").read_text(encoding="utf-8"))["data"]
    assert {one["caption"] for one in validation} == set(expected("val").values())
    assert {(one["width"], one["height"], one["num_frames"]) for one in validation} == {
        (WIDTH, HEIGHT, FRAMES)
    }


@pytest.mark.parametrize("export_format", ExportFormat)
def test_the_card_says_how_to_start(
    exported: Callable[[ExportFormat], Path], export_format: ExportFormat
) -> None:
    folder = exported(export_format)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"laid out for {export_format}." in card
    assert card.startswith("---\nconfigs:") is (export_format is ExportFormat.HF)
    configs = [path.name for path in folder.iterdir() if path.suffix in (".toml", ".json")]
    assert all(name in card for name in configs if not name.startswith("."))
