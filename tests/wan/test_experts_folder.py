"""Folders of two transformers: a damaged one is refused, and one is not taken for the other."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mimix_core.errors import BadInput
from mimix_core.wan import model_folder, model_registry, random_backbone
from tests.wan.folder_damage import (
    QUERY,
    remove,
    replace_by_file,
    retensor,
    set_first_value,
    update,
)
from tests.wan.published_folder import published_folder

pytestmark = pytest.mark.slow


def test_wan_2_2_with_two_transformers_is_no_wan_2_1(tmp_path: Path) -> None:
    """Each transformer of Wan2.2-T2V-A14B has the very config of Wan2.1-T2V-14B."""
    large = model_registry.get_backbone("wan2.1-t2v-14b")
    folder = published_folder(tmp_path / "wan", large)
    model_folder.check_backbone_folder(folder, large)
    (folder / "transformer_2").mkdir()
    with pytest.raises(BadInput, match=r"Wan2.2-T2V-A14B, not wan2.1-t2v-14b"):
        model_folder.check_backbone_folder(folder, large)


SECOND = "transformer_2/diffusion_pytorch_model.safetensors"
EXPERTS = replace(model_registry.TINY_EXPERTS, hub_id="tests/published-experts")


@pytest.fixture(scope="module")
def whole_experts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts") / "wan"
    random_backbone.build_random_backbone(0, folder, EXPERTS)
    model_folder.check_backbone_folder(folder, EXPERTS)
    return folder


EXPERT_DAMAGE: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "one transformer": (
        update("model_index.json", transformer_2=[None, None], boundary_ratio=None),
        "model_index.json",
        "boundary_ratio is None, not 0.875; it has no transformer_2",
    ),
    "no second transformer in the index": (
        update("model_index.json", transformer_2=None),
        "model_index.json",
        "it has no transformer_2",
    ),
    "boundary of Wan2.2-I2V-A14B": (
        update("model_index.json", boundary_ratio=0.9),
        "model_index.json",
        "boundary_ratio is 0.9, not 0.875",
    ),
    "second transformer of another class": (
        update("model_index.json", transformer_2=["diffusers", "WanVACETransformer3DModel"]),
        "model_index.json",
        "its transformer_2 is .*WanVACE",
    ),
    "second transformer missing": (remove("transformer_2"), "", "transformer_2 is missing"),
    "second transformer a file": (
        replace_by_file("transformer_2"),
        "transformer_2/config.json",
        "Not a directory",
    ),
    "second config missing": (
        remove("transformer_2/config.json"),
        "transformer_2/config.json",
        "the file is missing",
    ),
    "second transformer of image-to-video": (
        update("transformer_2/config.json", in_channels=36),
        "transformer_2/config.json",
        "this transformer_2 is not .* in_channels is 36, not 16",
    ),
    "second weights missing": (remove(SECOND), "transformer_2", "weight"),
    "second weights cut": (
        lambda f: (f / SECOND).write_bytes((f / SECOND).read_bytes()[:-100]),
        SECOND,
        "byte",
    ),
    "second layer missing": (
        retensor(SECOND, lambda tensors: tensors.pop(QUERY)),
        "transformer_2",
        QUERY,
    ),
    "NaN in the second transformer": (
        retensor(SECOND, set_first_value(QUERY, float("nan"))),
        SECOND,
        "non-finite values",
    ),
}


@pytest.mark.parametrize("kind", EXPERT_DAMAGE)
def test_a_damaged_folder_of_two_transformers_is_refused(
    whole_experts: Path, tmp_path: Path, kind: str
) -> None:
    damage, file, what = EXPERT_DAMAGE[kind]
    folder = Path(shutil.copytree(whole_experts, tmp_path / "wan"))
    damage(folder)
    with pytest.raises(BadInput, match=what) as caught:
        model_folder.check_backbone_folder(folder, EXPERTS)
    assert str(folder / file) in str(caught.value)
    assert EXPERTS.name in str(caught.value) or "hf download tests/published-experts" in str(
        caught.value
    )
