"""Folders of published models: what is refused, and by what their files say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.wan import backbone_stage, model_folder, model_registry
from tests.wan.test_backbone_stage import REAL, SMALL, real_folder

INDEX = "diffusion_pytorch_model.safetensors.index.json"


def shard(number: int, count: int = 3) -> str:
    return f"diffusion_pytorch_model-{number:05d}-of-{count:05d}.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A complete 1.3B folder whose transformer of 30 blocks lies in three files, with an index."""
    made = real_folder(tmp_path / "wan")
    (made / "transformer" / "model.safetensors").unlink()
    weights = {}
    for number in range(3):
        tensors = {
            f"blocks.{block}.attn1.to_q.weight": torch.full((2, 3), float(block))
            for block in range(10 * number, 10 * number + 10)
        }
        save_file(tensors, made / "transformer" / shard(number + 1))
        weights |= dict.fromkeys(tensors, shard(number + 1))
    index = {"metadata": {"total_size": 720}, "weight_map": weights}
    (made / "transformer" / INDEX).write_text(json.dumps(index))
    return made


def change_json(path: Path, change: Callable[[dict], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def move_tensor(folder: Path) -> None:
    def change(index: dict) -> None:
        index["weight_map"]["blocks.3.attn1.to_q.weight"] = shard(2)

    change_json(folder / INDEX, change)


def drop_from_index(folder: Path) -> None:
    change_json(
        folder / INDEX, lambda index: index["weight_map"].pop("blocks.29.attn1.to_q.weight")
    )


def truncate(folder: Path) -> None:
    path = folder / shard(2)
    path.write_bytes(path.read_bytes()[:-24])


def shift_offsets(folder: Path) -> None:
    path = folder / shard(1)
    path.write_bytes(path.read_bytes() + b"more")


def forget_a_block(folder: Path) -> None:
    save_file(
        {
            f"blocks.{block}.attn1.to_q.weight": torch.zeros(2, 3)
            for block in range(30)
            if block != 17
        },
        folder / "diffusion_pytorch_model.safetensors",
    )
    for path in (*folder.glob("*-of-*"), folder / INDEX):
        path.unlink()


def keep_the_first_blocks(folder: Path) -> None:
    """The index and the files of a smaller model agree with each other, not with the config."""
    (folder / shard(3)).unlink()
    change_json(
        folder / INDEX,
        lambda index: [
            index["weight_map"].pop(f"blocks.{block}.attn1.to_q.weight") for block in range(20, 30)
        ],
    )


def pickle_only(folder: Path) -> None:
    for path in (*folder.glob("*-of-*"), folder / INDEX):
        path.unlink()
    (folder / "diffusion_pytorch_model.bin").write_bytes(b"PK")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / shard(2)).unlink(), "1 of 3 weight files of its index are missing: .*2-of"),
        (lambda f: (f / INDEX).unlink(), "one of 3 files, but their index .* is missing"),
        (lambda f: shutil.copy(f / shard(1), f / "old.safetensors"), "not in its index.*old"),
        (move_tensor, "index expects blocks.3.attn1.to_q.weight in .*00002-of-00003.*not hold it"),
        (drop_from_index, "holds blocks.29.attn1.to_q.weight, which the index does not expect"),
        (truncate, r"is incomplete: 24 of \d+ bytes are missing"),
        (shift_offsets, "4 bytes more than its header"),
        (lambda f: (f / shard(3)).write_bytes(b""), "not a complete safetensors file: 0 bytes"),
        (
            lambda f: (f / shard(3)).write_bytes(b"\xff" * 64),
            "not a complete safetensors file: 64 bytes",
        ),
        (
            lambda f: (f / shard(3)).write_text("version https://git-lfs.github.com/spec/v1\n"),
            "pointer of Git LFS",
        ),
        (
            lambda f: (f / shard(3)).write_bytes((2).to_bytes(8, "little") + b"[]"),
            "invalid safetensors header",
        ),
        (lambda f: (f / INDEX).write_text("{}"), "cannot be read as an index"),
        (lambda f: (f / INDEX).write_text('{"weight_map": {"a": "../x"}}'), "names no files"),
        (forget_a_block, "lack 1 of 30 blocks, first: blocks.17"),
        (keep_the_first_blocks, "lack 10 of 30 blocks, first: blocks.20"),
        (pickle_only, "no safetensors file"),
    ],
)
def test_incomplete_weights_are_refused_before_they_are_loaded(
    folder: Path, spoil: Callable[[Path], object], message: str
) -> None:
    model_folder.check_backbone_folder(folder, SMALL)
    spoil(folder / "transformer")
    with pytest.raises(BadInput, match=message) as caught:
        model_folder.check_backbone_folder(folder, SMALL)
    assert str(folder / "transformer") in str(caught.value)


