"""Stage ``backbone``: rejected folders and the digests of components."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import get_args

import pytest

from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput, MissingModel
from mimix_core.settings import BackboneSettings, LoraSettings
from mimix_core.wan import backbone_stage, model_registry
from mimix_core.wan.expected_tensors import expected_tensors
from tests.wan import published_tiny
from tests.wan.published_folder import published_folder

REAL = BackboneSettings(name="wan2.1-t2v-1.3b")
SMALL = model_registry.get_backbone(REAL.name)


def write_config(folder: Path, name: str, config: dict[str, object]) -> None:
    (folder / name / "config.json").write_text(json.dumps(config))


@pytest.mark.slow
def test_the_random_backbone_is_built_below_the_table(store: Store, tmp_path: Path) -> None:
    inputs = backbone_stage.BackboneInputs(unit="all")
    settings = BackboneSettings(name="tiny-random-wan")
    ref = run_stage(store, backbone_stage.STAGE, inputs, settings).ref
    found = backbone_stage.load_components(ref, None)
    assert set(found) == {"scheduler", "text_encoder", "tokenizer", "transformer", "vae"}
    for name, part in found.items():
        assert part.path.is_relative_to(ref.folder)
        assert part.sha256 == file_ref(part.path).sha256, name


def test_a_published_backbone_is_not_copied(store: Store, tmp_path: Path) -> None:
    weights = file_ref(published_folder(tmp_path / "wan", published_tiny.BACKBONE))
    inputs = backbone_stage.BackboneInputs(unit="all", weights=weights)
    settings = BackboneSettings(name=published_tiny.BACKBONE.name)
    ref = run_stage(store, backbone_stage.STAGE, inputs, settings).ref
    found = backbone_stage.load_components(ref, weights)
    assert found["vae"].path == weights.path / "vae"
    assert found["vae"].sha256 == file_ref(weights.path / "vae").sha256
    rows = {
        row["component"]: row
        for row in backbone_stage.tables.read(ref.path, backbone_stage.BACKBONE)
    }
    shapes = expected_tensors("WanTransformer3DModel", published_tiny.BACKBONE.transformer.config)
    assert shapes is not None
    assert rows["transformer"]["parameters"] == sum(map(math.prod, shapes.values()))
    assert {row["backbone"] for row in rows.values()} == {published_tiny.BACKBONE.name}
    assert [path.name for path in ref.folder.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("name", [name for name, b in model_registry.BACKBONES.items() if b.hub_id])
def test_a_folder_is_accepted_only_as_its_own_model(tmp_path: Path, name: str) -> None:
    folder = published_folder(tmp_path / "wan", model_registry.get_backbone(name))
    for other in model_registry.BACKBONES.values():
        if other.name == name:
            backbone_stage.check_backbone_folder(folder, other)
        else:
            with pytest.raises(BadInput, match=f"not (that of )?{other.name}"):
                backbone_stage.check_backbone_folder(folder, other)


def test_the_error_for_another_size_lists_the_numbers(tmp_path: Path) -> None:
    folder = published_folder(tmp_path / "wan", model_registry.get_backbone("wan2.1-t2v-14b"))
    with pytest.raises(BadInput) as caught:
        backbone_stage.check_backbone_folder(folder, SMALL)
    assert "num_layers is 40, not 30; num_attention_heads is 40, not 12" in str(caught.value)
    assert str(folder / "transformer" / "config.json") in str(caught.value)


def test_another_vae_or_class_is_rejected(tmp_path: Path) -> None:
    folder = published_folder(tmp_path / "wan", SMALL)
    write_config(folder, "vae", {"_class_name": "AutoencoderKLWan", "z_dim": 48, "base_dim": 96})
    with pytest.raises(BadInput, match=r"this vae is not .* z_dim is 48, not 16"):
        backbone_stage.check_backbone_folder(folder, SMALL)
    write_config(folder, "vae", {"_class_name": "AutoencoderKLMochi", **SMALL.vae.config})
    with pytest.raises(BadInput, match="its class is AutoencoderKLMochi, not AutoencoderKLWan"):
        backbone_stage.check_backbone_folder(folder, SMALL)


@pytest.mark.parametrize("part", ["model_index.json", "vae"])
def test_a_missing_part_is_named(tmp_path: Path, part: str) -> None:
    folder = published_folder(tmp_path / "wan", SMALL)
    (folder / part).rename(tmp_path / "gone")
    with pytest.raises(BadInput, match=f"{part} is missing"):
        backbone_stage.check_backbone_folder(folder, SMALL)


def test_the_settings_list_every_backbone_and_default_to_the_first_ones_layers() -> None:
    built_in, _extension = get_args(BackboneSettings.model_fields["name"].annotation)
    assert set(get_args(built_in)) == set(model_registry.BACKBONES)
    default = model_registry.get_backbone(BackboneSettings().name)
    assert LoraSettings().target_modules == default.lora_targets
    assert LoraSettings().shift == default.flow_shift


def test_an_unknown_name_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"unknown backbone 'wan3'.*wan2.1-t2v-14b"):
        model_registry.get_backbone("wan3")


@pytest.mark.parametrize(
    ("name", "frames", "width", "height", "problem"),
    [
        ("wan2.1-t2v-14b", 81, 832, 480, None),
        ("wan2.1-t2v-14b", 81, 480, 832, None),
        ("wan2.1-t2v-1.3b", 1, 624, 624, None),
        ("wan2.1-t2v-14b", 80, 832, 480, "80 frames: wan2.1-t2v-14b takes 4k + 1"),
        ("wan2.1-t2v-14b", 81, 854, 480, "854x480: wan2.1-t2v-14b takes multiples of 16"),
        ("wan2.2-ti2v-5b", 121, 1280, 704, None),
        ("wan2.2-ti2v-5b", 81, 624, 624, "624x624: wan2.2-ti2v-5b takes multiples of 32"),
    ],
)
def test_an_unsupported_size_is_explained(
    name: str, frames: int, width: int, height: int, problem: str | None
) -> None:
    assert model_registry.get_backbone(name).size_error(frames, width, height) == problem


def test_the_error_for_a_missing_folder_has_the_download_command(tmp_path: Path) -> None:
    for path in (None, tmp_path / "nowhere"):
        with pytest.raises(MissingModel, match=r"hf download Wan-AI/Wan2.1-T2V-1.3B-Diffusers"):
            backbone_stage.resolve_weights_folder(REAL.model_copy(update={"path": path}))


def test_the_random_backbone_accepts_no_path(tmp_path: Path) -> None:
    tiny = BackboneSettings(name="tiny-random-wan")
    assert backbone_stage.resolve_weights_folder(tiny) is None
    with pytest.raises(BadInput, match="built with random weights, but a path is set"):
        backbone_stage.resolve_weights_folder(tiny.model_copy(update={"path": tmp_path}))
