"""LoRA files of other programs: every layout gives the same change, and nothing is dropped."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from mimix_core.errors import BadInput
from mimix_core.wan import foreign_adapters, generation_adapters, lora, lora_export, model_registry
from mimix_core.wan.generation import adapter_merging
from mimix_core.wan.lora_formats import Adapter, AdapterLayout
from tests.wan.test_lora import answer
from tests.wan.test_lora_export import card

pytestmark = pytest.mark.slow

TINY = model_registry.TINY
WIDTH, FFN = 96, 192
# Names of one layer in diffusers, in Wan's own code, and its outputs and inputs.
LAYERS = {
    "blocks.0.attn1.to_q": ("blocks.0.self_attn.q", (WIDTH, WIDTH)),
    "blocks.1.attn2.to_out.0": ("blocks.1.cross_attn.o", (WIDTH, WIDTH)),
    "blocks.1.ffn.net.0.proj": ("blocks.1.ffn.0", (FFN, WIDTH)),
    "blocks.0.ffn.net.2": ("blocks.0.ffn.2", (WIDTH, FFN)),
    "condition_embedder.time_proj": ("time_projection.1", (6 * WIDTH, WIDTH)),
}
Tensors = dict[str, torch.Tensor]
Pairs = dict[str, tuple[torch.Tensor, torch.Tensor]]


def random_pairs(rank: int = 4, seed: int = 0, layers=tuple(LAYERS)) -> Pairs:
    numbers = torch.Generator().manual_seed(seed)
    return {
        layer: (
            torch.randn(rank, LAYERS[layer][1][1], generator=numbers) * 0.2,
            torch.randn(LAYERS[layer][1][0], rank, generator=numbers) * 0.2,
        )
        for layer in layers
    }


def named(
    pairs: Pairs,
    name: Callable[[str], str],
    halves: tuple[str, str],
    alpha: float | None = None,
    alpha_name: str = ".alpha",
) -> Tensors:
    tensors = {}
    for layer, (down, up) in pairs.items():
        tensors[name(layer) + halves[0]] = down
        tensors[name(layer) + halves[1]] = up
        if alpha is not None:
            tensors[name(layer) + alpha_name] = torch.tensor(alpha)
    return tensors


def own(layer: str) -> str:
    return LAYERS[layer][0]


def flat(layer: str) -> str:
    return own(layer).replace(".", "_")


A_B = (".lora_A.weight", ".lora_B.weight")
DOWN_UP = (".lora_down.weight", ".lora_up.weight")
LAYOUTS = {
    "diffusers": lambda pairs: named(pairs, lambda n: f"transformer.{n}", A_B),
    "diffusers without a prefix": lambda pairs: named(pairs, str, A_B),
    "diffusion-pipe, ComfyUI": lambda pairs: named(
        pairs, lambda n: f"diffusion_model.{own(n)}", A_B
    ),
    "ComfyUI, lora_down with alpha": lambda pairs: named(
        pairs, lambda n: f"diffusion_model.{own(n)}", DOWN_UP, 6.0
    ),
    "FastVideo": lambda pairs: named(
        pairs, lambda n: f"diffusion_model.{n}", A_B, 6.0, ".lora_alpha"
    ),
    "kohya, musubi-tuner": lambda pairs: named(
        pairs, lambda n: f"lora_unet_{flat(n)}", DOWN_UP, 6.0
    ),
    "Wan-Fun": lambda pairs: named(pairs, lambda n: f"lora_unet__{flat(n)}", DOWN_UP, 6.0),
    "DiffSynth-Studio": lambda pairs: named(
        pairs, own, (".lora_A.default.weight", ".lora_B.default.weight")
    ),
    "diffusers before peft": lambda pairs: named(
        pairs, lambda n: f"transformer.{n}", (".lora.down.weight", ".lora.up.weight")
    ),
}


def write(path: Path, tensors: Tensors, metadata: dict[str, str] | None = None) -> Path:
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path, metadata)
    return path


def change(adapter: Adapter, layer: str) -> torch.Tensor:
    down, up = adapter.pairs[layer]
    return up.double() @ down.double() * (adapter.alpha / adapter.rank)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_change(
    tmp_path: Path, layout: str, dtype: torch.dtype
) -> None:
    pairs = {name: (a.to(dtype), b.to(dtype)) for name, (a, b) in random_pairs().items()}
    path = write(tmp_path / "lora.safetensors", LAYOUTS[layout](pairs))
    read = generation_adapters.read_any_adapter(path, TINY)
    scale = 6 / 4 if "alpha" in "".join(LAYOUTS[layout](pairs)) else 1.0
    assert set(read.pairs) == set(LAYERS)
    for layer, (down, up) in pairs.items():
        expected = up.double() @ down.double() * scale
        assert (change(read, layer) - expected).abs().max() <= 1e-6 * expected.abs().max()


def test_ranks_and_alphas_may_differ_by_layer(tmp_path: Path) -> None:
    first, second = "blocks.0.attn1.to_q", "blocks.0.ffn.net.2"
    small, large = random_pairs(2, layers=(first,)), random_pairs(8, layers=(second,))
    tensors = LAYOUTS["kohya, musubi-tuner"](small) | named(
        large, lambda n: f"lora_unet_{flat(n)}", DOWN_UP, 3.0
    )
    read = generation_adapters.read_any_adapter(write(tmp_path / "x.safetensors", tensors), TINY)
    assert read.rank == 8
    for layer, pairs, scale in ((first, small, 6 / 2), (second, large, 3 / 8)):
        down, up = pairs[layer]
        assert torch.allclose(change(read, layer), up.double() @ down.double() * scale, atol=1e-7)


@pytest.mark.parametrize(
    ("stated", "scales"),
    [
        ({"lora_alpha": 8, "r": 4}, (2.0, 2.0)),
        ({"lora_alpha": 8, "alpha_pattern": {"ffn.net.2": 2}}, (2.0, 0.5)),
        ({"lora_alpha": 8, "use_rslora": True}, (4.0, 4.0)),
        ({}, (1.0, 1.0)),
    ],
)
def test_alpha_in_the_metadata_of_diffusers_counts(tmp_path: Path, stated, scales) -> None:
    layers = ("blocks.0.attn1.to_q", "blocks.0.ffn.net.2")
    pairs = random_pairs(layers=layers)
    metadata = {f"transformer.{key}": value for key, value in stated.items()}
    path = write(
        tmp_path / "x.safetensors",
        LAYOUTS["diffusers"](pairs),
        {"lora_adapter_metadata": json.dumps(metadata)},
    )
    read = generation_adapters.read_any_adapter(path, TINY)
    for layer, scale in zip(layers, scales, strict=True):
        down, up = pairs[layer]
        assert torch.allclose(change(read, layer), up.double() @ down.double() * scale, atol=1e-6)


def spoiled(change: Callable[[Tensors], object]) -> Tensors:
    tensors = LAYOUTS["diffusion-pipe, ComfyUI"](random_pairs())
    change(tensors)
    return tensors


Q = "diffusion_model.blocks.0.self_attn.q"
ONE = torch.ones(WIDTH, 1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({f"{Q}.dora_scale": ONE}), r"it has DoRA \(1 tensors\).*q.dora_scale"),
        (lambda t: t.update({f"{Q}.lokr_w1": ONE}), "it has LoKr"),
        (lambda t: t.update({f"{Q}.hada_w1_a": ONE}), "it has LoHa"),
        (lambda t: t.update({f"{Q}.set_weight": ONE}), "replacements of weights"),
        (lambda t: t.update({f"{Q}.lora_B.bias": ONE}), "a LoRA with biases"),
        (lambda t: t.update({f"{Q}.diff_b": ONE}), r"to_q.bias is 96 x 1 in the file, and 96 in"),
        (
            lambda t: t.update({"diffusion_model.img_emb.proj.0.diff": ONE}),
            "not a LoRA of Wan's text-to-video transformer.*img_emb",
        ),
        (
            lambda t: t.update({f"{Q}.diff_b": torch.full((WIDTH,), float("nan"))}),
            r"non-finite values .* in blocks.0.attn1.to_q.bias",
        ),
        (lambda t: t.update({"lora_te_x.lora_up.weight": ONE}), "1 of its 11 tensors.*lora_te_x"),
        (
            lambda t: t.update({"diffusion_model.blocks.0.cross_attn.k_img.lora_A.weight": ONE}),
            "not a LoRA of Wan's text-to-video transformer.*k_img",
        ),
        (lambda t: t.pop(f"{Q}.lora_B.weight"), "layer blocks.0.attn1.to_q has only one half"),
        (lambda t: t.clear(), "0 of its 0 tensors"),
        (lambda t: t.update({f"{Q}.lora_down.weight": ONE}), "two tensors for one part"),
        (
            lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(3, WIDTH)}),
            "halves of layer blocks.0.attn1.to_q do not match: 3 x 96 and 96 x 4",
        ),
        (
            lambda t: t.update({f"{Q}.lora_A.weight": torch.ones(4, WIDTH).to(torch.int8)}),
            "I8, not a floating-point type",
        ),
        (lambda t: t.update({f"{Q}.alpha": torch.tensor(float("nan"))}), "alpha of .* is nan"),
        (lambda t: t.update({f"{Q}.alpha": torch.ones(2)}), "alpha is not one number"),
        (
            lambda t: t.update({f"{Q}.lora_A.weight": torch.full((4, WIDTH), float("inf"))}),
            r"non-finite values \(NaN or Inf\) in blocks.0.attn1.to_q",
        ),
        (
            lambda t: t.update(
                {
                    f"{Q}.lora_A.weight": torch.ones(4, 5120),
                    f"{Q}.lora_B.weight": torch.ones(5120, 4),
                }
            ),
            "does not fit the backbone: .*to_q is 5120 x 5120 in the file, and 96 x 96 in tiny",
        ),
        (
            lambda t: t.update(
                {
                    name.replace("blocks.0", "blocks.7"): tensor
                    for name, tensor in list(t.items())
                    if "blocks.0" in name
                }
            ),
            "tiny-random-wan has no layer blocks.7",
        ),
        (
            lambda t: t.update({f"base_model.model.{name}": t.pop(name) for name in list(t)}),
            "saved by peft",
        ),
    ],
)
def test_what_cannot_be_applied_is_refused_with_its_name(
    tmp_path: Path, change: Callable[[Tensors], object], message: str
) -> None:
    path = write(tmp_path / "lora.safetensors", spoiled(change))
    with pytest.raises(BadInput, match=message) as error:
        generation_adapters.read_any_adapter(path, TINY)
    assert str(path) in str(error.value)
    assert error.value.fix


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\3\4 a zip of torch.save", "is a pickle"),
        (b"\x80\2 a pickle of old", "is a pickle"),
        (b"<!DOCTYPE html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1", "pointer of Git LFS"),
        (b"", "not a complete safetensors file"),
        (b"\x10\0\0\0\0\0\0\0" + b"{" * 16, "invalid safetensors header"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "lora.safetensors"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=message):
        foreign_adapters.read_adapter_file(path)
    with pytest.raises(BadInput, match="the file does not exist"):
        foreign_adapters.read_adapter_file(tmp_path / "nowhere.safetensors")
    with pytest.raises(BadInput, match="Is a directory"):
        foreign_adapters.read_adapter_file(tmp_path)


def test_dora_in_the_metadata_alone_is_refused(tmp_path: Path) -> None:
    stated = json.dumps({"transformer.lora_alpha": 4, "transformer.use_dora": True})
    path = write(
        tmp_path / "x.safetensors",
        LAYOUTS["diffusers"](random_pairs()),
        {"lora_adapter_metadata": stated},
    )
    with pytest.raises(BadInput, match="is a DoRA"):
        generation_adapters.read_any_adapter(path, TINY)


@pytest.mark.parametrize("layout", AdapterLayout)
def test_a_mimix_adapter_must_be_of_the_same_base_model(
    tmp_path: Path, layout: AdapterLayout
) -> None:
    pairs = random_pairs(layers=("blocks.0.attn1.to_q",))
    path = tmp_path / "lora.safetensors"
    lora_export.write_adapter(path, Adapter(pairs, 4.0), card(), layout)
    read = generation_adapters.read_any_adapter(path, TINY, "ab" * 32)
    assert torch.equal(read.pairs["blocks.0.attn1.to_q"][0], pairs["blocks.0.attn1.to_q"][0])
    with pytest.raises(BadInput, match="was trained on tiny-random-wan"):
        generation_adapters.read_any_adapter(path, TINY, "0" * 64)
    lora_export.write_adapter(path, Adapter(pairs, 4.0), card(base="other"), layout)
    with pytest.raises(BadInput, match="was trained on other"):
        generation_adapters.read_any_adapter(path, TINY)


def test_fitting_backbones_are_found_by_size(tmp_path: Path) -> None:
    def of_width(width: int) -> foreign_adapters.AdapterFile:
        tensors = {f"{Q}.lora_A.weight": torch.ones(2, width)}
        tensors[f"{Q}.lora_B.weight"] = torch.ones(width, 2)
        path = write(tmp_path / f"{width}.safetensors", tensors)
        return foreign_adapters.read_adapter_file(path)

    # Each expert of Wan2.2 has the sizes of Wan2.1's transformer.
    large = ["wan2.1-t2v-14b", "wan2.2-t2v-a14b"]
    assert foreign_adapters.fitting_backbones(of_width(5120)) == large
    assert foreign_adapters.fitting_backbones(of_width(1536)) == ["wan2.1-t2v-1.3b"]
    assert foreign_adapters.fitting_backbones(of_width(96)) == [
        "tiny-random-wan",
        "tiny-random-wan-experts",
    ]
    assert foreign_adapters.fitting_backbones(of_width(100)) == []
    with pytest.raises(BadInput, match=r"It fits wan2.1-t2v-14b, wan2.2-t2v-a14b: set"):
        foreign_adapters.check_fits(of_width(5120), TINY)


@settings(max_examples=25, deadline=None)
@given(
    parts=st.lists(
        st.tuples(
            st.sets(st.sampled_from(sorted(LAYERS)), min_size=1),
            st.integers(1, 6),
            st.sampled_from([1.0, 4.0, 7.0]),
            st.sampled_from([-1.5, 0.0, 0.3, 1.0, 2.0]),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_the_sum_of_adapters_changes_weights_by_the_sum_of_their_changes(parts) -> None:
    adapters = [
        Adapter(random_pairs(rank, seed, tuple(sorted(layers))), alpha)
        for seed, (layers, rank, alpha, _) in enumerate(parts)
    ]
    weights = [weight for *_, weight in parts]
    combined = generation_adapters.weighted_adapter(adapters, weights)
    for layer, (_, shape) in LAYERS.items():
        expected = torch.zeros(shape, dtype=torch.float64)
        for adapter, weight in zip(adapters, weights, strict=True):
            if layer in adapter.pairs:
                expected += weight * change(adapter, layer)
        found = change(combined, layer) if layer in combined.pairs else torch.zeros(shape)
        assert (found - expected).abs().max() <= 1e-6 * max(1.0, float(expected.abs().max()))
    if len(parts) == 1 and weights == [1.0]:
        assert combined is adapters[0]


@pytest.mark.parametrize("mode", ["merged", "unmerged"])
def test_a_combined_adapter_answers_as_its_parts_merged_one_after_the_other(
    pipeline_folder: Path, tmp_path: Path, mode: str
) -> None:
    folder = pipeline_folder / "transformer"
    one, other = Adapter(random_pairs(4, 1), 6.0), Adapter(random_pairs(2, 2), 2.0)
    expected = lora.load_transformer(folder, torch.float32)
    with torch.no_grad():
        for adapter, weight in ((one, 0.7), (other, -0.4)):
            for layer in adapter.pairs:
                expected.get_submodule(layer).weight += (weight * change(adapter, layer)).float()
    combined = generation_adapters.weighted_adapter([one, other], [0.7, -0.4])
    transformer = lora.load_transformer(folder, torch.float32)
    if mode == "merged":
        stored = adapter_merging.StoredWeights(folder)
        adapter_merging.merge_adapter(transformer, stored, combined)
    else:
        adapter_merging.attach_trained_adapter(transformer, combined)
    assert torch.allclose(answer(transformer), answer(expected), atol=2e-5)


CHANGES = {
    "blocks.0.self_attn.q.diff_b": "blocks.0.attn1.to_q.bias",
    "blocks.1.ffn.2.diff": "blocks.1.ffn.net.2.weight",
    "blocks.0.cross_attn.norm_k.diff": "blocks.0.attn2.norm_k.weight",
    "blocks.1.norm3.diff": "blocks.1.norm2.weight",
    "blocks.1.norm3.diff_b": "blocks.1.norm2.bias",
    "blocks.0.modulation.diff": "blocks.0.scale_shift_table",
    "blocks.1.diff_m": "blocks.1.scale_shift_table",
    "head.modulation.diff": "scale_shift_table",
    "patch_embedding.diff": "patch_embedding.weight",
    "patch_embedding.diff_b": "patch_embedding.bias",
    "time_projection.1.diff_b": "condition_embedder.time_proj.bias",
}
"""Names of whole changes in Wan's own code and the parameter in diffusers."""


