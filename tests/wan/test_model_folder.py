"""Folders of published models: each kind of damage is refused, with the file and a fix named."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mimix_core.engine.artifacts import file_ref
from mimix_core.engine.stage import run_stage
from mimix_core.engine.store import Store
from mimix_core.errors import BadInput
from mimix_core.settings import BackboneSettings
from mimix_core.wan import (
    backbone_stage,
    expected_tensors,
    model_folder,
    model_registry,
    random_backbone,
    weight_files,
)
from tests.wan import published_tiny
from tests.wan.published_folder import published_folder

pytestmark = pytest.mark.slow

INDEX = "transformer/diffusion_pytorch_model.safetensors.index.json"
VAE = "vae/diffusion_pytorch_model.safetensors"
TEXT = "text_encoder/model.safetensors"
QUERY = "blocks.1.attn1.to_q.weight"
PAGE = "<!DOCTYPE html>\n<html><body>404: Entry not found</body></html>"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1294992\n"


def shard(number: int) -> str:
    return f"transformer/diffusion_pytorch_model-{number:05d}-of-00003.safetensors"


def split_transformer(folder: Path) -> None:
    """Split the transformer's weights into three files with an index."""
    single = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(single)
    single.unlink()
    names = sorted(tensors)
    weights = {}
    for number in range(3):
        part = names[number::3]
        save_file({name: tensors[name] for name in part}, folder / shard(number + 1))
        weights |= dict.fromkeys(part, Path(shard(number + 1)).name)
    index = {"metadata": {"total_size": 1}, "weight_map": weights}
    (folder / INDEX).write_text(json.dumps(index))


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


Spoil = Callable[[Path], object]


def remove(name: str) -> Spoil:
    return lambda folder: (
        shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    )


def write(name: str, content: str | bytes) -> Spoil:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str, missing: int) -> Spoil:
    return lambda folder: os.truncate(folder / name, (folder / name).stat().st_size - missing)


def extend(name: str) -> Spoil:
    def append(folder: Path) -> None:
        with (folder / name).open("ab") as stream:
            stream.write(b"more")

    return append


def change(name: str, edit: Callable[[dict], object]) -> Spoil:
    def rewrite(folder: Path) -> None:
        document = json.loads((folder / name).read_text())
        edit(document)
        (folder / name).write_text(json.dumps(document))

    return rewrite


def update(name: str, **values: object) -> Spoil:
    return change(name, lambda document: document.update(values))


def replace_by_folder(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


def replace_by_file(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        shutil.rmtree(folder / name)
        (folder / name).write_text("x")

    return spoil


def replace_by_loop(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.unlink()
        path.symlink_to(path.name)

    return spoil


def retensor(name: str, edit: Callable[[dict[str, torch.Tensor]], object]) -> Spoil:
    """Rewrite a weight file with other tensors and an intact header."""

    def spoil(folder: Path) -> None:
        tensors = load_file(folder / name)
        edit(tensors)
        save_file({key: value.contiguous() for key, value in tensors.items()}, folder / name)

    return spoil


def set_first_value(name: str, value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda tensors: tensors[name].view(-1)[0].fill_(value)


def without_block(number: int) -> Spoil:
    """Drop a block from the files and from the index alike."""

    def spoil(folder: Path) -> None:
        for path in sorted((folder / "transformer").glob("*-of-*")):
            tensors = load_file(path)
            save_file(
                {n: t for n, t in tensors.items() if not n.startswith(f"blocks.{number}.")}, path
            )
        change(
            INDEX,
            lambda index: [
                index["weight_map"].pop(name)
                for name in list(index["weight_map"])
                if name.startswith(f"blocks.{number}.")
            ],
        )(folder)

    return spoil


def move_in_index(folder: Path) -> None:
    def move(index: dict) -> None:
        stored = index["weight_map"][QUERY]
        index["weight_map"][QUERY] = next(
            other for other in index["weight_map"].values() if other != stored
        )

    change(INDEX, move)(folder)


def pickle_only(folder: Path) -> None:
    (folder / VAE).unlink()
    (folder / "vae" / "diffusion_pytorch_model.bin").write_bytes(b"PK")


def sentencepiece(content: bytes) -> Spoil:
    return write("tokenizer/spiece.model", content)


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


@pytest.mark.parametrize("name", model_registry.BACKBONES)
def test_the_expected_tensors_are_those_of_the_real_classes(name: str) -> None:
    import diffusers
    import transformers

    backbone = model_registry.get_backbone(name)
    text = transformers.UMT5Config(**backbone.text_encoder.config)
    with torch.device("meta"):
        networks = [
            (backbone.transformer, diffusers.WanTransformer3DModel(**backbone.transformer.config)),
            (backbone.vae, diffusers.AutoencoderKLWan(**backbone.vae.config)),
            (backbone.text_encoder, transformers.UMT5EncoderModel(text)),
        ]
    for spec, network in networks:
        shapes = {key: tuple(value.shape) for key, value in network.state_dict().items()}
        shapes.pop("encoder.embed_tokens.weight", None)
        assert expected_tensors.expected_tensors(spec.class_name, spec.config) == shapes
