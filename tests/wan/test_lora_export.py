"""LoRA files: every layout has the same adapter, and other programs read the same weights."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mimix_core.engine.artifacts import digest_file
from mimix_core.errors import BadInput
from mimix_core.settings import LoraSettings
from mimix_core.wan import lora, lora_export, lora_formats, safetensors_io
from mimix_core.wan.adapter_metadata import CAPTION_GRAMMAR, AdapterMetadata, result_settings
from mimix_core.wan.lora_formats import Adapter, AdapterDtype, AdapterLayout
from tests.wan.test_lora import adapted, answer, trained

pytestmark = pytest.mark.slow

ALL = LoraSettings().target_modules
OUTSIDE = (
    "proj_out",
    "condition_embedder.time_proj",
    "condition_embedder.text_embedder.linear_1",
    "condition_embedder.time_embedder.linear_2",
)


def card(**changes) -> AdapterMetadata:
    used = LoraSettings(rank=4, alpha=4)
    values = {
        "base": "tiny-random-wan",
        "base_sha256": "ab" * 32,
        "rank": used.rank,
        "alpha": used.alpha,
        "targets": used.target_modules,
        "characters": ("Bunny", "Tom"),
        "styles": ("cartoon",),
        "dataset_sha256": "cd" * 32,
        "settings": result_settings(used),
    }
    return AdapterMetadata(**values | changes)


def some_adapter(layers, *, rank: int = 4, alpha: float = 4.0, seed: int = 0) -> Adapter:
    numbers = torch.Generator().manual_seed(seed)
    return Adapter(
        {
            layer: (
                torch.randn(rank, 6, generator=numbers),
                torch.randn(8, rank, generator=numbers),
            )
            for layer in sorted(layers)
        },
        alpha,
    )


def same(one: Adapter, other: Adapter) -> bool:
    return (
        one.alpha == other.alpha
        and list(one.pairs) == list(other.pairs)
        and all(
            torch.equal(a, b)
            for layer in one.pairs
            for a, b in zip(one.pairs[layer], other.pairs[layer], strict=True)
        )
    )


in_blocks = [
    f"blocks.{number}.{tail}"
    for number in (0, 1, 13)
    for tail in (
        *(f"attn{n}.{name}" for n in (1, 2) for name in ("to_q", "to_k", "to_v", "to_out.0")),
        "ffn.net.0.proj",
        "ffn.net.2",
    )
]


@settings(max_examples=40, deadline=None)
@given(
    layers=st.sets(st.sampled_from([*in_blocks, *OUTSIDE]), min_size=1),
    rank=st.integers(1, 5),
    alpha=st.sampled_from([0.5, 1.0, 4.0, 7.0]),
    layout=st.sampled_from(AdapterLayout),
)
def test_every_layout_preserves_every_bit(layers, rank, alpha, layout) -> None:
    if layout is AdapterLayout.KOHYA and layers & set(OUTSIDE):
        with pytest.raises(BadInput, match="outside the blocks"):
            lora_formats.adapter_to_tensors(some_adapter(layers), layout)
        return
    adapter = some_adapter(layers, rank=rank, alpha=alpha)
    written = lora_formats.adapter_to_tensors(adapter, layout)
    if layout is AdapterLayout.COMFYUI:
        adapter = lora_formats.fold_alpha(adapter)
    assert lora_formats.detect_layout(written, "x") is layout
    # Only diffusers' layout has nowhere to write alpha but beside the weights.
    told = alpha if layout is AdapterLayout.DIFFUSERS else None
    assert same(lora_formats.adapter_from_tensors(written, told, "x"), adapter)


@settings(max_examples=25, deadline=None)
@given(rank=st.integers(1, 6), alpha=st.sampled_from([0.5, 1.0, 4.0, 7.0]))
def test_an_alpha_in_the_weights_changes_the_weights_as_an_alpha_beside_them(rank, alpha) -> None:
    adapter = some_adapter(in_blocks[:3], rank=rank, alpha=alpha)
    folded = lora_formats.fold_alpha(adapter)
    assert folded.alpha == folded.rank == rank
    for layer, (down, up) in adapter.pairs.items():
        expected = up.double() @ down.double() * (alpha / rank)
        found = folded.pairs[layer][1].double() @ folded.pairs[layer][0].double()
        assert (found - expected).abs().max() <= 1e-6 * expected.abs().max()
    if alpha == rank:
        assert folded is adapter


@pytest.mark.parametrize("layout", AdapterLayout)
def test_a_bf16_file_rounds_each_weight_once_and_no_alpha(
    tmp_path: Path, layout: AdapterLayout
) -> None:
    adapter, path = some_adapter(in_blocks, alpha=6.0), tmp_path / "lora.safetensors"
    lora_export.write_adapter(path, adapter, card(alpha=6.0), layout, AdapterDtype.BF16)
    read, _ = lora_export.read_adapter(path)
    exact = lora_formats.fold_alpha(adapter) if layout is AdapterLayout.COMFYUI else adapter
    assert read.alpha == pytest.approx(exact.alpha, rel=1e-7)
    for layer, pair in exact.pairs.items():
        for found, expected in zip(read.pairs[layer], pair, strict=True):
            assert torch.equal(found, expected.bfloat16())
    error = sum(
        float((exact.pairs[n][1] @ exact.pairs[n][0] - b.float() @ a.float()).square().sum())
        for n, (a, b) in read.pairs.items()
    )
    total = sum(float((b @ a).square().sum()) for a, b in exact.pairs.values())
    assert 1e-4 < (error / total) ** 0.5 < 8e-3


@pytest.fixture(scope="module")
def whole(pipeline_folder: Path) -> tuple[object, Adapter]:
    """A trained adapter on all the layers that MiMix adapts; alpha is not the rank."""
    transformer = adapted(pipeline_folder, alpha=6, targets=ALL)
    trained(transformer)
    return transformer, lora_export.build_adapter(dict(lora.adapter_parameters(transformer)), 6.0)


@pytest.mark.parametrize("layout", AdapterLayout)
def test_wan_pipeline_loads_every_layout(
    whole, pipeline_folder: Path, tmp_path: Path, layout: AdapterLayout
) -> None:
    from diffusers import WanPipeline

    transformer, adapter = whole
    lora_export.write_adapter(tmp_path / lora_export.ADAPTER_FILE, adapter, card(alpha=6), layout)
    pipeline = WanPipeline.from_pretrained(pipeline_folder)
    pipeline.load_lora_weights(tmp_path)
    assert torch.allclose(answer(pipeline.transformer), answer(transformer), atol=1e-5)


@pytest.mark.parametrize("layout", [AdapterLayout.COMFYUI, AdapterLayout.KOHYA])
def test_diffusers_own_converters_read_the_same_bits(whole, layout: AdapterLayout) -> None:
    from diffusers.loaders import lora_conversion_utils as theirs

    convert = {
        AdapterLayout.COMFYUI: theirs._convert_non_diffusers_wan_lora_to_diffusers,
        AdapterLayout.KOHYA: theirs._convert_musubi_wan_lora_to_diffusers,
    }[layout]
    _, adapter = whole
    plain = Adapter(adapter.pairs, float(adapter.rank))
    read = convert(lora_formats.adapter_to_tensors(plain, layout))
    ours = lora_formats.adapter_to_tensors(plain, AdapterLayout.DIFFUSERS)
    assert set(read) == set(ours)
    assert all(torch.equal(read[name], ours[name]) for name in ours)


def test_diffusers_reads_a_comfyui_file_of_layers_outside_the_blocks() -> None:
    from diffusers.loaders import lora_conversion_utils as theirs

    # Their reader knows a block at least, and both text layers or neither.
    text = [f"condition_embedder.text_embedder.linear_{n}" for n in (1, 2)]
    adapter = some_adapter(
        ["blocks.0.attn1.to_q", "proj_out", "condition_embedder.time_proj", *text]
    )
    read = theirs._convert_non_diffusers_wan_lora_to_diffusers(
        lora_formats.adapter_to_tensors(adapter, AdapterLayout.COMFYUI)
    )
    assert same(lora_formats.adapter_from_tensors(read, 4.0, "x"), adapter)


def test_names_are_those_that_comfyui_and_musubi_tuner_expect() -> None:
    adapter = some_adapter(["blocks.3.attn2.to_out.0", "blocks.3.ffn.net.0.proj"], alpha=2.0)
    assert sorted(lora_formats.adapter_to_tensors(adapter, AdapterLayout.COMFYUI)) == [
        "diffusion_model.blocks.3.cross_attn.o.lora_A.weight",
        "diffusion_model.blocks.3.cross_attn.o.lora_B.weight",
        "diffusion_model.blocks.3.ffn.0.lora_A.weight",
        "diffusion_model.blocks.3.ffn.0.lora_B.weight",
    ]
    kohya = lora_formats.adapter_to_tensors(adapter, AdapterLayout.KOHYA)
    assert sorted(kohya) == [
        "lora_unet_blocks_3_cross_attn_o.alpha",
        "lora_unet_blocks_3_cross_attn_o.lora_down.weight",
        "lora_unet_blocks_3_cross_attn_o.lora_up.weight",
        "lora_unet_blocks_3_ffn_0.alpha",
        "lora_unet_blocks_3_ffn_0.lora_down.weight",
        "lora_unet_blocks_3_ffn_0.lora_up.weight",
    ]
    assert kohya["lora_unet_blocks_3_ffn_0.alpha"].item() == 2.0


@pytest.mark.parametrize("layout", AdapterLayout)
def test_files_have_their_metadata_and_are_reproducible(
    tmp_path: Path, layout: AdapterLayout
) -> None:
    adapter, path = some_adapter(in_blocks), tmp_path / "lora.safetensors"
    lora_export.write_adapter(path, adapter, card(), layout)
    digest = digest_file(path)
    for _ in range(3):
        lora_export.write_adapter(path, adapter, card(), layout)
        assert digest_file(path) == digest
    read, said = lora_export.read_adapter(path)
    assert lora_export.read_metadata(path) == (card(), layout)
    assert same(read, adapter)
    assert said == card()
    assert said.grammar == CAPTION_GRAMMAR
    assert said.settings["learning_rate"] == 1e-4
    assert "device" not in said.settings  # changes nothing in the adapter


def test_a_bf16_file_from_elsewhere_keeps_its_dtype() -> None:
    adapter = some_adapter(in_blocks)
    pairs = {layer: (a.bfloat16(), b.bfloat16()) for layer, (a, b) in adapter.pairs.items()}
    written = lora_formats.adapter_to_tensors(Adapter(pairs, 4.0), AdapterLayout.KOHYA)
    assert same(lora_formats.adapter_from_tensors(written, None, "x"), Adapter(pairs, 4.0))


def test_a_comfyui_file_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """It has alpha as a tensor beside lora_down and lora_up."""
    adapter, path = some_adapter(in_blocks, alpha=6.0), tmp_path / "lora.safetensors"
    flat = lora_formats.adapter_to_tensors(adapter, AdapterLayout.KOHYA)
    earlier = {}
    for name, tensor in flat.items():
        layer, _, part = name.removeprefix("lora_unet_").partition(".")
        dotted = re.sub(r"_(\d+)_", r".\1.", layer, count=1)
        dotted = re.sub(r"(attn|ffn)_", r"\1.", dotted)
        earlier[f"diffusion_model.{dotted}.{part}"] = tensor
    assert "diffusion_model.blocks.13.cross_attn.o.lora_down.weight" in earlier
    safetensors_io.write_tensors(path, earlier, {"mimix": card(alpha=6).model_dump_json()})
    read, _ = lora_export.read_adapter(path)
    assert same(read, adapter)


def spoiled(folder: Path, change) -> Path:
    found = lora_formats.adapter_to_tensors(
        some_adapter(["blocks.0.attn1.to_q"]), AdapterLayout.KOHYA
    )
    change(found)
    path = folder / "spoiled.safetensors"
    safetensors_io.write_tensors(path, found, {"mimix": card().model_dump_json()})
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("lora_unet_blocks_0_self_attn_q.lora_up.weight"), "one half of its pair"),
        (lambda t: t.update({"lora_te_x.alpha": torch.ones(1)}), "not a LoRA of Wan"),
        (lambda t: t.update({"lora_unet_img_in.alpha": torch.ones(1)}), "lora_unet_img_in"),
        (lambda t: t.clear(), "contains nothing"),
        (
            lambda t: t.update(
                lora_formats.adapter_to_tensors(
                    some_adapter(["blocks.1.attn1.to_q"], rank=2), AdapterLayout.KOHYA
                )
            ),
            r"differ in rank \(\[2, 4\]\)",
        ),
    ],
)
def test_a_file_that_is_not_a_wan_lora_is_rejected(tmp_path: Path, change, message: str) -> None:
    path = spoiled(tmp_path, change)
    with pytest.raises(BadInput, match=message) as error:
        lora_export.read_adapter(path)
    assert str(path) in str(error.value)


def test_a_file_that_mimix_did_not_write_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    safetensors_io.write_tensors(path, {"a": torch.ones(1)}, {"format": "pt"})
    with pytest.raises(BadInput, match="not a MiMix adapter: its header has no MiMix metadata"):
        lora_export.read_metadata(path)
    safetensors_io.write_tensors(path, {"a": torch.ones(1)}, {"mimix": json.dumps({"base": "x"})})
    with pytest.raises(BadInput, match="another version of MiMix"):
        lora_export.read_metadata(path)
    with pytest.raises(BadInput, match="the file does not exist"):
        lora_export.read_metadata(tmp_path / "nowhere.safetensors")
    path.write_bytes(b"PK\3\4 a zip")
    with pytest.raises(BadInput, match="is a pickle"):
        lora_export.read_metadata(path)
    path.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(BadInput, match="is a web page, not the file itself"):
        lora_export.read_metadata(path)
    with pytest.raises(BadInput, match="Is a directory"):
        lora_export.read_metadata(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", [0, 1])
def test_an_adapter_with_nan_is_refused(tmp_path: Path, value: float, part: int) -> None:
    adapter, path = some_adapter(in_blocks), tmp_path / "lora.safetensors"
    adapter.pairs["blocks.13.ffn.net.2"][part].view(-1)[-1] = value
    lora_export.write_adapter(path, adapter, card())
    with pytest.raises(BadInput, match=r"non-finite values \(NaN or Inf\) in blocks.13.ffn.net.2"):
        lora_export.read_adapter(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rank": 0}, "rank: Input should be greater"),
        ({"rank": -4}, "rank: Input should be greater"),
        ({"rank": 10**9}, "rank: Input should be less"),
        ({"rank": 8}, "weights have rank 4 and alpha 4, but its metadata says rank 8"),
        ({"alpha": 2.0}, "but its metadata says rank 4 and alpha 2"),
        ({"alpha": 0}, "alpha: Input should be greater"),
        ({"alpha": 1e300}, "alpha: Input should be less"),
        ({"alpha": "NaN"}, "alpha: Input should be a finite number"),
        ({"characters": ["x" * 10**6]}, "characters.0: String should have at most"),
        ({"targets": ["to_q"] * 10**5}, "targets: Tuple should have at most"),
        ({"base": None}, "base: Input should be a valid string"),
    ],
)
def test_an_absurd_card_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "lora.safetensors"
    written = json.loads(card().model_dump_json()) | change
    safetensors_io.write_tensors(
        path,
        lora_formats.adapter_to_tensors(some_adapter(in_blocks), AdapterLayout.KOHYA),
        {"mimix": json.dumps(written)},
    )
    with pytest.raises(BadInput, match=message) as caught:
        lora_export.read_adapter(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_an_adapter_of_another_base_model_is_rejected(tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    lora_export.write_adapter(path, some_adapter(in_blocks), card())
    lora_export.check_base_model(path, "tiny-random-wan", "ab" * 32)
    with pytest.raises(BadInput, match=r"trained on tiny-random-wan.*not on wan2.1-t2v-14b"):
        lora_export.check_base_model(path, "wan2.1-t2v-14b", "ab" * 32)
    with pytest.raises(BadInput, match=r"\(abababababab\), not on tiny-random-wan \(000000000000"):
        lora_export.check_base_model(path, "tiny-random-wan", "0" * 64)


def test_a_layer_without_a_wan_name_cannot_be_exported() -> None:
    adapter = some_adapter(["patch_embedding"])
    with pytest.raises(BadInput, match="patch_embedding has no name in Wan's own code"):
        lora_formats.adapter_to_tensors(adapter, AdapterLayout.COMFYUI)