@pytest.mark.parametrize("mode", ["merged", "unmerged"])
def test_changes_of_whole_parameters_are_applied_with_the_weight(
    pipeline_folder: Path, tmp_path: Path, mode: str
) -> None:
    folder = pipeline_folder / "transformer"
    expected = lora.load_transformer(folder, torch.float32)
    pairs, tensors = random_pairs(), LAYOUTS["diffusion-pipe, ComfyUI"](random_pairs())
    numbers = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in CHANGES.items():
            target = expected.get_parameter(parameter)
            tensors[f"diffusion_model.{name}"] = torch.randn(target.shape, generator=numbers) * 0.1
            target += 0.5 * tensors[f"diffusion_model.{name}"]
        for layer, (down, up) in pairs.items():
            expected.get_submodule(layer).weight += 0.5 * up @ down
    path = write(tmp_path / "distilled.safetensors", tensors)
    read = generation_adapters.read_any_adapter(path, TINY)
    assert set(read.changes) == set(CHANGES.values())
    adapter = generation_adapters.weighted_adapter([read], [0.5])
    transformer = lora.load_transformer(folder, torch.float32)
    adapter_merging.check_adapter(transformer, adapter, "x")
    stored = adapter_merging.StoredWeights(folder)
    adapter_merging.apply_changes(transformer, stored, adapter)
    if mode == "merged":
        adapter_merging.merge_adapter(transformer, stored, adapter)
    else:
        adapter_merging.attach_trained_adapter(transformer, adapter)
    assert torch.allclose(answer(transformer), answer(expected), atol=2e-5)
