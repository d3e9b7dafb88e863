"""The folder of LTX-Video is accepted as published; a damaged one is refused with its file."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mimix_core.errors import BadInput
from mimix_core.wan import model_folder, model_registry
from mimix_core.wan.ltx_backbones import LTX_VIDEO, TINY_LTX
from tests.wan.folder_damage import (
    Spoil,
    cut,
    remove,
    replace_by_folder,
    retensor,
    set_first_value,
    update,
    write,
)
from tests.wan.published_folder import published_folder

pytestmark = pytest.mark.slow

PUBLISHED = replace(TINY_LTX, name="published-ltx", hub_id="tests/published-ltx")
TEXT = "text_encoder/model.safetensors"
TRANSFORMER = "transformer/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"

DAMAGES: dict[str, tuple[Spoil, str, str]] = {
    "pipeline of Wan": (
        update("model_index.json", _class_name="WanPipeline"),
        "model_index.json",
        "its class is WanPipeline, not LTXConditionPipeline",
    ),
    "no transformer": (remove("transformer"), "", "transformer is missing"),
    "no VAE": (remove("vae"), "", "vae is missing"),
    "no tokenizer": (remove("tokenizer"), "", "tokenizer is missing"),
    "no weights": (remove(TEXT), "text_encoder", "no safetensors file"),
    "weights cut": (cut(TRANSFORMER, 100), TRANSFORMER, "incomplete|bytes"),
    "weights a folder": (replace_by_folder(VAE), VAE, "Is a directory|a file"),
    "weights empty": (write(VAE, b""), VAE, "bytes|empty"),
    "another size": (
        update("transformer/config.json", num_layers=28),
        "transformer/config.json",
        "num_layers is 28, not 2",
    ),
    "VAE of version 0.9.1": (
        update("vae/config.json", downsample_type=["conv"] * 4),
        "vae/config.json",
        "downsample_type is .*conv",
    ),
    "scheduler of Wan": (
        update("scheduler/scheduler_config.json", use_dynamic_shifting=True),
        "scheduler/scheduler_config.json",
        "use_dynamic_shifting is True, not False",
    ),
    "layer missing": (
        retensor(TRANSFORMER, lambda t: t.pop("transformer_blocks.1.attn2.to_k.weight")),
        "transformer",
        "lack transformer_blocks.1.attn2.to_k.weight",
    ),
    "block missing": (
        retensor(
            TRANSFORMER,
            lambda t: [t.pop(name) for name in list(t) if name.startswith("transformer_blocks.1.")],
        ),
        "transformer",
        "lack 1 of 2 transformer_blocks",
    ),
    "statistics missing": (
        retensor(VAE, lambda t: t.pop("latents_std")),
        "vae",
        "lack latents_std",
    ),
    "decoder layer of another shape": (
        retensor(VAE, lambda t: t.update({"decoder.conv_out.conv.bias": torch.ones(3)})),
        VAE,
        r"decoder.conv_out.conv.bias has the shape \[3\]",
    ),
    "NaN": (
        retensor(TEXT, set_first_value("shared.weight", float("nan"))),
        TEXT,
        "non-finite values",
    ),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_folder_is_refused_with_its_file(
    ltx_folder: Path, tmp_path: Path, kind: str
) -> None:
    copied = Path(shutil.copytree(ltx_folder, tmp_path / "ltx"))
    model_folder.check_backbone_folder(copied, PUBLISHED)
    spoil, file, message = DAMAGES[kind]
    spoil(copied)
    with pytest.raises(BadInput, match=message) as caught:
        model_folder.check_backbone_folder(copied, PUBLISHED)
    assert caught.value.where.startswith(str(copied))
    assert caught.value.where.endswith(file)
    assert caught.value.fix


def test_the_published_folder_is_accepted_by_either_name_of_its_pipeline(tmp_path: Path) -> None:
    ltx = published_folder(tmp_path / "ltx", LTX_VIDEO)
    model_folder.check_backbone_folder(ltx, LTX_VIDEO)
    update("model_index.json", _class_name="LTXPipeline")(ltx)
    model_folder.check_backbone_folder(ltx, LTX_VIDEO)
    with pytest.raises(BadInput, match="is not that of wan2"):
        model_folder.check_backbone_folder(ltx, model_registry.get_backbone("wan2.1-t2v-1.3b"))
