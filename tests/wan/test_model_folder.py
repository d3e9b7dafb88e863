"""Folders of published models: each kind of damage is refused, with the file and a fix named."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings import BackboneSettings
from mimix_core.wan import (
    backbone_stage,
    model_folder,
    weight_files,
)
from tests.wan import published_tiny
from tests.wan.folder_damage import (
    INDEX,
    PAGE,
    POINTER,
    QUERY,
    TEXT,
    VAE,
    Spoil,
    change,
    cut,
    extend,
    move_in_index,
    pickle_only,
    remove,
    replace_by_file,
    replace_by_folder,
    replace_by_loop,
    retensor,
    sentencepiece,
    set_first_value,
    shard,
    split_transformer,
    update,
    without_block,
    write,
)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(pipeline_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small random Wan as a published model, its transformer in three files."""
    folder = tmp_path_factory.mktemp("published") / "wan"
    shutil.copytree(pipeline_folder, folder)
    split_transformer(folder)
    return folder


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "wan"))


DAMAGES: dict[str, tuple[Spoil, str, str]] = {
    # name: what is done, the file or folder that the error names, its message
    "folder is a file": (lambda f: (shutil.rmtree(f), f.write_text("x")), "", "as a folder"),
    "model index missing": (remove("model_index.json"), "", "model_index.json is missing"),
    "model index empty": (write("model_index.json", ""), "model_index.json", "file is empty"),
    "model index cut": (cut("model_index.json", 40), "model_index.json", "cannot be read as JSON"),
    "model index a web page": (write("model_index.json", PAGE), "model_index.json", "a web page"),
    "model index a pointer": (write("model_index.json", POINTER), "model_index.json", "Git LFS"),
    "model index a list": (write("model_index.json", "[1]"), "model_index.json", "not an object"),
    "model index a folder": (
        replace_by_folder("model_index.json"),
        "model_index.json",
        "Is a directory",
    ),
    "model index a loop": (
        replace_by_loop("model_index.json"),
        "model_index.json",
        "symbolic links",
    ),
    "model index not text": (
        write("model_index.json", b"\xff\xfe\xfa\x00\x01"),
        "model_index.json",
        "cannot be read",
    ),
    "pipeline of another task": (
        update("model_index.json", _class_name="WanVACEPipeline"),
        "model_index.json",
        "its class is WanVACEPipeline, not WanPipeline",
    ),
    "two experts": (
        update(
            "model_index.json",
            transformer_2=["diffusers", "WanTransformer3DModel"],
            boundary_ratio=0.875,
        ),
        "",
        "Wan2.2-T2V-A14B, not .*transformer_2 in model_index.json and boundary_ratio 0.875",
    ),
    "boundary of two experts": (
        update("model_index.json", boundary_ratio=0.9),
        "",
        "boundary_ratio 0.9",
    ),
    "second transformer": (lambda f: (f / "transformer_2").mkdir(), "", "a folder transformer_2"),
    "timesteps per token": (
        update("model_index.json", expand_timesteps=True),
        "model_index.json",
        "expand_timesteps",
    ),
    "another transformer in the index": (
        update("model_index.json", transformer=["diffusers", "LTXVideoTransformer3DModel"]),
        "model_index.json",
        "its transformer is .*LTXVideo",
    ),
    "component missing": (remove("vae"), "", "vae is missing"),
    "component a file": (replace_by_file("vae"), "vae/config.json", "Not a directory"),
    "component empty": (
        lambda f: [path.unlink() for path in (f / "vae").iterdir()],
        "vae/config.json",
        "the file is missing",
    ),
    "config missing": (
        remove("transformer/config.json"),
        "transformer/config.json",
        "the file is missing",
    ),
    "config not JSON": (write("vae/config.json", "{"), "vae/config.json", "cannot be read as JSON"),
    "config of another component": (
        lambda f: shutil.copy(f / "vae/config.json", f / "transformer/config.json"),
        "transformer/config.json",
        "its class is AutoencoderKLWan, not WanTransformer3DModel",
    ),
    "config of another size": (
        update("transformer/config.json", num_layers=40),
        "transformer/config.json",
        "num_layers is 40, not 2",
    ),
    "config of text": (
        update("vae/config.json", dim_mult="wide"),
        "vae/config.json",
        "does not define the size",
    ),
    "config with NaN": (
        write("transformer/config.json", '{"eps": NaN}'),
        "transformer/config.json",
        "NaN is not a number",
    ),
    "config with a huge number": (
        update("transformer/config.json", rope_max_seq_len=10**12),
        "transformer/config.json",
        "rope_max_seq_len is 1000000000000",
    ),
    "config with endless digits": (
        write("transformer/config.json", '{"a": ' + "9" * 5000 + "}"),
        "transformer/config.json",
        "cannot be read as JSON",
    ),
    "config nested deeply": (
        write("transformer/config.json", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"),
        "transformer/config.json",
        "cannot be read as JSON",
    ),
    "scheduler missing": (
        remove("scheduler/scheduler_config.json"),
        "scheduler_config.json",
        "the file is missing",
    ),
    "scheduler of diffusion": (
        update("scheduler/scheduler_config.json", prediction_type="epsilon"),
        "scheduler_config.json",
        "prediction_type is epsilon, not flow_prediction",
    ),
    "tokenizer empty": (
        lambda f: [path.unlink() for path in (f / "tokenizer").iterdir()],
        "tokenizer",
        "the folder is empty",
    ),
    "tokenizer without vocabulary": (
        remove("tokenizer/tokenizer.json"),
        "tokenizer",
        "neither tokenizer.json nor spiece.model",
    ),
    "tokenizer cut": (
        cut("tokenizer/tokenizer.json", 99),
        "tokenizer.json",
        "cannot be read as JSON",
    ),
    "tokenizer a pointer": (
        write("tokenizer/tokenizer.json", POINTER),
        "tokenizer.json",
        "pointer of Git LFS",
    ),
    "tokenizer of nothing": (
        write("tokenizer/tokenizer.json", '{"version": "1.0"}'),
        "tokenizer.json",
        "is not a tokenizer",
    ),
    "tokenizer of another model": (
        change(
            "tokenizer/tokenizer.json",
            lambda made: made["model"]["vocab"].extend([[f"x{n}", -9.0] for n in range(999)]),
        ),
        "tokenizer.json",
        "but the text encoder only 512",
    ),
    "tokenizer config not JSON": (
        write("tokenizer/tokenizer_config.json", "no"),
        "tokenizer_config.json",
        "cannot be read as JSON",
    ),
    "sentencepiece a web page": (sentencepiece(PAGE.encode()), "spiece.model", "a web page"),
    "sentencepiece empty": (sentencepiece(b""), "spiece.model", "not a complete SentencePiece"),
    "sentencepiece cut": (
        sentencepiece(b"\x0a\x05<unk>\x0a\x05</"),
        "spiece.model",
        "not a complete SentencePiece",
    ),
    "shard missing": (remove(shard(2)), "transformer", "1 of 3 weight files.*00002-of-00003"),
    "shard a folder": (replace_by_folder(shard(2)), "transformer", "1 of 3 weight files"),
    "shard a loop": (replace_by_loop(shard(2)), "transformer", "1 of 3 weight files"),
    "shard empty": (write(shard(3), b""), shard(3), "not a complete safetensors file: 0 bytes"),
    "shard cut": (cut(shard(2), 24), shard(2), r"is incomplete: 24 of \d+ bytes are missing"),
    "shard extended": (extend(shard(1)), shard(1), "4 bytes more than its header"),
    "shard of ones": (
        write(shard(3), b"\xff" * 64),
        shard(3),
        "not a complete safetensors file: 64 bytes",
    ),
    "shard a pointer": (write(shard(3), POINTER), shard(3), "pointer of Git LFS"),
    "shard a web page": (write(shard(3), PAGE), shard(3), "is a web page"),
    "shard with a list as header": (
        write(shard(3), (2).to_bytes(8, "little") + b"[]"),
        shard(3),
        "invalid safetensors header",
    ),
    "shard twice": (
        lambda f: shutil.copy(f / shard(1), f / "transformer/old.safetensors"),
        "transformer",
        "not in its index.*old",
    ),
    "index missing": (
        remove(INDEX),
        "transformer",
        "one of 3 files, but their index .*missing",
    ),
    "index without weights": (write(INDEX, "{}"), INDEX, "cannot be read as an index"),
    "index of a list": (write(INDEX, "[]"), INDEX, "cannot be read as an index"),
    "index a web page": (write(INDEX, PAGE), INDEX, "a web page"),
    "index out of the folder": (
        write(INDEX, '{"weight_map": {"a": "../x"}}'),
        INDEX,
        "names no files",
    ),
    "index of another shard": (move_in_index, INDEX, f"index expects {QUERY} in"),
    "index without a tensor": (
        change(INDEX, lambda index: index["weight_map"].pop(QUERY)),
        INDEX,
        f"holds {QUERY}, which the index does not expect",
    ),
    "two indexes": (
        lambda f: shutil.copy(f / INDEX, f / "transformer/model.safetensors.index.json"),
        "transformer",
        "has several indexes",
    ),
    "first block missing": (without_block(0), "transformer", "lack 1 of 2 blocks, first: blocks.0"),
    "last block missing": (without_block(1), "transformer", "lack 1 of 2 blocks, first: blocks.1"),
    "weights missing": (remove(TEXT), "text_encoder", "no safetensors file"),
    "weights only pickled": (pickle_only, "vae", "no safetensors file"),
    "two weight files": (
        lambda f: shutil.copy(f / VAE, f / "vae/diffusion_pytorch_model.fp16.safetensors"),
        "vae",
        "2 weight files and no index",
    ),
    "tensor missing": (
        retensor(VAE, lambda tensors: tensors.pop("decoder.conv_out.bias")),
        "vae",
        "lack decoder.conv_out.bias",
    ),
    "token table missing": (
        retensor(TEXT, lambda tensors: tensors.pop("shared.weight")),
        "text_encoder",
        "lack shared.weight",
    ),
    "tensor of another shape": (
        retensor(TEXT, lambda t: t.update({"encoder.final_layer_norm.weight": torch.ones(33)})),
        TEXT,
        r"encoder.final_layer_norm.weight has the shape \[33\], but its config needs \[32\]",
    ),
    "tensor of whole numbers": (
        retensor(VAE, lambda t: t.update({"quant_conv.bias": torch.ones(32).to(torch.uint8)})),
        VAE,
        "quant_conv.bias has the data type U8",
    ),
    "NaN": (
        retensor(VAE, set_first_value("decoder.conv_in.weight", float("nan"))),
        VAE,
        r"non-finite values \(NaN or Inf\) in decoder.conv_in.weight",
    ),
    "infinity": (
        retensor(TEXT, set_first_value("shared.weight", float("inf"))),
        TEXT,
        r"non-finite values \(NaN or Inf\) in shared.weight",
    ),
    "two token tables": (
        retensor(TEXT, lambda t: t.update({"encoder.embed_tokens.weight": t["shared.weight"] + 1})),
        TEXT,
        "its two token tables differ",
    ),
}


def check(folder: Path) -> None:
    model_folder.check_backbone_folder(folder, published_tiny.BACKBONE)


@pytest.mark.parametrize("kind", DAMAGES)
def test_each_kind_of_damage_is_refused_with_its_file_and_a_fix(folder: Path, kind: str) -> None:
    spoil, file, message = DAMAGES[kind]
    spoil(folder)
    with pytest.raises(BadInput, match=message) as caught:
        check(folder)
    assert caught.value.where.startswith(str(folder))
    assert caught.value.where.endswith(file)
    assert caught.value.fix
    assert len(str(caught.value)) < 1500


def test_the_whole_folder_is_accepted(folder: Path) -> None:
    check(folder)
    retensor(TEXT, lambda t: t.update({"encoder.embed_tokens.weight": t["shared.weight"].clone()}))(
        folder
    )
    check(folder)
    retensor(TEXT, lambda tensors: tensors.pop("shared.weight"))(folder)
    check(folder)
    sentencepiece(b"\x0a\x05<unk>\x12\x80\x01" + bytes(128))(folder)
    check(folder)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Root reads every file: become nobody."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    "name",
    ["model_index.json", "vae", "tokenizer", "tokenizer/tokenizer.json", shard(1), INDEX, TEXT, ""],
)
def test_a_file_without_permission_is_refused(whole: Path, name: str) -> None:
    with tempfile.TemporaryDirectory(prefix="mimix-test-") as parent:
        Path(parent).chmod(0o755)
        folder = Path(shutil.copytree(whole, Path(parent) / "wan"))
        for path in folder.rglob("*"):
            path.chmod(0o755 if path.is_dir() else 0o644)
        with without_privileges():
            check(folder)
        (folder / name).chmod(0)
        with without_privileges(), pytest.raises(BadInput, match="Permission denied") as caught:
            check(folder)
        (folder / name).chmod(0o755)
        assert str(folder / name) in str(caught.value)


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
)
def test_nan_is_found_in_every_data_type(folder: Path, dtype: torch.dtype) -> None:
    retensor(VAE, lambda t: t.update({name: value.to(dtype) for name, value in t.items()}))(folder)
    check(folder)
    retensor(VAE, set_first_value("quant_conv.bias", float("nan")))(folder)
    with pytest.raises(BadInput, match=r"non-finite values .* in quant_conv.bias"):
        check(folder)
    with pytest.raises(BadInput, match=r"non-finite values .* in quant_conv.bias"):
        weight_files.check_finite_weights(folder / "vae")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("file", [shard(1), VAE, TEXT])
def test_the_stage_finds_a_single_nan(
    folder: Path, tmp_path: Path, file: str, dtype: torch.dtype
) -> None:
    """At the end of the largest tensor, where no sample is taken."""

    def spoil(tensors: dict[str, torch.Tensor]) -> None:
        name = max(tensors, key=lambda name: tensors[name].numel())
        tensors[name].view(-1)[-1] = float("nan")
        tensors[name] = tensors[name].to(dtype)

    retensor(file, spoil)(folder)
    check(folder)
    inputs = backbone_stage.BackboneInputs(unit="all", weights=file_ref(folder))
    settings = BackboneSettings(name=published_tiny.BACKBONE.name)
    with pytest.raises(BadInput, match=r"non-finite values \(NaN or Inf\) in "):
        run_stage(Store(tmp_path / "store"), backbone_stage.STAGE, inputs, settings)
