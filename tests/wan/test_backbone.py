"""Stage ``backbone``: what it refuses, and which digests it hands on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from mimix_core.errors import BadInput, MissingModel
from mimix_core.refs import file_ref
from mimix_core.settings import BackboneSettings
from mimix_core.stage import run_stage
from mimix_core.store import Store
from mimix_core.tables import CAPTIONS, Reason, failed, ok
from mimix_core.wan import backbone, tensors
from tests.made import UNASKED, table_ref

REAL = BackboneSettings(name="wan2.1-t2v-1.3b")


def captions(folder: Path, *texts: str):
    empty = {"backend": "script", "actions": [], "context": "", "style": "cartoon", **UNASKED}
    rows = [ok(clip_id=f"c{n}", caption=text, **empty) for n, text in enumerate(texts)]
    rows.append(failed(Reason.NO_CAPTION, "broken", clip_id="x", caption="unseen", **empty))
    return table_ref(folder, CAPTIONS, rows)


def real_folder(folder: Path, *, layers: int = 30, heads: int = 12) -> Path:
    for name in backbone.COMPONENTS:
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    (folder / "model_index.json").write_text("{}")
    config = {"num_layers": layers, "num_attention_heads": heads}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    for name in ("transformer", "vae", "text_encoder"):
        tensors.write(folder / name / "model.safetensors", {"w": torch.zeros(3, 5)})
    return folder


@pytest.mark.slow
def test_the_stand_in_is_built_below_the_table(store: Store, tmp_path: Path) -> None:
    inputs = backbone.BackboneInputs(unit="all", captions=(captions(tmp_path / "c", "A b."),))
    settings = BackboneSettings(name="tiny-random-wan")
    ref = run_stage(store, backbone.STAGE, inputs, settings).ref
    found = backbone.components(ref, None)
    assert set(found) == set(backbone.COMPONENTS)
    for name, part in found.items():
        assert part.path.is_relative_to(ref.folder)
        assert part.sha256 == file_ref(part.path).sha256, name
    assert "unseen" not in (found["tokenizer"].path / "tokenizer.json").read_text()


def test_a_real_backbone_stays_where_it_is(store: Store, tmp_path: Path) -> None:
    weights = file_ref(real_folder(tmp_path / "wan"))
    inputs = backbone.BackboneInputs(unit="all", weights=weights)
    ref = run_stage(store, backbone.STAGE, inputs, REAL).ref
    found = backbone.components(ref, weights)
    assert found["vae"].path == weights.path / "vae"
    assert found["vae"].sha256 == file_ref(weights.path / "vae").sha256
    rows = {row["component"]: row for row in backbone.tables.read(ref.path, backbone.BACKBONE)}
    assert rows["transformer"]["parameters"] == 15
    assert {row["backbone"] for row in rows.values()} == {"wan2.1-t2v-1.3b"}
    assert [path.name for path in ref.folder.iterdir() if path.is_dir()] == []


def test_another_size_may_not_go_by_the_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"40 layers and 40 heads, wan2.1-t2v-1.3b has 30 and 12"):
        backbone.check_real(real_folder(tmp_path / "wan", layers=40, heads=40), REAL.name)


@pytest.mark.parametrize("part", ["model_index.json", "vae"])
def test_a_missing_part_is_named(tmp_path: Path, part: str) -> None:
    folder = real_folder(tmp_path / "wan")
    (folder / part).rename(tmp_path / "gone")
    with pytest.raises(BadInput, match=f"{part} is missing"):
        backbone.check_real(folder, REAL.name)


def test_a_missing_folder_says_how_to_get_it(tmp_path: Path) -> None:
    for path in (None, tmp_path / "nowhere"):
        with pytest.raises(MissingModel, match=r"hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers"):
            backbone.weights_folder(REAL.model_copy(update={"path": path}))


def test_the_stand_in_takes_no_path(tmp_path: Path) -> None:
    tiny = BackboneSettings(name="tiny-random-wan")
    assert backbone.weights_folder(tiny) is None
    with pytest.raises(BadInput, match="built, not loaded"):
        backbone.weights_folder(tiny.model_copy(update={"path": tmp_path}))
