from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from mimix_core import tables
from mimix_core.engine.artifacts import FileRef, TableRef, file_ref
from mimix_core.engine.stage import StageRun, run_stage
from mimix_core.engine.store import Store
from mimix_core.media.masks import read_masks, write_masks
from mimix_core.settings import CutoutSettings
from mimix_core.settings.segmenter_settings import Sam2Settings
from mimix_core.stages.cutouts.stage import STAGE, CutoutInputs, captioned_characters
from tests.factories import caption, clip, table_ref, video

BOXES = """\
boxes:
  - {time: "0", character: Tom, box: [0.2, 0.2, 0.7, 1]}
  - {time: "2.9", character: Tom, box: [0.3, 0.2, 0.8, 1]}
  - {time: "5.5", character: Tom, box: [0.4, 0.2, 0.9, 1]}
  - {time: "20", character: Tom, box: [0.2, 0.2, 0.7, 1]}
  - {time: "22.9", character: Tom, box: [0.2, 0.2, 0.7, 1]}
  - {time: "40", character: Tom, box: [0.2, 0.2, 0.7, 1]}
  - {time: "43", character: Tom, box: [0.2, 0.2, 0.7, 1]}
  - {time: "46", character: Tom, box: [0.2, 0.2, 0.7, 1]}
"""
TOM = "[Character: Tom], runs. [scene-style:cartoon]"
BOTH = (
    "[Character: Tom], runs. [Character: Jerry], hides. [Character: Tom], falls. "
    "[scene-style:cartoon]"
)


def walking(folder: Path) -> TableRef:
    """Clip ``a``: a red figure that moves along the lower border of 64 x 48 pixels.

    ``c`` and ``d`` have the same video.
    """
    frames = np.empty((81, 48, 64, 3), np.uint8)
    frames[:] = (40, 130, 60)
    for n in range(81):
        left = 14 + n // 8
        frames[n, 12:, left : left + 28] = (220, 60, 40)
    digest = video(folder / "clips/a.mp4", frames)
    (folder / "clips/broken.mp4").write_bytes(b"no video")
    rows = [
        clip("a", sha256=digest),
        clip("broken", start=40_000),
        clip("c", file="clips/a.mp4", sha256=digest),
        clip("d", file="clips/a.mp4", sha256=digest),
        clip("half", start=20_000),
        clip("uncaptioned"),
    ]
    return table_ref(folder, tables.CLIPS, rows)


GRABCUT = CutoutSettings(backend="grabcut")
CAPTIONED = {"a": BOTH, "broken": TOM, "half": TOM}


def run(
    store: Store,
    folder: Path,
    settings: CutoutSettings = GRABCUT,
    weights: FileRef | None = None,
    captioned: Mapping[str, str] = CAPTIONED,
) -> StageRun:
    folder.mkdir(exist_ok=True)
    boxes = folder / "boxes.yaml"
    boxes.write_text(BOXES)
    rows = [caption(name, text) for name, text in captioned.items()]
    captions = table_ref(folder / "captions", tables.CAPTIONS, rows)
    inputs = CutoutInputs(
        unit="pilot",
        roster=("Tom", "Jerry"),
        clips=walking(folder / "in"),
        captions=captions,
        captioned=captioned_characters(captions),
        boxes=file_ref(boxes),
        weights=weights,
    )
    return run_stage(store, STAGE, inputs, settings)


def test_every_captioned_character_gets_a_row(store: Store, tmp_path: Path) -> None:
    made = run(store, tmp_path)
    rows = {row["cutout_id"]: row for row in tables.read(made.ref.path, tables.CUTOUTS)}
    assert set(rows) == {"a-tom", "a-jerry", "broken-tom", "half-tom"}
    assert rows["a-jerry"]["reason"] == "not_located"
    assert rows["half-tom"]["reason"] == "not_located"
    assert "58%" in rows["half-tom"]["detail"]
    assert (rows["broken-tom"]["status"], rows["broken-tom"]["reason"]) == (
        "failed",
        "segment_failed",
    )
    tom = rows["a-tom"]
    assert tom["status"] == "ok"
    assert (tom["locator"], tom["backend"], tom["border"]) == ("boxes", "grabcut", ["bottom"])
    assert len(tom["score"]) == 81
    assert min(tom["score"]) > 0.5
    assert rows["a-jerry"]["score"] == []
    alphas = read_masks(made.ref.folder / tom["file"])
    assert alphas.shape == (81, 48, 64)
    for n in (0, 40, 80):
        left = 14 + n // 8
        truth = np.zeros((48, 64), bool)
        truth[12:, left : left + 28] = True
        mask = alphas[n] >= 128
        assert (mask & truth).sum() / (mask | truth).sum() > 0.9


def test_two_runs_write_the_same_bytes(tmp_path: Path) -> None:
    one = run(Store(tmp_path / "one"), tmp_path / "x").ref
    two = run(Store(tmp_path / "two"), tmp_path / "x").ref
    assert one.sha256 == two.sha256
    assert (one.folder / "masks/a-tom.parquet").read_bytes() == (
        two.folder / "masks/a-tom.parquet"
    ).read_bytes()


def test_masks_round_trip(tmp_path: Path) -> None:
    alphas = np.random.default_rng(0).integers(0, 256, (5, 48, 64)).astype(np.uint8)
    write_masks(tmp_path / "m.parquet", alphas)
    assert np.array_equal(read_masks(tmp_path / "m.parquet"), alphas)


@pytest.mark.e2e
def test_sam2_with_random_weights_runs_through_the_stage_and_is_rejected(
    store: Store, tmp_path: Path
) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("sam2", reason="the package sam2 is installed by make setup")
    from mimix_core.stages.cutouts.sam2 import model_zoo

    torch.manual_seed(0)
    checkpoint = tmp_path / "random.pt"
    torch.save({"model": model_zoo.build_predictor("tiny", image_size=64).state_dict()}, checkpoint)
    given = file_ref(checkpoint)
    sam2 = Sam2Settings(
        model="tiny",
        sha256=given.sha256,
        image_size=64,
        precision="fp32",
        device="cpu",
        clip_batch_size=2,
    )
    settings = CutoutSettings(backend="sam2", sam2=sam2)
    captioned = {"a": BOTH, "broken": TOM, "c": TOM, "d": TOM}
    made = run(store, tmp_path, settings, given, captioned)
    rows = {row["cutout_id"]: row for row in tables.read(made.ref.path, tables.CUTOUTS)}
    assert set(rows) == {"a-tom", "a-jerry", "broken-tom", "c-tom", "d-tom"}
    assert rows["broken-tom"]["reason"] == "segment_failed"
    for name in ("a-tom", "c-tom", "d-tom"):
        tom = rows[name]
        assert (tom["status"], tom["backend"]) == ("rejected", f"sam2.1-tiny/{given.sha256[:8]}")
        assert tom["reason"].startswith("mask_")
        assert len(tom["score"]) == len(tom["area"]) == 81
    # Two clips in one batch and one alone: equal up to the last bits.
    assert np.allclose(rows["a-tom"]["area"], rows["d-tom"]["area"], atol=0.01)
    again = run(Store(tmp_path / "again"), tmp_path, settings, given, captioned)
    assert again.ref.sha256 == made.ref.sha256