def as_moe(folder: Path, **changes: object) -> None:
    change_json(folder / "model_index.json", lambda index: index.update(changes))


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (
            lambda f: as_moe(
                f, transformer_2=["diffusers", "WanTransformer3DModel"], boundary_ratio=0.875
            ),
            "transformer_2 in model_index.json and boundary_ratio 0.875",
        ),
        (lambda f: as_moe(f, boundary_ratio=0.9), "boundary_ratio 0.9 in model_index.json"),
        (lambda f: (f / "transformer_2").mkdir(), "a folder transformer_2"),
    ],
)
def test_wan_2_2_with_two_transformers_is_no_wan_2_1(
    tmp_path: Path, spoil: Callable[[Path], object], found: str
) -> None:
    """Each transformer of Wan2.2-T2V-A14B has the very config of Wan2.1-T2V-14B."""
    large = model_registry.get_backbone("wan2.1-t2v-14b")
    folder = real_folder(tmp_path / "wan", large)
    model_folder.check_backbone_folder(folder, large)
    spoil(folder)
    with pytest.raises(BadInput, match=rf"Wan2.2-T2V-A14B, not wan2.1-t2v-14b: .*{found}"):
        model_folder.check_backbone_folder(folder, large)


def test_a_pipeline_of_another_task_is_refused(folder: Path) -> None:
    as_moe(folder, _class_name="WanVACEPipeline")
    with pytest.raises(BadInput, match="its class is WanVACEPipeline, not WanPipeline"):
        model_folder.check_backbone_folder(folder, SMALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1, 2]", "contains a list, not an object"),
        ('{"eps": NaN}', "NaN is not a number"),
        (
            '{"rope_max_seq_len": 1000000000000}',
            "rope_max_seq_len is 1000000000000",
        ),
        ('{"a": ' + "9" * 5000 + "}", "cannot be read as JSON"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "cannot be read as JSON"),
        ("", "cannot be read as JSON"),
    ],
)
def test_an_absurd_config_is_refused(folder: Path, text: str, message: str) -> None:
    path = folder / "transformer" / "config.json"
    path.write_text(text)
    with pytest.raises(BadInput, match=message) as caught:
        model_folder.check_backbone_folder(folder, SMALL)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e4m3fn])
@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder"])
def test_weights_with_nan_are_refused_by_the_stage(
    folder: Path, tmp_path: Path, part: str, dtype: torch.dtype
) -> None:
    weight = torch.zeros(50, 40)
    weight[49, 39] = float("nan")
    for path in (folder / part).glob("*.safetensors*"):
        path.unlink()
    save_file({"norm.weight": weight.to(dtype)}, folder / part / "model.safetensors")
    inputs = backbone_stage.BackboneInputs(unit="all", weights=file_ref(folder))
    with pytest.raises(BadInput, match=r"non-finite values \(NaN or Inf\) in norm.weight"):
        run_stage(Store(tmp_path / "store"), backbone_stage.STAGE, inputs, REAL)
