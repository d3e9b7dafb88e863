"""The folder of SAM 3: what is loaded from it, and how one that is not right is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mimix_core.diagnostics.model_requirements import required_models
from mimix_core.diagnostics.preflight import find_problems
from mimix_core.errors import MissingModel
from mimix_core.networks.sam3_folder import check_sam3_folder
from mimix_core.settings import Config, CutoutSettings
from mimix_core.stages.cutouts.sam3.sam3_weights import (
    distinct_detections,
    load_concept_model,
    load_tracker,
)
from mimix_core.stages.cutouts.segmenter_factory import create_segmenter
from tests.paths import DEMO
from tests.stages.cutouts.tiny_sam3 import build_tiny_sam3, save_tiny_sam3, save_tokenizer

CPU: Any = {"precision": "fp32", "device": torch.device("cpu")}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sam3(tmp_path_factory.mktemp("tiny-random-sam3"))


def test_detector_and_tracker_are_read_from_one_folder(weights: Path) -> None:
    saved = load_file(weights / "model.safetensors")
    model, tokenizer = load_concept_model(weights, "cutouts.sam3_locator.weights", **CPU)
    loaded = model.state_dict()
    assert len(saved) > 400
    assert all(torch.equal(loaded[name], tensor) for name, tensor in saved.items())
    assert tokenizer("cat").input_ids[0] == 518, "begins with the token of the start"
    tracker = load_tracker(weights, "cutouts.weights", **CPU)
    neck = tracker.vision_encoder.neck.fpn_layers[0].proj1.weight
    assert torch.equal(neck, saved["tracker_neck.fpn_layers.0.proj1.weight"])
    assert torch.equal(tracker.no_memory_embedding, saved["tracker_model.no_memory_embedding"])


def test_a_folder_that_transformers_saved_is_read_too(tmp_path: Path) -> None:
    model = build_tiny_sam3(1)
    model.save_pretrained(tmp_path)
    save_tokenizer(tmp_path)
    loaded, _ = load_concept_model(tmp_path, "cutouts.sam3_locator.weights", **CPU)
    state = model.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in loaded.state_dict().items())


def test_of_detections_that_overlap_the_surest_is_kept() -> None:
    masks = torch.full((4, 10, 10), -1.0)
    masks[0, :5] = 1.0
    masks[1, :6] = 1.0
    masks[2, 7:] = 1.0
    masks[3, 5:8] = 1.0
    detections = {"mask": masks, "scores": torch.tensor([0.7, 0.9, 0.6, 0.8])}
    # IoU of 0 and 1: 5/6, of 1 and 3: 1/8, of 2 and 3: 1/5.
    assert distinct_detections(detections, 0.1) == [1, 2]
    assert distinct_detections(detections, 0.15) == [1, 3]
    assert distinct_detections(detections, 0.5) == [1, 3, 2]
    assert distinct_detections(detections, 0.9) == [1, 3, 0, 2]


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def other_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "sam3_tracker"}))


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def cut_off(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[:-1000])


def pointer(folder: Path) -> None:
    """A file of Git LFS instead of what it points to."""
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


def no_merges(folder: Path) -> None:
    (folder / "merges.txt").unlink()


@pytest.mark.parametrize(
    ("spoil", "file", "says"),
    [
        (no_config, "config.json", "has no config.json"),
        (other_model, "config.json", "'sam3_tracker', not 'sam3_video'"),
        (broken_config, "config.json", "not readable"),
        (cut_off, "model.safetensors", "its header says"),
        (pointer, "model.safetensors", "header of safetensors"),
        (no_merges, "merges.txt", "has no merges.txt"),
    ],
)
def test_a_damaged_folder_is_refused_before_the_run(
    weights: Path, tmp_path: Path, spoil: Callable[[Path], None], file: str, says: str
) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights, folder)
    check_sam3_folder(folder, "cutouts.weights")
    spoil(folder)
    with pytest.raises(MissingModel) as refused:
        create_segmenter(CutoutSettings(backend="sam3"), folder)
    assert says in refused.value.what
    assert refused.value.where == str(folder / file)
    assert "hf download facebook/sam3" in str(refused.value.fix)
    config = Config.model_validate(
        {
            "library": DEMO / "library.yaml",
            "workspace": tmp_path,
            "overlays": {"backend": "none"},
            "cutouts": {
                "backend": "grabcut",
                "locator_cartoon": "sam3",
                "sam3_locator": {"weights": folder},
            },
        }
    )
    assert [str(one) for one in find_problems(config, "augment")] == [str(refused.value)]


def test_parameters_that_are_missing_are_not_made_up(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "weights"
    shutil.copytree(weights, folder)
    tensors = load_file(folder / "model.safetensors")
    del tensors["tracker_model.no_memory_embedding"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(MissingModel, match=r"1 parameters are missing.*no_memory_embedding"):
        load_tracker(folder, "cutouts.weights", **CPU)
    with pytest.raises(MissingModel, match="no_memory_embedding"):
        load_concept_model(folder, "cutouts.sam3_locator.weights", **CPU)


def test_without_a_folder_models_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(MissingModel, match="facebook/sam3"):
        create_segmenter(CutoutSettings(backend="sam3"), None)
    with pytest.raises(MissingModel, match="no folder") as refused:
        create_segmenter(CutoutSettings(backend="sam3"), tmp_path / "nowhere")
    assert "SAM License" in str(refused.value.fix)
    cutouts = {"backend": "sam3", "locator_realistic": "sam3"}
    config = Config.model_validate(
        {"library": DEMO / "library.yaml", "workspace": tmp_path, "cutouts": cutouts}
    )
    needed = {need.name: need for need in required_models(config, "augment")}
    assert {"SAM 3", "SAM 3 tracker", "EfficientNet-Lite0 features"} <= set(needed)
    for name, key in (
        ("SAM 3", "cutouts.sam3_locator.weights"),
        ("SAM 3 tracker", "cutouts.weights"),
    ):
        assert not needed[name].available
        assert "hf download facebook/sam3" in needed[name].fix
        assert f"set {key} to FOLDER" in needed[name].fix
